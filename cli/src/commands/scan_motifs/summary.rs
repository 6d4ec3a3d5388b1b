//! What is told at the end: the motifs that occur most, or are enriched most.

use super::Arguments;
use crate::output::{Format, Table, complain, say, say_json};
use glmeval_common::error::Result;
use glmeval_common::readers::motifs::MotifSet;
use glmeval_worker::motifs::{Enrichment, Scan};
use serde::Serialize;
use std::collections::BTreeSet;
use std::process::ExitCode;

/// Motifs that are listed.
const MOTIFS_SHOWN_MAX: usize = 20;

/// The document of `--format json`.
#[derive(Serialize)]
struct Document {
    out: String,
    hits: usize,
    motifs: Vec<Row>,
}

/// One motif.
#[derive(Serialize)]
struct Row {
    motif: String,
    hits: usize,
    sequences: usize,
    /// Least p of a hit.
    p_hit: Option<f64>,
    fold: Option<f64>,
    p: Option<f64>,
    q: Option<f64>,
}

/// Prints motifs with hits or, with peaks, all of them by enrichment.
pub(super) fn tell(
    arguments: &Arguments,
    set: &MotifSet,
    scan: &Scan,
    found: Option<&[Enrichment]>,
) -> Result<ExitCode> {
    let mut rows: Vec<Row> = Vec::new();
    for (index, motif) in set.motifs.iter().enumerate() {
        let hits: Vec<_> = scan.hits.iter().filter(|hit| hit.motif == index).collect();
        let enrichment = found.and_then(|found| found.get(index));
        if hits.is_empty() && enrichment.is_none() {
            continue;
        }
        rows.push(Row {
            motif: motif.label(),
            hits: hits.len(),
            sequences: hits.iter().map(|hit| hit.sequence).collect::<BTreeSet<_>>().len(),
            p_hit: hits.iter().map(|hit| hit.p).min_by(f64::total_cmp),
            fold: enrichment.map(|found| found.fold),
            p: enrichment.map(|found| found.p),
            q: enrichment.map(|found| found.q),
        });
    }
    let by = |row: &Row| (row.p.unwrap_or(0.0), row.p_hit.unwrap_or(1.0));
    rows.sort_by(|a, b| {
        let ((p, hit), (other_p, other_hit)) = (by(a), by(b));
        let sequences = b.sequences.cmp(&a.sequences);
        p.total_cmp(&other_p).then(sequences).then(hit.total_cmp(&other_hit))
    });
    let out = arguments.out.display().to_string();
    let (hits, with_hits) = (scan.hits.len(), rows.iter().filter(|row| row.hits > 0).count());
    complain(&format!("{hits} occurrences of {with_hits} of {} motifs: {out}", set.motifs.len()));
    if arguments.format == Format::Json {
        say_json(&Document { out, hits, motifs: rows })?;
        return Ok(ExitCode::SUCCESS);
    }
    let small = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2e}"));
    let header: &[&str] = &["motif", "hits", "sequences", "least p"];
    let more: &[&str] = &["fold", "p enriched", "q enriched"];
    let header = if found.is_some() { [header, more].concat() } else { header.to_vec() };
    let mut table = Table::new(&header);
    for row in rows.iter().take(MOTIFS_SHOWN_MAX) {
        let mut cells = vec![
            row.motif.clone(),
            row.hits.to_string(),
            row.sequences.to_string(),
            small(row.p_hit),
        ];
        if found.is_some() {
            let fold = row.fold.map_or("-".to_owned(), |fold| format!("{fold:.2}"));
            cells.extend([fold, small(row.p), small(row.q)]);
        }
        table.row(cells);
    }
    say(&table.text(arguments.format));
    if rows.len() > MOTIFS_SHOWN_MAX {
        complain(&format!("the first {MOTIFS_SHOWN_MAX} of {} motifs are listed", rows.len()));
    }
    Ok(ExitCode::SUCCESS)
}
