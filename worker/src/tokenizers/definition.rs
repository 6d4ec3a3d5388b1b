//! Reading `tokenizer.json`: the part of the Hugging Face format that DNA gLMs use, and no more.
//!
//! Leaves out: `decoder` and the template for pairs, which no id of a single sequence depends on.
//! Invariant: whatever else the file asks for is an error that names its key, never passed over;
//! every id is below the number of embedding rows.

mod node;
#[cfg(test)]
mod tests;

use super::letters::Literals;
use crate::json;
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{Error, InputError, Result};
use node::Node;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Checked<T> = Result<T, InputError>;

/// Two neighbouring tokens that become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merge {
    /// Ids of the left and the right token.
    pub(super) parts: (u32, u32),
    /// Id of their text together.
    pub(super) whole: u32,
}

/// What a `tokenizer.json` says.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    file: String,
    /// Ids by token, added tokens too.
    ids: BTreeMap<String, u32>,
    /// Letters of a piece by id; tokens recognised in the text have none.
    lengths: BTreeMap<u32, u32>,
    /// Ids of the vocabulary's tokens of a single letter; an added one is found in the text only.
    pub(super) letters: BTreeMap<char, u32>,
    /// Lowest rank first.
    pub(super) merges: Vec<Merge>,
    /// Id of letters outside the vocabulary; without one they vanish.
    pub(super) unknown_id: Option<u32>,
    /// Tokens that are recognised in the text before anything else.
    pub(super) literals: Literals,
    /// Whether text is lower-cased.
    pub(super) is_lowercased: bool,
    /// Special tokens before each sequence.
    pub(super) before: Vec<u32>,
    /// Special tokens after each sequence.
    pub(super) after: Vec<u32>,
}

impl Definition {
    /// Letters of text that token `id` stands for.
    pub(super) fn letters_of(&self, id: u32) -> u32 {
        self.lengths.get(&id).copied().unwrap_or(0)
    }

    /// Reads a file for a gLM with `embedding_rows` rows in its embedding table.
    ///
    /// # Errors
    /// `NotFound` or `Unavailable` with the path; otherwise as [`Definition::parse`].
    pub(super) fn read(path: &Path, embedding_rows: usize) -> Result<Self> {
        Ok(Self::of(&path.display().to_string(), &json::read(path)?, embedding_rows)?)
    }

    /// Parses the text of a file, which errors call `file`.
    ///
    /// # Errors
    /// `Invalid` with key or line for text that is not strict JSON, for contradictions and for
    /// anything outside the supported part of the format.
    pub(super) fn parse(file: &str, text: &[u8], embedding_rows: usize) -> Result<Self> {
        Ok(Self::of(file, &json::parse(file, "", text)?, embedding_rows)?)
    }

    fn of(file: &str, value: &Value, embedding_rows: usize) -> Checked<Self> {
        let root = Node::root(file, value);
        root.only(&[
            "version",
            "truncation",
            "padding",
            "added_tokens",
            "normalizer",
            "pre_tokenizer",
            "post_processor",
            "decoder",
            "model",
        ])?;
        root.unset(&["truncation", "padding"], &[])?;
        root.unset(&["version"], &[json!("1.0")])?;
        let model = root.require("model", "a model")?;
        check_model(&model)?;
        let mut ids = vocabulary(&model, embedding_rows)?;
        let merges = merges(&model, &ids)?;
        let unknown_id = unknown_id(&model, &ids)?;
        if let Some(merge) =
            merges.iter().find(|m| Some(m.parts.0) == unknown_id || Some(m.parts.1) == unknown_id)
        {
            let found = format!("a merge into id {}", merge.whole);
            let key = model.require("merges", "a list")?;
            return Err(key.error("no merge of the unknown token", &found));
        }
        let letters = single_letters(&ids);
        let mut lengths: BTreeMap<u32, u32> = (ids.iter())
            .map(|(token, &id)| (id, u32::try_from(token.chars().count()).unwrap_or(u32::MAX)))
            .collect();
        let literals = added_tokens(&root, &mut ids, embedding_rows)?;
        literals.ids().for_each(|id| drop(lengths.insert(id, 0)));
        // An unknown token stands for the one letter that is not in the vocabulary.
        unknown_id.into_iter().for_each(|id| drop(lengths.insert(id, 1)));
        let (before, after) = template(&root, &ids, embedding_rows)?;
        Ok(Self {
            file: file.to_owned(),
            ids,
            lengths,
            letters,
            merges,
            unknown_id,
            literals,
            is_lowercased: is_lowercased(&root)?,
            before,
            after,
        })
    }

