//! Prints tokens/s and GFLOP/s of a gLM's forward pass by batch size.
//!
//!     cargo run --release -p glmeval-worker --example embed_rate -- FOLDER LENGTH [TOKENS_PER_BATCH]...
//!
//! Leaves out: reading, pooling, writing. Invariant: every batch holds sequences of LENGTH nucleotides.
#![expect(clippy::disallowed_methods, reason = "a stop watch is the point of this program")]
#![expect(clippy::print_stdout, reason = "a table for a person")]

use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, Result};
use glmeval_worker::model::{LayerRequest, TokenBatch};
use glmeval_worker::models;
use std::path::Path;
use std::time::Instant;

/// Forward passes per batch size; the best counts.
const REPETITIONS: usize = 5;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || Error::invalid("expected FOLDER LENGTH [TOKENS_PER_BATCH]...");
    let folder = arguments.next().ok_or_else(usage)?;
    let mut number = || arguments.next().map(|text| text.parse::<usize>().map_err(|_| usage()));
    let length = number().ok_or_else(usage)??;
    let model = models::open(Path::new(&folder))?;
    let letters: String = (0..length).map(|i| char::from(b"ACGT"[i * i % 251 % 4])).collect();
    let sequence = DnaSequence::new(letters).map_err(|_| usage())?;
    let ids = model.tokenize(&sequence)?;
    let facts = model.facts();
    let flops = facts.flops(ids.len() as u64, facts.layer_count);
    let request = LayerRequest::new(&[facts.layer_count], facts.layer_count)?;
    while let Some(budget) = number() {
        let count = (budget? / ids.len()).max(1);
        let batch = TokenBatch::pack((0..count).map(|_| ids.as_slice()));
        let mut seconds = f64::INFINITY;
        for _ in 0..REPETITIONS {
            let start = Instant::now();
            model.forward(&batch, &request, &mut |_, _| {})?;
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        let (rate, tokens) = (count as f64 / seconds, batch.token_count());
        println!(
            "{tokens:6} tokens a batch: {rate:9.1} sequences/s {:9.0} tokens/s {:7.1} GFLOP/s",
            tokens as f64 / seconds,
            rate * flops / 1e9
        );
    }
    Ok(())
}
