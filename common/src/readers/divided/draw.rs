//! Fractions of a data set, drawn at random: the same ones whatever the order of its rows.
//!
//! Leaves out: reading columns (`labels`). Invariant: counts are the shares of the number of examples,
//! rounded to whole numbers that add up; a group is in one split.

use super::labels::Labels;
use crate::dataset::{DatasetSource, TaskName};
use crate::error::{Error, InputError, Result};
use crate::example::{Example, ExampleSchema, Split};
use crate::leakage::{canonical_digest, digest};
use crate::readers::open;
use crate::split_rule::SplitRule;
use std::collections::BTreeMap;

/// Examples read at a time.
const ROWS_PER_READ: usize = 1_024;
/// Examples at most; each takes about 40 bytes while they are drawn.
const ROWS_MAX: usize = 1 << 26;

/// What decides where one example goes.
struct Drawn {
    /// Its class or all the same, then a random number that its content decides.
    key: (u8, u128),
    /// Tells examples of one content apart, where ids do.
    id: u64,
    row: u32,
}

/// The split of every row of `source`.
///
/// # Errors
/// As reading; `Invalid` for more examples than fit, a stratified target that is not one of 0 and 1.
pub(super) fn draw(
    source: &DatasetSource,
    rule: &SplitRule,
    task: TaskName,
    schema: &ExampleSchema,
) -> Result<Vec<Split>> {
    let SplitRule::Fractions { shares, seed, stratify, group } = rule else {
        return Err(Error::bug("only fractions are drawn"));
    };
    let file = source.paths().first().map_or(String::new(), |path| path.display().to_string());
    if *stratify && (!task.is_binary() || schema.targets.len() != 1) {
        let expected = "one target of a binary task to stratify by";
        let found = format!("{} targets of task {}", schema.targets.len(), task.name());
        return Err(InputError::new(file, "split.stratify", expected, found).into());
    }
    let mut labels = match group {
        Some(group) if !is_sequence(source, group) => Labels::open(source, group)?,
        _ => Labels::None,
    };
    let (mut reader, mut all) = (open(source, task)?, Vec::new());
    loop {
        let examples = reader.read(ROWS_PER_READ)?;
        if examples.is_empty() {
            break;
        }
        let values = labels.read(&examples)?;
        for (i, example) in examples.iter().enumerate() {
            let row = u32::try_from(all.len()).ok().filter(|_| all.len() < ROWS_MAX);
            let row = row.ok_or_else(|| {
                let expected = format!("at most {ROWS_MAX} examples to draw fractions from");
                InputError::new(&file, "split.fractions", expected, "more")
            })?;
            let class = if *stratify { class(example) } else { 0 };
            let key = match (group, values.get(i)) {
                (None, _) => keyed(*seed, &content(example)),
                (Some(_), Some(label)) => keyed(*seed, label.as_bytes()),
                (Some(_), None) => keyed(*seed, &canonical_digest(example).0.to_le_bytes()),
            };
            let id = keyed(*seed, example.id.as_bytes()) as u64;
            all.push(Drawn { key: (class, key), id, row });
        }
    }
    all.sort_unstable_by_key(|drawn| (drawn.key, drawn.id, drawn.row));
    Ok(match group {
        None => by_example(&all, shares),
        Some(_) => by_group(&all, shares),
    })
}

/// Whether a group is the sequence itself: then reverse complements stay together too.
fn is_sequence(source: &DatasetSource, group: &str) -> bool {
    match source {
        DatasetSource::Table { columns, .. } | DatasetSource::Parquet { columns, .. } => {
            columns.sequence == group
        }
        _ => group == "sequence",
    }
}

fn class(example: &Example) -> u8 {
    match example.targets.first() {
        Some(target) if *target == 0.0 => 0,
        Some(target) if *target == 1.0 => 1,
        _ => 2,
    }
}

/// Everything of an example but its id, which may be its row.
fn content(example: &Example) -> Vec<u8> {
    let mut bytes = Vec::new();
    for sequence in &example.sequences {
        bytes.extend((sequence.len() as u64).to_le_bytes());
        bytes.extend(sequence.as_bytes());
    }
    if let Some(interval) = &example.interval {
        bytes.extend(interval.chromosome.as_bytes());
        bytes.extend(interval.start.to_le_bytes());
    }
    bytes.extend(example.targets.iter().flat_map(|target| target.to_le_bytes()));
    bytes
}

fn keyed(seed: u64, content: &[u8]) -> u128 {
    digest(&[b"split", &seed.to_le_bytes(), content])
}

/// How many of `count` each split gets: floors of the shares, the rest to the largest remainders.
fn counts(shares: &[f64; 3], count: usize) -> [usize; 3] {
    // A share such as 0.1 of 30 must be 3, though the product in floats is a little more or less.
    let exact = shares.map(|share| (share * count as f64 * 1e9).round() / 1e9);
    let mut counts = exact.map(|exact| exact as usize);
    let mut rest: Vec<(usize, f64)> = exact.iter().map(|exact| exact.fract()).enumerate().collect();
    rest.sort_by(|a, b| b.1.total_cmp(&a.1));
    let given: usize = counts.iter().sum();
    for (split, _) in rest.iter().cycle().take(count.saturating_sub(given)) {
        if let Some(count) = counts.get_mut(*split) {
            *count += 1;
        }
    }
    counts
}

fn by_example(sorted: &[Drawn], shares: &[f64; 3]) -> Vec<Split> {
    let mut splits = vec![Split::Train; sorted.len()];
    for class in sorted.chunk_by(|a, b| a.key.0 == b.key.0) {
        let [train, valid, _] = counts(shares, class.len());
        for (i, drawn) in class.iter().enumerate() {
            let split = match i {
                i if i < train => Split::Train,
                i if i < train + valid => Split::Valid,
                _ => Split::Test,
            };
            set(&mut splits, drawn, split);
        }
    }
    splits
}

/// Groups in random order, each to the split that lacks most examples; the last groups go to splits that
/// are still empty.
fn by_group(sorted: &[Drawn], shares: &[f64; 3]) -> Vec<Split> {
    let mut splits = vec![Split::Train; sorted.len()];
    let wanted = counts(shares, sorted.len());
    let mut given: BTreeMap<usize, usize> = BTreeMap::new();
    let groups: Vec<&[Drawn]> = sorted.chunk_by(|a, b| a.key == b.key).collect();
    for (i, group) in groups.iter().enumerate() {
        let left = groups.len() - i;
        let lack = |split: &usize| {
            let wanted = wanted.get(*split).copied().unwrap_or(0) as i64;
            wanted - given.get(split).copied().unwrap_or(0) as i64
        };
        let is_empty = |split: &usize| {
            !given.contains_key(split) && shares.get(*split).is_some_and(|share| *share > 0.0)
        };
        let open: Vec<usize> = (0..3).filter(|split| shares.get(*split) > Some(&0.0)).collect();
        let empty: Vec<usize> = open.iter().copied().filter(is_empty).collect();
        let choices = if !empty.is_empty() && left <= empty.len() { empty } else { open };
        let Some(split) = choices.into_iter().rev().max_by_key(lack) else { continue };
        *given.entry(split).or_default() += group.len();
        for drawn in *group {
            set(&mut splits, drawn, Split::ALL.get(split).copied().unwrap_or(Split::Train));
        }
    }
    splits
}

fn set(splits: &mut [Split], drawn: &Drawn, split: Split) {
    if let Some(place) = usize::try_from(drawn.row).ok().and_then(|row| splits.get_mut(row)) {
        *place = split;
    }
}
