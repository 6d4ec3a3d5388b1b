//! Readers that take files and messages from anywhere, each fed with arbitrary bytes.
//!
//! Leaves out: who makes the bytes up (libFuzzer, or a test that replays seeds). Invariant: a reader
//! takes the bytes or refuses them; it never panics.

use bytes::Bytes;
use glmeval_common::dataset::{Hdf5Layout, TableColumns, TaskName};
use glmeval_common::embedding::EmbeddingShard;
use glmeval_common::error::Result;
use glmeval_common::job::Job;
use glmeval_common::model::UndefinedBase;
use glmeval_common::plan::PlanEntry;
use glmeval_common::readers::bed::BedReader;
use glmeval_common::readers::fasta::FastaReader;
use glmeval_common::readers::genome::Genome;
use glmeval_common::readers::hdf5::Hdf5Reader;
use glmeval_common::readers::narrow_peak::NarrowPeakReader;
use glmeval_common::readers::table::TableReader;
use glmeval_common::readers::variants::{self, VariantFormat, VariantOptions};
use glmeval_common::readers::{ExampleReader, motifs};
use glmeval_common::unit::WorkUnit;
use glmeval_worker::tokenizer::{Tokenizer, UnknownLetters};
use glmeval_worker::tokenizers::{BpeTokenizer, GpnTokenizer};
use glmeval_worker::weights::Weights;
use std::io::Write;
use std::path::{Path, PathBuf};

/// One reader.
pub(crate) struct Target {
    /// As `cargo xtask fuzz` calls it, with seeds of its own in `xtask/src/fuzz/seeds.rs`.
    pub(crate) name: &'static str,
    /// Reads the bytes; what a reader needs as a file is written into the folder.
    pub(crate) read: fn(&Path, &[u8]),
}

/// All of them.
pub(crate) const ALL: &[Target] = &[
    Target { name: "torch", read: weights },
    Target { name: "pickle", read: pickle },
    Target { name: "safetensors", read: weights },
    Target { name: "keras", read: weights },
    Target { name: "hdf5", read: hdf5 },
    Target { name: "tokenizer", read: tokenizer },
    Target { name: "job", read: job },
    Target { name: "fasta", read: fasta },
    Target { name: "bed", read: bed },
    Target { name: "narrow-peak", read: narrow_peak },
    Target { name: "table", read: table },
    Target { name: "vcf", read: vcf },
    Target { name: "variant-table", read: variant_table },
    Target { name: "cagi", read: cagi },
    Target { name: "motifs", read: motif_file },
    Target { name: "shard", read: shard },
    Target { name: "unit", read: unit },
    Target { name: "plan", read: plan },
];

/// Examples of a file that are read before it counts as good.
const ROWS_MAX: usize = 10_000;
/// Tensors of a file whose numbers are read.
const TENSORS_MAX: usize = 64;

fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a scratch file");
    path
}

fn examples<R: ExampleReader>(opened: Result<R>) {
    let Ok(mut reader) = opened else { return };
    let mut rows = 0;
    while let Ok(found) = reader.read(64) {
        rows += found.len();
        if found.is_empty() || rows > ROWS_MAX {
            break;
        }
    }
    let _ = reader.notes();
}

fn weights(folder: &Path, bytes: &[u8]) {
    weights_of(&file(folder, "weights", bytes));
}

fn weights_of(path: &Path) {
    let Ok(weights) = Weights::open(path) else { return };
    for (name, tensor) in weights.tensors().take(TENSORS_MAX) {
        let _ = weights.take_f32(name, tensor.shape());
    }
    let _ = weights.digest();
}

/// The bytes as the pickle of a torch file with two storages of 256 bytes.
fn pickle(folder: &Path, bytes: &[u8]) {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default();
    let stored = stored.compression_method(zip::CompressionMethod::Stored);
    let storage = [7_u8; 256];
    for (name, entry) in
        [("data.pkl", bytes), ("version", b"3\n"), ("data/0", &storage), ("data/1", &storage)]
    {
        archive.start_file(format!("archive/{name}"), stored).expect("an entry");
        archive.write_all(entry).expect("an entry in memory");
    }
    let archive = archive.finish().expect("an archive in memory").into_inner();
    weights_of(&file(folder, "weights.bin", &archive));
}

