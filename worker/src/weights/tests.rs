//! Containers built in memory: what they hold, what is refused, and that damage never panics.

use super::*;
use proptest::prelude::*;
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;

/// Pieces of protocol 2 pickles.
pub(super) mod build {
    pub(in super::super) fn text(text: &str) -> Vec<u8> {
        [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
    }

    pub(in super::super) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
        [b"(".to_vec(), items.concat(), b"t".to_vec()].concat()
    }

    pub(in super::super) fn integers(numbers: &[i32]) -> Vec<u8> {
        let item = |n: &i32| [b"J", &n.to_le_bytes()[..]].concat();
        tuple(&numbers.iter().map(item).collect::<Vec<_>>())
    }

    pub(in super::super) fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let items = entries.iter().map(|(key, value)| [text(key), value.clone()].concat());
        [b"}(".to_vec(), items.collect::<Vec<_>>().concat(), b"u".to_vec()].concat()
    }

    /// A tensor over storage `key` of `elements` numbers of `class`.
    pub(in super::super) fn tensor(
        (class, key, elements): (&str, &str, i32),
        offset: i32,
        shape: &[i32],
        strides: &[i32],
    ) -> Vec<u8> {
        let int = |n: i32| [b"J", &n.to_le_bytes()[..]].concat();
        let class = format!("ctorch\n{class}\n").into_bytes();
        let id = tuple(&[text("storage"), class, text(key), text("cpu"), int(elements)]);
        let arguments =
            [[id, b"Q".to_vec()].concat(), int(offset), integers(shape), integers(strides)];
        let function = b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec();
        [function, tuple(&arguments), b"R".to_vec()].concat()
    }

    pub(in super::super) fn pickle(root: &[u8]) -> Vec<u8> {
        [b"\x80\x02", root, b"."].concat()
    }
}
use build::{dict, pickle, tensor, text, tuple};

fn zip_of(entries: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(format!("archive/{name}"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn open_bytes(name: &str, bytes: &[u8]) -> Result<Weights> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Weights::open(&path)
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A matrix over column-major storage, its tied twin, and an integer.
fn good_root() -> Vec<u8> {
    let matrix = tensor(("FloatStorage", "0", 6), 0, &[2, 3], &[1, 2]);
    let ids = tensor(("LongStorage", "1", 1), 0, &[1, 1], &[1, 1]);
    dict(&[("w", matrix.clone()), ("tied", matrix), ("ids", ids)])
}

fn good_zip(method: zip::CompressionMethod) -> Vec<u8> {
    let entries: [(&str, &[u8]); 5] = [
        ("data.pkl", &pickle(&good_root())),
        ("byteorder", b"little"),
        ("data/0", &f32_bytes(&[0.0, 3.0, 1.0, 4.0, 2.0, 5.0])),
        ("data/1", &7_i64.to_le_bytes()),
        ("version", b"3\n"),
    ];
    zip_of(&entries, method)
}

fn good_legacy() -> Vec<u8> {
    let keys = [&b"]("[..], &text("1"), &text("0"), b"e"].concat();
    let numbers = f32_bytes(&[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    [
        legacy::MAGIC,
        &pickle(b"M\xe9\x03"),
        &pickle(&dict(&[("little_endian", b"\x88".to_vec())])),
        &pickle(&good_root()),
        &pickle(&keys),
        &1_u64.to_le_bytes(),
        &7_i64.to_le_bytes(),
        &6_u64.to_le_bytes(),
        &numbers,
    ]
    .concat()
}

fn good_safetensors() -> Vec<u8> {
    let header = br#"{"__metadata__":{"format":"pt"},
        "ids":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]},
        "tied":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},
        "w":{"dtype":"F32","shape":[2,3],"data_offsets":[32,56]}}"#;
    let numbers = f32_bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header, &7_i64.to_le_bytes(), &numbers, &numbers].concat()
}

fn good_files() -> [(&'static str, Vec<u8>); 4] {
    [
        ("a.bin", good_zip(zip::CompressionMethod::Stored)),
        ("b.bin", good_zip(zip::CompressionMethod::Deflated)),
        ("c.bin", good_legacy()),
        ("d.safetensors", good_safetensors()),
    ]
}

#[test]
fn the_same_tensors_in_any_container_have_the_same_numbers_and_digest() {
    let mut digests = BTreeSet::new();
    for (name, bytes) in good_files() {
        let weights = open_bytes(name, &bytes).unwrap_or_else(|e| panic!("{}", e.chain()));
        assert_eq!(weights.names().collect::<Vec<_>>(), ["ids", "tied", "w"], "{name}");
        let values = weights.take_f32("w", &[2, 3]).unwrap();
        assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "{name}");
        assert_eq!(weights.unused(), ["ids", "tied"], "{name}");
        assert_eq!(weights.tensor("ids").unwrap().dtype(), Dtype::I64, "{name}");
        digests.insert(weights.digest().unwrap());
    }
    assert_eq!(digests.len(), 1);
}

#[test]
fn a_changed_number_changes_the_digest_and_breaks_a_checksum() {
    let mut bytes = good_safetensors();
    let before = open_bytes("a.safetensors", &bytes).unwrap().digest().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    assert_ne!(open_bytes("a.safetensors", &bytes).unwrap().digest().unwrap(), before);
    let mut bytes = good_zip(zip::CompressionMethod::Stored);
    let at = bytes.windows(8).position(|window| window == 7_i64.to_le_bytes()).unwrap();
    bytes[at] = 8;
    let error = open_bytes("a.bin", &bytes).unwrap().digest().expect_err("a wrong checksum");
    assert!(error.chain().contains("archive/data/1: expected the checksum"), "{}", error.chain());
}

