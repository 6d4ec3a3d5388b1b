//! Which algorithm of cuBLASLt computes a product: chosen once, then read from a small file.
//!
//! Leaves out: the library (`products`). Invariant: a choice depends on everything of a product but its rows, so that
//! a row's bits do not depend on how many there are.

use crate::cuda::product::{Operand, Product, ProductClass, ValueType};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// First line of a file of choices.
const HEAD: &str = "# algorithms of products, format 1";

/// The largest alignment that algorithms tell apart, in bytes.
const ALIGNMENT_MAX: u64 = 16;

/// An algorithm as the library writes it down; good for the same version of the library and the same kind of device.
pub(super) type Algorithm = [u64; 8];

/// A matrix of a product, without its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Side {
    pub(super) value_type: ValueType,
    pub(super) transposed: bool,
    pub(super) stride: usize,
    /// Bytes that divide the address of every row.
    pub(super) alignment: u32,
}

/// All of a product but its rows and its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlanKey {
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) left: Side,
    pub(super) right: Side,
    pub(super) out: Side,
    pub(super) class: ProductClass,
    pub(super) has_bias: bool,
    pub(super) adds: bool,
}

/// What divides `address` and all that lie whole rows from it: never more for one row than for another.
fn alignment(address: u64, stride: usize, value_type: ValueType) -> u32 {
    let row_bytes = stride as u64 * value_type.bytes() as u64;
    1 << (address | row_bytes | ALIGNMENT_MAX).trailing_zeros()
}

impl Side {
    fn of(operand: &Operand<'_>) -> Self {
        let Operand { address, value_type, stride, transposed, .. } = *operand;
        let alignment = alignment(address, stride, value_type);
        Self { value_type, transposed, stride, alignment }
    }

    fn words(&self) -> String {
        let Self { value_type, transposed, stride, alignment } = self;
        let turned = if *transposed { "turned" } else { "plain" };
        format!("{value_type:?} {turned} {stride} {alignment}")
    }
}

impl PlanKey {
    pub(super) fn of(product: &Product<'_>) -> Self {
        let out = &product.out;
        let (value_type, stride) = (out.value_type, out.stride);
        let alignment = alignment(out.address, stride, value_type);
        Self {
            columns: product.columns,
            depth: product.depth,
            left: Side::of(&product.left),
            right: Side::of(&product.right),
            out: Side { value_type, transposed: false, stride, alignment },
            class: product.class,
            has_bias: product.bias.is_some(),
            adds: product.adds,
        }
    }

    /// Rows that an algorithm is chosen for: many, or all that a transposed left operand can have.
    pub(super) fn rows_typical(&self) -> usize {
        const ROWS_TYPICAL: usize = 8192;
        if self.left.transposed { self.left.stride.min(ROWS_TYPICAL) } else { ROWS_TYPICAL }
    }

    /// Rows that an algorithm must serve: one, odd ones, many; no more than a transposed left operand can have.
    pub(super) fn rows_checked(&self) -> impl Iterator<Item = usize> {
        let most = if self.left.transposed { self.left.stride } else { usize::MAX };
        [1, 17, 300, 65_536, self.rows_typical()].into_iter().filter(move |&rows| rows <= most)
    }

    /// Its name in a file of choices.
    pub(super) fn words(&self) -> String {
        let Self { columns, depth, class, has_bias, adds, .. } = self;
        let [left, right, out] = [&self.left, &self.right, &self.out].map(Side::words);
        format!("{columns} x {depth}, {left}, {right}, {out}, {class:?} {has_bias} {adds}")
    }
}

/// Choices of this and earlier processes.
pub(super) struct Choices {
    path: Option<PathBuf>,
    known: BTreeMap<String, Algorithm>,
}

impl Choices {
    /// Reads what was chosen before for this kind of device and this version of the library.
    pub(super) fn open(folder: Option<&Path>, device: &str, version: usize) -> Self {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let device: String = device.chars().map(plain).collect();
        let path = folder.map(|folder| folder.join(format!("products-{device}-{version}.txt")));
        let text = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        Self { path, known: parse(&text.unwrap_or_default()) }
    }

