//! Small jobs and their input files, drawn from a seed.
//!
//! Leaves out: golden data. Invariant: the same seed gives the same bytes.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::glmeval::model;
use std::path::Path;

/// A small generator (Steele et al. 2014, SplitMix64); not for statistics.
pub struct Draw(u64);

impl Draw {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }

    /// A DNA sequence.
    pub fn dna(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(b"ACGT"[self.below(4) as usize])).collect()
    }
}

/// Columns `id seq part bound activity`: 60% train, 20% valid, 20% test; targets follow composition.
pub fn table(rows: usize, length: usize) -> String {
    let mut draw = Draw::new(17);
    let mut text = "id\tseq\tpart\tbound\tactivity\n".to_owned();
    for row in 0..rows {
        let sequence = draw.dna(length);
        let part = ["train", "train", "train", "valid", "test"][row % 5];
        let count = |letter| sequence.matches(letter).count();
        let bound = u8::from(4 * count('G') > length);
        let activity = count('C') as f64 / 10.0 + draw.below(100) as f64 / 100.0;
        text.push_str(&format!("e{row}\t{sequence}\t{part}\t{bound}\t{activity}\n"));
    }
    text
}

/// Writes `data.tsv` and `job.toml`: two data sets, every kind of probe, gLM and sequence features.
///
/// # Panics
/// If the files cannot be written.
pub fn write_small_job(folder: &Path, shard_rows: u64) {
    std::fs::write(folder.join("data.tsv"), table(200, 60)).unwrap();
    std::fs::write(folder.join("job.toml"), small_job(shard_rows)).unwrap();
}

fn small_job(shard_rows: u64) -> String {
    let mut text = head(shard_rows) + "layers = [0, 2, 4]\npooling = [\"cls\", \"mean\"]\n";
    for (name, task, target) in
        [("binding", "chip-seq", "bound"), ("activity", "regression", "activity")]
    {
        text.push_str(&dataset(name, task, target));
    }
    text.push_str("[[representation]]\none_hot = true\n[[representation]]\nkmer = 3\n");
    text.push_str("[[probe]]\nkind = \"logistic\"\n[[probe]]\nkind = \"ridge\"\nalpha = 1.0\n");
    text.push_str("datasets = [\"activity\"]\n");
    text + "[[probe]]\nkind = \"least-squares\"\ndatasets = [\"activity\"]\n"
}

/// Writes `data.tsv` and `job.toml`: one data set of many small shards, and one ridge fit per layer.
///
/// # Panics
/// If the files cannot be written.
pub fn write_long_job(folder: &Path, rows: usize, shard_rows: u64) {
    std::fs::write(folder.join("data.tsv"), table(rows, 400)).unwrap();
    let text = head(shard_rows) + "layers = [2, 4]\n" + &dataset("long", "regression", "activity");
    let probe = "[[probe]]\nkind = \"ridge\"\nalpha = 1.0\n";
    std::fs::write(folder.join("job.toml"), text + probe).unwrap();
}

fn head(shard_rows: u64) -> String {
    let model = model().display().to_string();
    format!(
        "name = \"small\"\nseed = 3\nshard_rows = {shard_rows}\n[[model]]\nname = \"NT\"\n\
         path = {model:?}\n[[representation]]\nmodel = \"NT\"\n"
    )
}

fn dataset(name: &str, task: &str, target: &str) -> String {
    format!(
        "[[dataset]]\nname = {name:?}\ntask = {task:?}\ntable = \"data.tsv\"\ncolumns = {{ \
         sequence = \"seq\", id = \"id\", split = \"part\", targets = [{target:?}] }}\n"
    )
}
