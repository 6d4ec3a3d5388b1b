use super::*;
use proptest::prelude::*;

/// Six letters, two merges, `[CLS]` before and `[SEP]` after.
fn sound() -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [
            {"id": 0, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false, "special": true},
            {"id": 1, "content": "[CLS]", "special": true},
            {"id": 2, "content": "[SEP]", "special": true},
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]},
            },
        },
        "decoder": {"type": "BPEDecoder"},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "[UNK]", "fuse_unk": false,
            "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "A": 3, "C": 4, "G": 5, "T": 6, "AC": 7,
                      "ACG": 8},
            "merges": ["A C", ["AC", "G"]],
        },
    })
}

fn parse(value: &Value) -> Result<Definition> {
    Definition::parse("t.json", value.to_string().as_bytes(), 10)
}

/// The message once the value at `pointer` is `value`.
fn refusal(pointer: &str, value: Value) -> String {
    let mut changed = sound();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match changed.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        Value::Object(entries) => drop(entries.insert(key.to_owned(), value)),
        _ => unreachable!("{pointer}"),
    }
    parse(&changed).expect_err(pointer).to_string()
}

#[test]
fn a_sound_file_is_read_in_both_forms_of_merges() {
    let definition = parse(&sound()).unwrap();
    let merge = |left, right, whole| Merge { parts: (left, right), whole };
    assert_eq!(definition.merges, [merge(3, 4, 7), merge(7, 5, 8)]);
    assert_eq!((&definition.before[..], &definition.after[..]), ([1].as_slice(), [2].as_slice()));
    assert_eq!((definition.unknown_id, definition.is_lowercased), (Some(0), false));
    assert_eq!(definition.letters, [('A', 3), ('C', 4), ('G', 5), ('T', 6)].into());
    assert_eq!(definition.literals.get("[CLS]"), Some(1));
}

#[test]
fn whatever_is_not_supported_is_named_with_its_key() {
    for (pointer, value, expected) in [
        ("/surprise", json!(1), "t.json: surprise: expected no such key (known: version, "),
        ("/version", json!("2.0"), "t.json: version: expected null or \"1.0\", found \"2.0\""),
        ("/truncation", json!({}), "t.json: truncation: expected null, found an object"),
        ("/padding", json!({}), "t.json: padding: expected null, found an object"),
        ("/normalizer", json!({"type": "NFC"}), "normalizer.type: expected the supported Lowerc"),
        (
            "/pre_tokenizer",
            json!(null),
            "pre_tokenizer: expected the supported Whitespace, found n",
        ),
        ("/pre_tokenizer/type", json!("Split"), "pre_tokenizer.type: expected the supported White"),
        (
            "/model/type",
            json!("Unigram"),
            "model.type: expected the supported BPE, found \"Unigram",
        ),
        ("/model/dropout", json!(0.1), "model.dropout: expected null or 0.0, found 0.1"),
        ("/model/fuse_unk", json!(true), "model.fuse_unk: expected null or false, found true"),
        ("/model/ignore_merges", json!(true), "model.ignore_merges: expected null or false"),
        (
            "/model/end_of_word_suffix",
            json!("_"),
            "model.end_of_word_suffix: expected null or \"\"",
        ),
        ("/model/new", json!(null), "model.new: expected no such key"),
        ("/added_tokens/0/lstrip", json!(true), "added_tokens[0].lstrip: expected null or false"),
        ("/added_tokens/2/new", json!(0), "added_tokens[2].new: expected no such key"),
        ("/post_processor/type", json!("Bert"), "post_processor.type: expected the supported Temp"),
        ("/post_processor/single/0/SpecialToken/type_id", json!(1), "single[0].SpecialToken.type_"),
        ("/post_processor/single/1/Sequence/id", json!("B"), "single[1].Sequence.id: expected the"),
    ] {
        let message = refusal(pointer, value);
        assert!(message.contains(expected), "{message} lacks {expected}");
    }
}

