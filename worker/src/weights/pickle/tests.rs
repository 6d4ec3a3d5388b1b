//! The pickle machine on hand-assembled pickles.

use super::super::tests::build::{dict, pickle, text, tuple};
use super::*;
use proptest::prelude::*;

fn refused(bytes: &[u8]) -> Defect {
    Pickle::read(bytes, 0).expect_err("must be refused")
}

#[test]
fn integers_of_any_width_keep_their_sign() {
    for (bytes, number) in [
        (&b"K\xff"[..], 255),
        (b"M\x00\x80", 32_768),
        (b"J\xfe\xff\xff\xff", -2),
        (b"\x8a\x00", 0),
        (b"\x8a\x01\xff", -1),
        (b"\x8a\x03\x00\x00\x80", -8_388_608),
        (b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40", 1 << 62),
    ] {
        let pickle = pickle(bytes);
        assert_eq!(Pickle::read(&pickle, 0).unwrap().root, Value::Int(number), "{bytes:?}");
    }
}

#[test]
fn memo_returns_the_same_object() {
    let bytes = pickle(b"]q\x01h\x01\x86");
    let read = Pickle::read(&bytes, 0).unwrap();
    let Some(Object::Tuple(items)) = read.object(read.root) else { panic!("{read:?}") };
    assert_eq!(items[0], items[1]);
}

#[test]
fn an_ordered_dict_is_made_empty_or_from_pairs() {
    let call = |arguments: &[Vec<u8>]| {
        pickle(&[&b"ccollections\nOrderedDict\n"[..], &tuple(arguments), b"R"].concat())
    };
    let pairs = [&b"]("[..], &tuple(&[text("a"), b"N".to_vec()]), b"e"].concat();
    for (bytes, count) in [(call(&[]), 0), (call(&[pairs]), 1)] {
        let read = Pickle::read(&bytes, 0).unwrap();
        let Some(Object::Dict(entries)) = read.object(read.root) else { panic!("{read:?}") };
        assert_eq!(entries.len(), count);
    }
}

#[test]
fn attributes_of_a_dict_are_dropped() {
    let bytes = pickle(&[dict(&[("a", b"N".to_vec())]), dict(&[]), b"b".to_vec()].concat());
    let read = Pickle::read(&bytes, 0).unwrap();
    let Some(Object::Dict(entries)) = read.object(read.root) else { panic!("{read:?}") };
    assert_eq!(entries.as_slice(), [(Value::Text("a"), Value::None)]);
}

#[test]
fn types_under_the_names_of_python_2_are_harmless_and_what_reaches_code_is_refused() {
    for name in ["long", "unicode", "xrange"] {
        let bytes = pickle(format!("c__builtin__\n{name}\n").as_bytes());
        assert!(Pickle::read(&bytes, 0).is_ok(), "{name}");
    }
    assert!(refused(&pickle(b"c__builtin__\ngetattr\n")).found.contains("getattr"));
}

#[test]
fn deep_nesting_is_read_and_dropped_without_recursion() {
    let bytes = pickle(&[b")".to_vec(), vec![0x85; 500_000]].concat());
    assert_eq!(Pickle::read(&bytes, 0).unwrap().objects.len(), 500_001);
}

#[test]
fn work_is_bounded() {
    let bytes = pickle(&vec![b'N'; OPCODES_MAX + 1]);
    assert!(refused(&bytes).expected.contains("limit"));
}

#[test]
fn a_value_below_a_mark_cannot_be_popped() {
    assert!(refused(&pickle(b"N(0")).found.contains("empty stack"));
}

#[test]
fn errors_point_at_the_opcode() {
    let defect = refused(b"\x80\x02N\xf3.");
    assert_eq!((defect.offset, defect.found.as_str()), (3, "opcode 0xf3"));
}

proptest! {
    #[test]
    fn arbitrary_opcodes_never_panic(
        pieces in prop::collection::vec(prop::sample::select(vec![
            &b"("[..], b")", b"]", b"}", b"t", b"\x85", b"\x86", b"\x87", b"l", b"d", b"a", b"e",
            b"s", b"u", b"\x90", b"\x91", b"0", b"1", b"2", b"q\x01", b"h\x01", b"\x94", b"N",
            b"K\x03", b"U\x01a", b"X\x01\0\0\0a", b"ccollections\nOrderedDict\n", b"R", b"b",
            b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nSize\n", b"\x81", b"\x92", b"Q",
            b"ca\nb\n", b"\x93", b"\x8a\x01", b"G",
        ]), 0..40),
    ) {
        let _ = Pickle::read(&pickle(&pieces.concat()), 0);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        start in 0_usize..80,
    ) {
        let _ = Pickle::read(&bytes, start);
    }
}
