//! From arguments to experiments.
//!
//! Leaves out: predictions. Invariant: no two experiments have one name.

use super::{Arguments, Record};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_worker::importance::{
    Experiment, MapForm, MatchedMaps, PlacedMotif, important_sites, kept, position_scan, spacings,
};
use std::collections::BTreeSet;

/// Nucleotides on each side of an important base that are kept with it, as in the published study.
const REACH: usize = 2;

/// What an experiment is one of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// A set of motifs.
    Set,
    /// One place of a scan.
    Scan,
    /// One distance of two motifs.
    Spacing,
    /// Two motifs whose interaction is asked for.
    Pair,
    /// What a map calls important.
    Kept,
}

impl Group {
    /// Name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Scan => "scan",
            Self::Spacing => "spacing",
            Self::Pair => "pair",
            Self::Kept => "kept",
        }
    }
}

/// An experiment and what it is one of.
pub(super) struct Planned {
    pub(super) experiment: Experiment,
    pub(super) group: Group,
}

/// `NAME=LETTERS@FROM..TO/STEP`.
#[derive(Clone)]
pub(super) struct Scan {
    name: String,
    letters: DnaSequence,
    starts: Vec<usize>,
}

impl Scan {
    /// Reads a scan; the step is 1 where none is given.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected NAME=LETTERS@FROM..TO/STEP, found {text:?}");
        let (name, rest) = named(text);
        let (motif, places) = rest.split_once("..").ok_or_else(wrong)?;
        let motif = PlacedMotif::parse(motif)?;
        let (end, step) = places.split_once('/').unwrap_or((places, "1"));
        let whole = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let (end, step) = (whole(end)?, whole(step)?);
        if step == 0 || end <= motif.start {
            return Err(wrong());
        }
        let starts = (motif.start..end).step_by(step).collect();
        let name = name.unwrap_or(motif.letters.as_str()).to_owned();
        Ok(Self { name, letters: motif.letters, starts })
    }
}

/// `NAME=LETTERS@START,LETTERS+GAP+GAP`.
#[derive(Clone)]
pub(super) struct Spacing {
    name: String,
    first: PlacedMotif,
    second: DnaSequence,
    gaps: Vec<usize>,
}

impl Spacing {
    /// Reads distances of two motifs.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected NAME=LETTERS@START,LETTERS+GAP+GAP, found {text:?}");
        let (name, rest) = named(text);
        let (first, rest) = rest.split_once(',').ok_or_else(wrong)?;
        let first = PlacedMotif::parse(first)?;
        let mut parts = rest.split('+');
        let second = super::letters(parts.next().unwrap_or_default())?;
        let gaps = parts.map(|gap| gap.trim().parse::<usize>().map_err(|_| wrong()));
        let gaps: Vec<usize> = gaps.collect::<Result<_, _>>()?;
        if gaps.is_empty() {
            return Err(wrong());
        }
        let name = name.map_or_else(
            || format!("{}-{}", first.letters.as_str(), second.as_str()),
            str::to_owned,
        );
        Ok(Self { name, first, second, gaps })
    }
}

/// The name before `=`, if there is one.
fn named(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, rest)) if !name.trim().is_empty() => (Some(name.trim()), rest),
        _ => (None, text),
    }
}

/// All experiments on a sequence.
pub(super) fn planned(
    arguments: &Arguments,
    maps: Option<&MatchedMaps>,
    (place, id, sequence): &Record,
) -> Result<Vec<Planned>> {
    let mut all: Vec<Planned> = Vec::new();
    let mut add = |group: Group, experiments: Vec<Experiment>| {
        all.extend(experiments.into_iter().map(|experiment| Planned { experiment, group }));
    };
    add(Group::Set, arguments.motifs.clone());
    for scan in &arguments.scans {
        add(Group::Scan, position_scan(&scan.name, &scan.letters, &scan.starts));
    }
    for pair in &arguments.spacings {
        add(Group::Spacing, spacings(&pair.name, &pair.first, &pair.second, &pair.gaps));
    }
    for pair in &arguments.interactions {
        if pair.motifs.len() != 2 {
            let found = format!("{} of {}", pair.motifs.len(), pair.name);
            return Err(wrong("--interaction", "two motifs", &found));
        }
        add(Group::Pair, vec![pair.clone()]);
    }
    if let Some(maps) = maps {
        let map = maps.of((*place, id), sequence.len())?;
        for (name, form) in [("kept map", MapForm::Signed), ("kept |map|", MapForm::Absolute)] {
            let sites = important_sites(map, form, REACH)?;
            add(Group::Kept, vec![kept(name, sequence, &sites.kept)]);
        }
    }
    let mut names = BTreeSet::from(["shuffled"]);
    for planned in &all {
        let name = planned.experiment.name.as_str();
        if !names.insert(name) {
            return Err(wrong("--motifs", "a name of its own for each experiment", name));
        }
        // A motif without room is told of before anything is predicted.
        planned.experiment.embed(sequence)?;
    }
    Ok(all)
}

fn wrong(argument: &str, expected: &str, found: &str) -> Error {
    InputError::new("command line", argument, expected, found).into()
}