#[test]
fn contradictions_are_named_with_their_key() {
    for (pointer, value, expected) in [
        ("/model/vocab/AC", json!(3), "model.vocab.AC: expected a unique id, found 3 as for A"),
        (
            "/model/vocab/AC",
            json!(-9),
            "model.vocab.AC: expected a token id from 0 to below vocab_",
        ),
        ("/model/vocab/AC", json!(10), "below vocab_size 10, found 10"),
        ("/model/vocab/AC", json!(1.5), "found 1.5"),
        ("/model/vocab/é", json!(9), "model.vocab.é: expected a token of ASCII letters"),
        ("/model/vocab", json!({}), "model.vocab: expected tokens with their ids, found 0 tokens"),
        ("/model/merges/0", json!("A C G"), "model.merges[0]: expected two tokens, found 3 "),
        ("/model/merges/0", json!(["A"]), "model.merges[0]: expected two tokens, found 1 "),
        ("/model/merges/0", json!("X C"), "merges[0]: expected tokens of the vocab, found \"X\""),
        (
            "/model/merges/0",
            json!("G T"),
            "expected tokens of the vocab, found \"GT\" of the merge",
        ),
        ("/model/merges/1", json!("A C"), "model.merges[1]: expected a merge that is unique"),
        (
            "/model/unk_token",
            json!("[NO]"),
            "model.unk_token: expected a token of the vocab, found",
        ),
        ("/model/unk_token", json!("A"), "model.merges: expected no merge of the unknown token"),
        ("/added_tokens/1/id", json!(2), "added_tokens[1].id: expected the unique id 1 of [CLS]"),
        (
            "/added_tokens/1/content",
            json!("[UNK]"),
            "added_tokens[1].content: expected a token that",
        ),
        ("/added_tokens/1/content", json!("[NEW]"), "expected the unique id 9 of [NEW], found 1"),
        (
            "/post_processor/single",
            json!([]),
            "post_processor.single: expected one Sequence, found 0",
        ),
        (
            "/post_processor/special_tokens/[CLS]/ids",
            json!([2]),
            "[CLS].ids: expected the ids of tok",
        ),
        (
            "/post_processor/special_tokens",
            json!({}),
            "expected a key of special_tokens, found [CLS]",
        ),
        ("/model", json!(null), "t.json: model: expected a model, found null"),
    ] {
        let message = refusal(pointer, value);
        assert!(message.contains(expected), "{message} lacks {expected}");
    }
}

#[test]
fn an_added_token_outside_the_vocabulary_has_the_next_id() {
    let mut added = sound();
    added["added_tokens"].as_array_mut().unwrap().push(json!({"id": 9, "content": "[NEW]"}));
    assert_eq!(parse(&added).unwrap().get("[NEW]"), Some(9));
    added["added_tokens"][3]["content"] = json!("N");
    let definition = parse(&added).unwrap();
    assert_eq!((definition.literals.get("N"), definition.letters.get(&'N')), (Some(9), None));
}

#[test]
fn everything_that_decides_ids_is_in_the_digest() {
    let digest = parse(&sound()).unwrap().digest();
    for (pointer, value) in [
        ("/normalizer", json!({"type": "Lowercase"})),
        ("/post_processor", json!(null)),
        ("/model/merges", json!([])),
        ("/model/unk_token", json!(null)),
        ("/model/vocab/ACG", json!(9)),
        ("/added_tokens/1/content", json!("A")),
    ] {
        let mut changed = sound();
        *changed.pointer_mut(pointer).unwrap() = value.clone();
        if pointer == "/added_tokens/1/content" {
            changed["added_tokens"][1]["id"] = json!(3);
        }
        let changed = parse(&changed).unwrap_or_else(|e| panic!("{pointer}: {}", e.chain()));
        assert_ne!(changed.digest(), digest, "{pointer}");
    }
    let mut same = sound();
    same["decoder"] = json!(null);
    assert_eq!(parse(&same).unwrap().digest(), digest);
}

/// Every value of `value`, and the pointers to them.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, item)| pointers(item, &format!("{at}/{index}"), found)),
        Value::Object(entries) => {
            entries.iter().for_each(|(key, item)| pointers(item, &format!("{at}/{key}"), found));
        }
        _ => {}
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..12).prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        "[ACGT é\\[\\]]{0,4}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([["A"], {"id": 3}])),
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Definition::parse("t.json", &bytes, 10);
    }

    #[test]
    fn any_value_anywhere_is_read_or_refused(place in any::<prop::sample::Index>(), value in any_value()) {
        let mut changed = sound();
        let mut all = Vec::new();
        pointers(&changed, "", &mut all);
        let pointer: &String = place.get(&all);
        *changed.pointer_mut(pointer).unwrap() = value;
        match parse(&changed) {
            Ok(definition) => prop_assert!(definition.ids.values().all(|&id| id < 10)),
            Err(error) => prop_assert!(error.to_string().starts_with("t.json"), "{}", error),
        }
    }
}