    /// What was chosen for a product.
    pub(super) fn get(&self, key: &PlanKey) -> Option<Algorithm> {
        self.known.get(&key.words()).copied()
    }

    /// Keeps a choice; a folder that cannot be written is done without.
    pub(super) fn put(&mut self, key: &PlanKey, algorithm: Algorithm) {
        if let Some(path) = &self.path {
            // What other processes chose meanwhile; the library chooses the same for all.
            let others = std::fs::read_to_string(path).unwrap_or_default();
            self.known.extend(parse(&others));
        }
        self.known.insert(key.words(), algorithm);
        if let Some(path) = &self.path {
            crate::cuda::nvrtc::keep(path, text(&self.known).as_bytes());
        }
    }
}

fn text(known: &BTreeMap<String, Algorithm>) -> String {
    let mut text = format!("{HEAD}\n");
    for (key, algorithm) in known {
        let words: Vec<String> = algorithm.iter().map(|word| format!("{word:016x}")).collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{key} = {}", words.join(" "));
    }
    text
}

/// Reads whole lines; what is not understood is chosen anew.
fn parse(text: &str) -> BTreeMap<String, Algorithm> {
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return BTreeMap::new();
    }
    let entry = |line: &str| {
        let (key, words) = line.split_once(" = ")?;
        let words: Option<Vec<u64>> =
            words.split(' ').map(|word| u64::from_str_radix(word, 16).ok()).collect();
        Some((key.to_owned(), words?.try_into().ok()?))
    };
    lines.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(columns: usize) -> PlanKey {
        let side = Side {
            value_type: ValueType::Bf16,
            transposed: false,
            stride: 1280,
            alignment: alignment(512, 1280, ValueType::Bf16),
        };
        PlanKey {
            columns,
            depth: 1280,
            left: side,
            right: side,
            out: side,
            class: ProductClass::F32,
            has_bias: true,
            adds: false,
        }
    }

    #[test]
    fn alignment_is_the_same_for_every_row() {
        for (stride, column, expected) in [(8, 0, 16), (7, 0, 2), (8, 4, 8), (6, 0, 4), (6, 1, 2)] {
            for row in 0..9 {
                let address = 256 + 2 * (row * stride + column) as u64;
                assert_eq!(alignment(address, stride, ValueType::Bf16), expected);
            }
        }
    }

    #[test]
    fn choices_are_found_again_by_the_next_process() {
        let folder = std::env::temp_dir().join(format!("glmeval-plans-{}", std::process::id()));
        let mut first = Choices::open(Some(&folder), "NVIDIA H200", 130_000);
        let mut second = Choices::open(Some(&folder), "NVIDIA H200", 130_000);
        first.put(&key(3840), [1, 2, 3, 4, 5, 6, 7, u64::MAX]);
        second.put(&key(5120), [8; 8]);
        let third = Choices::open(Some(&folder), "NVIDIA H200", 130_000);
        let newer = Choices::open(Some(&folder), "NVIDIA H200", 130_100);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(third.get(&key(3840)), Some([1, 2, 3, 4, 5, 6, 7, u64::MAX]));
        assert_eq!(third.get(&key(5120)), Some([8; 8]));
        assert_eq!(third.get(&key(1)), None);
        assert_eq!(newer.get(&key(3840)), None);
    }

    #[test]
    fn lines_that_are_cut_off_are_not_believed() {
        let known = BTreeMap::from([("a".to_owned(), [7; 8]), ("b".to_owned(), [8; 8])]);
        let text = text(&known);
        assert_eq!(parse(&text), known);
        let cut = &text[..text.len() - 20];
        assert_eq!(parse(cut), BTreeMap::from([("a".to_owned(), [7; 8])]));
        assert_eq!(parse("another format\na = 1 2 3 4 5 6 7 8\n"), BTreeMap::new());
    }
}