#[test]
fn half_and_double_are_widened_or_narrowed() {
    let half: Vec<u8> = [0x00, 0x3e, 0x00, 0xc1].to_vec();
    let header = br#"{"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},
        "d":{"dtype":"F64","shape":[1],"data_offsets":[4,12]},
        "h":{"dtype":"F16","shape":[2],"data_offsets":[12,16]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    let bytes = [&length[..], header, &half, &0.1_f64.to_le_bytes(), &half].concat();
    let weights = open_bytes("a.safetensors", &bytes).unwrap();
    assert_eq!(weights.take_f32("b", &[2]).unwrap(), [0.125, -8.0]);
    assert_eq!(weights.take_f32("d", &[1]).unwrap(), [0.1_f32]);
    assert_eq!(weights.take_f32("h", &[2]).unwrap(), [1.5, -2.5]);
}

#[test]
fn errors_of_taking_name_file_tensor_expected_and_found() {
    let weights = open_bytes("a.bin", &good_zip(zip::CompressionMethod::Stored)).unwrap();
    let message = |name: &str, shape: &[usize]| weights.take_f32(name, shape).unwrap_err().chain();
    let missing = message("we", &[4]);
    assert!(
        missing.contains("a.bin: tensor we: expected shape [4], found missing; nearest names: w")
    );
    assert!(message("w", &[3, 2]).contains("tensor w: expected shape [3, 2], found [2, 3]"));
    assert!(message("ids", &[1, 1]).contains("tensor ids: expected floats"));
}

#[test]
fn comparison_lists_missing_unexpected_and_mis_shaped() {
    let weights = open_bytes("a.bin", &good_zip(zip::CompressionMethod::Stored)).unwrap();
    let known = |name: &str, shape: &[usize], required| ExpectedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        required,
        is_parameter: true,
    };
    let list = [known("w", &[3, 3], true), known("gone", &[1], true), known("maybe", &[1], false)];
    let comparison = weights.compare(&list);
    assert_eq!(comparison.missing, [list[1].clone()]);
    assert_eq!(comparison.mis_shaped, [(list[0].clone(), vec![2, 3])]);
    assert_eq!(comparison.unexpected, ["ids", "tied"]);
    assert!(weights.check(&list).unwrap_err().chain().contains("tensor gone"));
}

fn open_root(root: &[u8]) -> Result<Weights> {
    let entries: [(&str, &[u8]); 2] = [("data.pkl", &pickle(root)), ("data/0", &f32_bytes(&[1.0]))];
    open_bytes("weights.ckpt", &zip_of(&entries, zip::CompressionMethod::Stored))
}

#[test]
fn unknown_globals_are_placeholders_beside_a_state_dict_and_refused_elsewhere() {
    let scalar = tensor(("FloatStorage", "0", 1), 0, &[1], &[1]);
    let call = |name: &str| [name.as_bytes(), &tuple(&[text("x")]), b"R"].concat();
    let settings = call("comegaconf.dictconfig\nDictConfig\n");
    let state = dict(&[("w", scalar.clone())]);
    let trained = dict(&[("hyper", settings.clone()), ("state_dict", state.clone())]);
    assert_eq!(open_root(&trained).unwrap().take_f32("w", &[1]).unwrap(), [1.0]);
    for refused in [
        dict(&[("w", scalar.clone()), ("hyper", settings.clone())]),
        dict(&[("state_dict", dict(&[("w", scalar), ("x", settings)]))]),
    ] {
        let message = open_root(&refused).unwrap_err().chain();
        assert!(message.contains("found omegaconf.dictconfig.DictConfig"), "{message}");
    }
    let harmful = dict(&[("hyper", call("cos\nsystem\n")), ("state_dict", state)]);
    assert!(open_root(&harmful).unwrap_err().chain().contains("found os.system"));
}

#[test]
fn shards_are_joined_and_their_absence_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("one.safetensors", &good_safetensors());
    let map = r#"{"weight_map": {"w": "one.safetensors", "ids": "one.safetensors"}}"#;
    write("model.safetensors.index.json", map.as_bytes());
    let weights = Weights::open(folder.path()).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["ids", "tied", "w"]);
    let map = r#"{"weight_map": {"other": "one.safetensors"}}"#;
    write("model.safetensors.index.json", map.as_bytes());
    let message = Weights::open(folder.path()).unwrap_err().chain();
    assert!(message.contains("weight_map: other: expected a tensor of one.safetensors"));
}

#[test]
fn a_folder_without_weights_says_which_names_it_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let message = Weights::open(folder.path()).unwrap_err().chain();
    assert!(message.contains("expected one of model.safetensors"), "{message}");
}

proptest! {
    #[test]
    fn damaged_files_never_panic(
        which in 0_usize..4,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
        cut: bool,
    ) {
        let (name, mut bytes) = good_files()[which].clone();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(weights) = open_bytes(name, &bytes) {
            for (name, tensor) in weights.tensors() {
                let _ = weights.take_f32(name, tensor.shape());
            }
            let _ = weights.digest();
        }
    }

    #[test]
    fn arbitrary_files_never_panic(
        start in prop::sample::select(vec![&b"PK\x03\x04"[..], legacy::MAGIC, b"\x05\0\0\0\0\0\0\0{", b""]),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let _ = open_bytes("a.bin", &[start, &bytes].concat());
    }
}
