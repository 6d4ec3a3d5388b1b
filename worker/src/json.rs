//! Strict JSON: every key once, bounded size and depth, errors with line and column.
//!
//! Leaves out: what the values mean. Invariant: a parsed object never hides a second value of a key.

use glmeval_common::error::{InputError, Result, io_error};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::fmt;
use std::io::Read;
use std::path::Path;

/// Largest JSON text that is parsed, in bytes.
pub const JSON_BYTES_MAX: usize = 8 << 20;
/// Most values in one text; one takes 72 bytes, but as little as two in the text.
const VALUES_MAX: usize = 1 << 20;

/// Reads a JSON file.
///
/// # Errors
/// `NotFound` or `Unavailable` with the path; `Invalid` as [`parse`].
pub fn read(path: &Path) -> Result<Value> {
    let file = std::fs::File::open(path).map_err(|e| io_error(path, e))?;
    let mut text = Vec::new();
    file.take(JSON_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(|e| io_error(path, e))?;
    parse(path.display(), "", &text)
}

/// Parses `text`, which stands in `file` at `place` (empty: the whole file).
///
/// # Errors
/// `Invalid` with line and column if it is too long, not UTF-8, not JSON, nested deeper than
/// 127 levels, repeats a key or has more than a million values.
pub fn parse(file: impl fmt::Display, place: &str, text: &[u8]) -> Result<Value> {
    let defect = |at: &str, expected: &str, found: &str| {
        let space = if place.is_empty() || at.is_empty() { "" } else { " " };
        InputError::new(&file, format!("{place}{space}{at}"), expected, found)
    };
    if text.len() > JSON_BYTES_MAX {
        let expected = format!("JSON of at most {JSON_BYTES_MAX} bytes (limit)");
        return Err(defect("", &expected, "more").into());
    }
    let text = std::str::from_utf8(text).map_err(|e| {
        defect(&format!("byte {}", e.valid_up_to()), "JSON in UTF-8", "bytes that are not")
    })?;
    parse_strict(text).map_err(|e| {
        let at = format!("line {} column {}", e.line(), e.column());
        let message = e.to_string();
        let reason = message.split(" at line ").next().unwrap_or_default();
        match e.classify() {
            Category::Data => {
                let expected = format!("JSON with every key once and at most {VALUES_MAX} values");
                defect(&at, &expected, reason).into()
            }
            Category::Eof => defect(&at, "JSON", &format!("end of text ({reason})")).into(),
            Category::Syntax | Category::Io => {
                let found = format!("`{}` ({reason})", excerpt(text, e.line(), e.column()));
                defect(&at, "JSON", &found).into()
            }
        }
    })
}

/// A few letters of `text` from a line and column, both from 1.
fn excerpt(text: &str, line: usize, column: usize) -> String {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let start = (0..=column.saturating_sub(1)).rev().find(|&at| line.is_char_boundary(at));
    line.get(start.unwrap_or(0)..).unwrap_or_default().chars().take(16).collect()
}

/// What kind of JSON value it is, with the value where it is short.
pub fn describe(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list (array)".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("\"{}\"", text.chars().take(80).collect::<String>()),
    }
}

fn parse_strict(text: &str) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { count: &Cell::new(0) }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads one value; counts the values of the whole text.
#[derive(Clone, Copy)]
struct Strict<'c> {
    count: &'c Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count.set(self.count.get() + 1);
        if self.count.get() > VALUES_MAX {
            return Err(D::Error::custom("more values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("duplicate key `{key}`")));
            }
            map.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        parse("a.json", "", text.as_bytes()).expect_err("must be refused").chain()
    }

    #[test]
    fn errors_name_line_column_and_what_stands_there() {
        assert_eq!(
            message("{\"a\": 1,\n \"b\": NaN}"),
            "a.json: line 2 column 7: expected JSON, found `NaN}` (expected value)"
        );
        assert!(message("{\"a\": 1").contains("line 1 column 7: expected JSON, found end of text"));
        assert!(message("{}\n}}").contains("`}}` (trailing characters)"));
        assert!(message("").contains("line 1 column 0"));
    }

    #[test]
    fn a_repeated_key_is_refused_at_any_depth() {
        assert!(message("{\"a\": [{\"b\": 1, \"b\": 1}]}").contains("duplicate key `b`"));
    }

    #[test]
    fn nesting_and_number_of_values_are_bounded() {
        assert!(message(&"[".repeat(100_000)).contains("recursion limit"));
        assert!(message(&format!("[0{}]", ",0".repeat(VALUES_MAX))).contains("found more values"));
        let value = size_of::<Value>();
        assert!(value <= 72, "{value} bytes");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[\\[\\]{}\",:a-c0-9é.\\n -]{0,64}") {
            let _ = parse("a.json", "", text.as_bytes());
        }
    }
}
