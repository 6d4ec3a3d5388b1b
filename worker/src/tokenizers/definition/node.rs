//! A JSON value that knows where it stands, so that every error names its key.
//!
//! Leaves out: reading the text ([`crate::json`]). Invariant: an object is only opened with the keys
//! it may have; any other key is an error, never passed over.

use crate::json;
use glmeval_common::error::InputError;
use serde_json::{Map, Value};

/// One value of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'v> {
    file: &'v str,
    parent: Option<&'v Node<'v>>,
    key: Key<'v>,
    value: &'v Value,
}

#[derive(Clone, Copy, Debug)]
enum Key<'v> {
    Root,
    Name(&'v str),
    Index(usize),
}

type Checked<T> = Result<T, InputError>;

impl<'v> Node<'v> {
    /// The whole of `file`.
    pub(super) fn root(file: &'v str, value: &'v Value) -> Self {
        Self { file, parent: None, key: Key::Root, value }
    }

    fn place(&self) -> String {
        let before = self.parent.map(Node::place).unwrap_or_default();
        match self.key {
            Key::Root => before,
            Key::Name(name) if before.is_empty() => name.to_owned(),
            Key::Name(name) => format!("{before}.{name}"),
            Key::Index(index) => format!("{before}[{index}]"),
        }
    }

    /// An error about this value.
    pub(super) fn error(&self, expected: &str, found: &str) -> InputError {
        InputError::new(self.file, self.place(), expected, found)
    }

    /// An error about this value, which it shows.
    pub(super) fn wrong(&self, expected: &str) -> InputError {
        self.error(expected, &json::describe(self.value))
    }

    /// The keys and values of an object.
    pub(super) fn map(&self) -> Checked<&'v Map<String, Value>> {
        let expected = if self.parent.is_none() { "a JSON object" } else { "an object" };
        self.value.as_object().ok_or_else(|| self.wrong(expected))
    }

    /// Opens an object that has no other keys than `keys`.
    pub(super) fn only(&self, keys: &[&str]) -> Checked<()> {
        match self.map()?.iter().find(|(key, _)| !keys.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, value)) => {
                let expected = format!("no such key (known: {})", keys.join(", "));
                Err(self.child(key, value).wrong(&expected))
            }
        }
    }

    /// The value of `key`, `None` if it is missing or null.
    pub(super) fn optional<'a>(&'a self, key: &'a str) -> Option<Node<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(self.child(key, value))
    }

    /// The value of `key`, which `expected` describes.
    pub(super) fn require<'a>(&'a self, key: &'a str, expected: &str) -> Checked<Node<'a>> {
        self.optional(key).ok_or_else(|| {
            let found = if self.value.get(key).is_some() { "null" } else { "missing" };
            self.child(key, &Value::Null).error(expected, found)
        })
    }

    /// Checks that each of `keys` is missing, null or one of `neutral`.
    pub(super) fn unset(&self, keys: &[&str], neutral: &[Value]) -> Checked<()> {
        for key in keys {
            if let Some(node) = self.optional(key).filter(|node| !neutral.contains(node.value)) {
                let shown = neutral.iter().map(|value| format!(" or {}", json::describe(value)));
                return Err(node.wrong(&format!("null{}", shown.collect::<String>())));
            }
        }
        Ok(())
    }

    /// The value below this one that `key` names.
    pub(super) fn child<'a>(&'a self, key: &'a str, value: &'a Value) -> Node<'a> {
        Node { file: self.file, parent: Some(self), key: Key::Name(key), value }
    }

    /// The values of a list.
    pub(super) fn list<'a>(&'a self) -> Checked<impl Iterator<Item = Node<'a>>> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("a list"))?;
        Ok(items.iter().enumerate().map(move |(index, value)| Node {
            file: self.file,
            parent: Some(self),
            key: Key::Index(index),
            value,
        }))
    }

    /// A text.
    pub(super) fn text(&self) -> Checked<&'v str> {
        self.value.as_str().ok_or_else(|| self.wrong("a text"))
    }

    /// An id with a row in an embedding table of `embedding_rows`.
    pub(super) fn id(&self, embedding_rows: usize) -> Checked<u32> {
        let id = self.value.as_u64().filter(|&id| id < embedding_rows as u64);
        id.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            self.wrong(&format!("a token id from 0 to below vocab_size {embedding_rows}"))
        })
    }

    /// The one text that is understood here.
    pub(super) fn must_be(&self, supported: &str) -> Checked<()> {
        if self.value.as_str() == Some(supported) {
            return Ok(());
        }
        Err(self.wrong(&format!("the supported {supported}")))
    }

    /// Whether it is a text rather than a list.
    pub(super) fn is_text(&self) -> bool {
        self.value.is_string()
    }
}