fn hdf5(folder: &Path, bytes: &[u8]) {
    let path = file(folder, "examples.h5", bytes);
    for (layout, task) in [
        (Hdf5Layout::Binary, TaskName::ChipSeq),
        (Hdf5Layout::Folds, TaskName::LentiMpra),
        (Hdf5Layout::DeltaLogit, TaskName::Splicing),
    ] {
        examples(Hdf5Reader::open(&path, &layout, task, None));
    }
}

fn tokenizer(_: &Path, bytes: &[u8]) {
    let text = "ACGTACGTNNacgtRYACGGGTTTACG[SEP]";
    for unknown in [UnknownLetters::Replace, UnknownLetters::Refuse] {
        if let Ok(tokenizer) = BpeTokenizer::parse("tokenizer.json", bytes, 4_096, unknown) {
            let _ = (tokenizer.encode(text), tokenizer.lengths(text), tokenizer.digest());
        }
        let undefined = UndefinedBase::Pad;
        if let Ok(tokenizer) = GpnTokenizer::parse("tokenizer.json", bytes, 7, unknown, undefined) {
            let _ = (tokenizer.encode(text), tokenizer.lengths(text), tokenizer.digest());
        }
    }
}

fn job(folder: &Path, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Job::parse(text, "job.toml", folder);
    }
}

fn fasta(folder: &Path, bytes: &[u8]) {
    let path = file(folder, "sequences.fa", bytes);
    examples(FastaReader::open(&path, None));
    if let Ok(genome) = Genome::open(&path) {
        for contig in genome.contigs().iter().take(TENSORS_MAX) {
            let _ = genome.fetch(&contig.name, 0, contig.length.min(1 << 20));
        }
    }
}

/// A genome of one chromosome that regions are cut from.
fn genome(folder: &Path) -> PathBuf {
    let path = folder.join("genome.fa");
    if !path.exists() {
        let bases = "ACGTTGCAAC".repeat(100);
        let _ = file(folder, "genome.fa", format!(">chr1\n{bases}\n").as_bytes());
    }
    path
}

fn bed(folder: &Path, bytes: &[u8]) {
    let path = file(folder, "regions.bed", bytes);
    examples(BedReader::open(&path, &genome(folder), Some(20)));
    examples(BedReader::open(&path, &genome(folder), None));
}

fn narrow_peak(folder: &Path, bytes: &[u8]) {
    let path = file(folder, "peaks.narrowPeak", bytes);
    examples(NarrowPeakReader::open(&path, &genome(folder), Some(20)));
}

fn table(folder: &Path, bytes: &[u8]) {
    let columns = TableColumns {
        sequence: "sequence".to_owned(),
        split: Some("split".to_owned()),
        targets: vec!["target".to_owned()],
        ..TableColumns::default()
    };
    for name in ["rows.tsv", "rows.csv"] {
        let path = file(folder, name, bytes);
        examples(TableReader::open(&path, &columns, TaskName::Regression));
    }
}

fn variants_of(path: &Path, format: VariantFormat) {
    let options = VariantOptions { format: Some(format), ..VariantOptions::default() };
    let Ok(mut reader) = variants::open(path, &options) else { return };
    let mut rows = 0;
    while let Ok(Some(_)) = reader.next_variant() {
        rows += 1;
        if rows > ROWS_MAX {
            break;
        }
    }
}

fn vcf(folder: &Path, bytes: &[u8]) {
    variants_of(&file(folder, "variants.vcf", bytes), VariantFormat::Vcf);
}

fn variant_table(folder: &Path, bytes: &[u8]) {
    variants_of(&file(folder, "variants.tsv", bytes), VariantFormat::Table);
}

fn cagi(folder: &Path, bytes: &[u8]) {
    variants_of(&file(folder, "challenge_LDLR.tsv", bytes), VariantFormat::Cagi);
}

fn motif_file(folder: &Path, bytes: &[u8]) {
    let _ = motifs::read(&file(folder, "motifs.txt", bytes));
}

fn shard(_: &Path, bytes: &[u8]) {
    let _ = EmbeddingShard::decode(&Bytes::copy_from_slice(bytes), "shard");
}

fn unit(_: &Path, bytes: &[u8]) {
    let _ = rmp_serde::from_slice::<WorkUnit>(bytes);
}

fn plan(_: &Path, bytes: &[u8]) {
    let _ = rmp_serde::from_slice::<PlanEntry>(bytes);
}