    /// Id of `token`, `None` if it is not in the vocabulary.
    pub(super) fn get(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Ids with their tokens.
    #[cfg(test)]
    pub(super) fn tokens(&self) -> impl Iterator<Item = (u32, &str)> {
        self.ids.iter().map(|(token, &id)| (id, token.as_str()))
    }

    /// An error about `key`.
    pub(super) fn error(&self, key: &str, expected: &str, found: &str) -> Error {
        InputError::new(&self.file, key, expected, found).into()
    }

    /// Checks that each base is a token, in lower case where text is lower-cased.
    ///
    /// # Errors
    /// Names the base that is missing.
    pub(super) fn check_bases(&self) -> Result<()> {
        let bases = if self.is_lowercased { "acgt" } else { "ACGT" };
        for base in bases.chars() {
            if !self.letters.contains_key(&base) {
                return Err(self.error("model.vocab", &base.to_string(), "no such token"));
            }
        }
        Ok(())
    }

    /// Digest of all that decides ids.
    pub(super) fn digest(&self) -> String {
        let mut digest = ContentDigest::new("tokenizer-definition/1");
        for (token, id) in &self.ids {
            digest = digest.field(token, id.to_le_bytes());
        }
        for (token, id) in self.literals.iter() {
            digest = digest.field("literal", token).field("id", id.to_le_bytes());
        }
        for (letter, id) in &self.letters {
            digest = digest.field("letter", letter.to_string()).field("id", id.to_le_bytes());
        }
        for Merge { parts, whole } in &self.merges {
            let numbers = [parts.0, parts.1, *whole].map(u32::to_le_bytes);
            digest = digest.field("merge", numbers.concat());
        }
        let bytes = |ids: &[u32]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>();
        let unknown: Vec<u32> = self.unknown_id.into_iter().collect();
        digest
            .field("unknown", bytes(&unknown))
            .field("before", bytes(&self.before))
            .field("after", bytes(&self.after))
            .field("lowercase", [u8::from(self.is_lowercased)])
            .finish()
    }
}

/// Checks every key of `model` but vocabulary, merges and the unknown token.
fn check_model(model: &Node) -> Checked<()> {
    model.require("type", "the supported BPE")?.must_be("BPE")?;
    let no = [json!(false)];
    model.unset(&["dropout"], &[json!(0.0)])?;
    model.unset(&["continuing_subword_prefix", "end_of_word_suffix"], &[json!("")])?;
    model.unset(&["fuse_unk", "byte_fallback", "ignore_merges"], &no)?;
    model.only(&[
        "type",
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "fuse_unk",
        "byte_fallback",
        "ignore_merges",
        "vocab",
        "merges",
    ])
}

/// `model.vocab`: tokens of ASCII letters, each with an id of its own.
///
/// How words are cut at other letters depends on Unicode tables; while no token holds one, each is
/// unknown wherever words end.
fn vocabulary(model: &Node, embedding_rows: usize) -> Checked<BTreeMap<String, u32>> {
    let node = model.require("vocab", "tokens with their ids")?;
    let entries = node.map()?;
    if entries.is_empty() {
        return Err(node.error("tokens with their ids", "0 tokens (empty)"));
    }
    let mut ids = BTreeMap::new();
    let mut tokens = BTreeMap::new();
    for (token, value) in entries {
        let entry = node.child(token, value);
        if token.is_empty() || !token.is_ascii() {
            return Err(entry.error("a token of ASCII letters", &format!("{token:?}")));
        }
        let id = entry.id(embedding_rows)?;
        if let Some(other) = tokens.insert(id, token) {
            return Err(entry.error("a unique id", &format!("{id} as for {other}")));
        }
        ids.insert(token.clone(), id);
    }
    Ok(ids)
}

fn single_letters(ids: &BTreeMap<String, u32>) -> BTreeMap<char, u32> {
    let letter = |(token, &id): (&String, &u32)| {
        let mut letters = token.chars();
        letters.next().filter(|_| letters.next().is_none()).map(|letter| (letter, id))
    };
    ids.iter().filter_map(letter).collect()
}

/// `model.merges` in both forms: `"A C"` and `["A", "C"]`.
fn merges(model: &Node, ids: &BTreeMap<String, u32>) -> Checked<Vec<Merge>> {
    let node = model.require("merges", "a list of merges")?;
    let mut merges = Vec::new();
    let mut seen = BTreeSet::new();
    for item in node.list()? {
        let parts: Vec<&str> = if item.is_text() {
            item.text()?.split(' ').collect()
        } else {
            item.list()?.map(|part| part.text()).collect::<Checked<_>>()?
        };
        let [left, right] = parts[..] else {
            return Err(item.error("two tokens", &format!("{} ({parts:?})", parts.len())));
        };
        let id = |token: &str| {
            let found = || format!("{token:?} of the merge {parts:?}");
            ids.get(token).copied().ok_or_else(|| item.error("tokens of the vocab", &found()))
        };
        let merge = Merge { parts: (id(left)?, id(right)?), whole: id(&format!("{left}{right}"))? };
        if !seen.insert(merge.parts) {
            return Err(item.error("a merge that is unique", &format!("{parts:?} again")));
        }
        merges.push(merge);
    }
    Ok(merges)
}

fn unknown_id(model: &Node, ids: &BTreeMap<String, u32>) -> Checked<Option<u32>> {
    let Some(node) = model.optional("unk_token") else { return Ok(None) };
    let id = ids.get(node.text()?).copied();
    id.map(Some).ok_or_else(|| node.wrong("a token of the vocab"))
}

/// `added_tokens`, which join `ids`.
fn added_tokens(
    root: &Node,
    ids: &mut BTreeMap<String, u32>,
    embedding_rows: usize,
) -> Checked<Literals> {
    let Some(node) = root.optional("added_tokens") else { return Ok(Literals::default()) };
    let mut literals: BTreeMap<String, u32> = BTreeMap::new();
    // Upstream numbers a token that the vocabulary lacks itself and only warns if the file differs.
    let mut next = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let mut taken: BTreeSet<u32> = ids.values().copied().collect();
    for item in node.list()? {
        item.only(&["id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"])?;
        item.unset(&["single_word", "lstrip", "rstrip", "normalized"], &[json!(false)])?;
        let content = item.require("content", "a text")?;
        let token = content.text()?;
        let id_node = item.require("id", "a token id")?;
        let id = id_node.id(embedding_rows)?;
        let expected = ids.get(token).copied().unwrap_or(next);
        if token.is_empty() || literals.contains_key(token) {
            return Err(content.wrong("a token that is unique and not empty"));
        }
        let is_new = !ids.contains_key(token);
        if id != expected || (is_new && !taken.insert(id)) {
            return Err(id_node.wrong(&format!("the unique id {expected} of {token}")));
        }
        next = next.max(id.saturating_add(1));
        literals.insert(token.to_owned(), id);
        ids.insert(token.to_owned(), id);
    }
    Ok(Literals::new(literals))
}

fn is_lowercased(root: &Node) -> Checked<bool> {
    let splits = root.require("pre_tokenizer", "the supported Whitespace")?;
    splits.require("type", "the supported Whitespace")?.must_be("Whitespace")?;
    splits.only(&["type"])?;
    let Some(node) = root.optional("normalizer") else { return Ok(false) };
    node.require("type", "the supported Lowercase")?.must_be("Lowercase")?;
    node.only(&["type"])?;
    Ok(true)
}

/// Ids that `post_processor` puts before and after a sequence.
fn template(
    root: &Node,
    ids: &BTreeMap<String, u32>,
    embedding_rows: usize,
) -> Checked<(Vec<u32>, Vec<u32>)> {
    let Some(node) = root.optional("post_processor") else { return Ok((Vec::new(), Vec::new())) };
    node.require("type", "the supported TemplateProcessing")?.must_be("TemplateProcessing")?;
    node.only(&["type", "single", "pair", "special_tokens"])?;
    let special = node.require("special_tokens", "special tokens")?;
    let single = node.require("single", "a template")?;
    let (mut before, mut after, mut sequences) = (Vec::new(), Vec::new(), 0);
    for item in single.list()? {
        item.only(&["SpecialToken", "Sequence"])?;
        if let Some(token) = item.optional("SpecialToken") {
            let name = check_template_part(&token)?;
            let part = special_ids(&special, &token, name, ids, embedding_rows)?;
            if sequences == 0 { before.extend(part) } else { after.extend(part) }
        }
        if let Some(sequence) = item.optional("Sequence") {
            check_template_part(&sequence)?;
            sequence.require("id", "the supported A")?.must_be("A")?;
            sequences += 1;
        }
        if item.map()?.len() != 1 {
            return Err(item.wrong("one SpecialToken or one Sequence"));
        }
    }
    if sequences != 1 {
        return Err(single.error("one Sequence", &sequences.to_string()));
    }
    Ok((before, after))
}

/// Name of a part of a template, whose type is that of a first sequence.
fn check_template_part<'a>(part: &'a Node) -> Checked<&'a str> {
    part.only(&["id", "type_id"])?;
    part.unset(&["type_id"], &[json!(0)])?;
    let id = part.require("id", "a text")?;
    id.text().map_err(|_| id.wrong("a text"))
}

/// Ids that `name` stands for in `special_tokens`.
fn special_ids(
    special: &Node,
    part: &Node,
    name: &str,
    ids: &BTreeMap<String, u32>,
    embedding_rows: usize,
) -> Checked<Vec<u32>> {
    let expected = "a key of special_tokens";
    let token = special.optional(name).ok_or_else(|| part.error(expected, name))?;
    token.only(&["id", "ids", "tokens"])?;
    token.require("id", name)?.must_be(name)?;
    let (id_list, tokens) = (token.require("ids", "ids")?, token.require("tokens", "tokens")?);
    let found: Vec<u32> =
        id_list.list()?.map(|id| id.id(embedding_rows)).collect::<Checked<_>>()?;
    let texts: Vec<Option<u32>> =
        tokens.list()?.map(|t| Ok(ids.get(t.text()?).copied())).collect::<Checked<_>>()?;
    if found.iter().copied().map(Some).collect::<Vec<_>>() != texts {
        return Err(id_list.error("the ids of tokens", &format!("{found:?}")));
    }
    Ok(found)
}
