use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Pieces of up to four bases; ties and chains of merges occur.
const MERGES: [&str; 9] = ["A C", "C G", "A A", "T T", "AA A", "A AA", "AC G", "TT TT", "A CG"];

fn text(merges: &[&str]) -> String {
    let mut tokens: Vec<String> =
        ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "A", "C", "G", "T", "-"].map(str::to_owned).to_vec();
    for merge in merges {
        let whole = merge.replace(' ', "");
        if !tokens.contains(&whole) {
            tokens.push(whole);
        }
    }
    let vocab: serde_json::Map<_, _> =
        tokens.iter().zip(0..).map(|(token, id)| (token.clone(), json!(id))).collect();
    let special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"];
    let added: Vec<_> = special
        .iter()
        .zip(0..)
        .map(|(content, id)| json!({"id": id, "content": content, "special": true}))
        .collect();
    json!({
        "added_tokens": added,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}},
                       {"SpecialToken": {"id": "[SEP]"}}],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]},
            },
        },
        "model": {"type": "BPE", "unk_token": "[UNK]", "vocab": vocab, "merges": merges},
    })
    .to_string()
}

fn tokenizer(merges: &[&str], unknown_letters: UnknownLetters) -> BpeTokenizer {
    BpeTokenizer::parse("t.json", text(merges).as_bytes(), 99, unknown_letters).unwrap()
}

/// Tokens of `text` without the first and last.
fn pieces(tokenizer: &BpeTokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!((ids.first(), ids.last()), (Some(&1), Some(&2)));
    let entries = tokenizer.definition.tokens().collect::<BTreeMap<_, _>>();
    ids[1..ids.len() - 1].iter().map(|id| entries[id].to_owned()).collect()
}

/// The rule word for word: one merge at a time, lowest rank first, leftmost first.
fn slowly(merges: &[&str], word: &str) -> Vec<String> {
    let mut tokens: Vec<String> = word.chars().map(String::from).collect();
    loop {
        let rank = |pair: &[String]| merges.iter().position(|&merge| merge == pair.join(" "));
        let ranked = tokens.windows(2).enumerate().filter_map(|(at, pair)| Some((rank(pair)?, at)));
        let Some((_, at)) = ranked.min() else { return tokens };
        let right = tokens.remove(at + 1);
        tokens[at].push_str(&right);
    }
}

#[test]
fn the_lowest_rank_merges_first_and_the_leftmost_of_equals() {
    let strict = tokenizer(&MERGES, UnknownLetters::Refuse);
    assert_eq!(pieces(&strict, "ACG"), ["ACG"]);
    assert_eq!(pieces(&strict, "AAA"), ["AAA"]);
    assert_eq!(pieces(&strict, "AAAAA"), ["AA", "AAA"]);
    assert_eq!(pieces(&strict, "TTTTT"), ["TTTT", "T"]);
    assert_eq!(pieces(&strict, ""), [""; 0]);
}

#[test]
fn unknown_letters_are_a_token_each_and_break_merges() {
    let lenient = tokenizer(&MERGES, UnknownLetters::Replace);
    assert_eq!(pieces(&lenient, "ANCéé G"), ["A", "[UNK]", "C", "[UNK]", "[UNK]", "G"]);
    assert_eq!(pieces(&lenient, "A\tC\u{2028}G"), ["A", "C", "G"]);
    assert_eq!(pieces(&lenient, "AC[PAD]AC"), ["AC", "[PAD]", "AC"]);
    assert_eq!(pieces(&lenient, "[pad]"), ["[UNK]"; 5]);
}

#[test]
fn punctuation_is_a_word_of_its_own() {
    let lenient = tokenizer(&["A -", "A C"], UnknownLetters::Replace);
    assert_eq!(pieces(&lenient, "A-AC"), ["A", "-", "AC"]);
    assert_eq!(pieces(&lenient, "A_AC"), ["A", "[UNK]", "AC"]);
}

#[test]
fn an_n_is_the_unknown_token_and_other_letters_are_refused() {
    let strict = tokenizer(&MERGES, UnknownLetters::Refuse);
    assert_eq!(pieces(&strict, "ACNG"), ["AC", "[UNK]", "G"]);
    let message = strict.encode("ACg").unwrap_err().to_string();
    assert_eq!(message, "tokenise column 3: expected A, C, G, T or N, found 'g'");
}

#[test]
fn a_vocabulary_without_a_base_or_an_unknown_token_is_refused() {
    for (good, bad, expected) in [
        ("\"T\":7", "\"U\":7", "t.json: model.vocab: expected T, found no such token"),
        ("\"[UNK]\",\"vocab", "null,\"vocab", "t.json: model.unk_token: expected a token"),
    ] {
        let text = text(&["A C"]);
        assert!(text.contains(good), "{text}");
        let (text, strict) = (text.replace(good, bad), UnknownLetters::Refuse);
        let error = BpeTokenizer::parse("t.json", text.as_bytes(), 99, strict).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn the_mean_length_lies_between_the_shortest_and_the_longest_piece() {
    let mean = |merges: &[&str]| match tokenizer(merges, UnknownLetters::Refuse).rule() {
        TokenRule::Pieces { mean_length, special: 2 } => mean_length,
        other => panic!("{other:?}"),
    };
    assert!((mean(&[]) - 1.0).abs() < 1e-12);
    let longer = mean(&MERGES);
    assert!(longer > 1.1 && longer < 4.0, "{longer}");
}

#[test]
fn a_long_sequence_of_equal_bases_takes_no_quadratic_time() {
    let strict = tokenizer(&MERGES, UnknownLetters::Refuse);
    let count = strict.encode(&"T".repeat(1 << 18)).unwrap().len();
    assert_eq!(count, (1 << 16) + 2);
}

proptest! {
    #[test]
    fn merges_are_those_of_the_rule(
        word in "[ACGT]{0,40}",
        merges in prop::sample::subsequence(MERGES.to_vec(), 0..=9).prop_shuffle(),
    ) {
        // A merge whose parts another one makes may come first: it then waits for them.
        let found = pieces(&tokenizer(&merges_with_parts(&merges), UnknownLetters::Refuse), &word);
        prop_assert_eq!(found, slowly(&merges_with_parts(&merges), &word));
    }

    #[test]
    fn any_text_is_encoded_or_refused(text in "(\\PC|\\[PAD\\]|[ACGTN\\s_-])*") {
        let lenient = tokenizer(&MERGES, UnknownLetters::Replace).encode(&text).unwrap();
        if let Ok(ids) = tokenizer(&MERGES, UnknownLetters::Refuse).encode(&text) {
            prop_assert_eq!(ids, lenient);
        }
    }
}

/// `merges` behind those that make their parts, where they are missing.
fn merges_with_parts<'m>(merges: &[&'m str]) -> Vec<&'m str> {
    let makes = |part: &str| merges.iter().any(|merge| merge.replace(' ', "") == part);
    let is_made = |merge: &&&str| merge.split(' ').all(|part| part.len() == 1 || makes(part));
    merges.iter().filter(is_made).copied().collect()
}
