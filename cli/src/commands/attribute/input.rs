//! The sequences that are mapped: read from their source, ranked, and handed out some at a time.
//!
//! Leaves out: maps. Invariant: without a ranking the source is read again for every pass, so memory does
//! not grow with it and it must not change in between.

use crate::interruption::Interruption;
use crate::progress::rows::RowProgress;
use crate::source_arguments::SourceArguments;
use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::example::{Example, Split};
use glmeval_common::job::{Job, JobSpec, Protocol, RepresentationSpec};
use glmeval_common::readers;
use glmeval_worker::attribution::{MAP_IDS_BYTES_MAX, Mapper, Named, Ranking, Sequences};

/// Sequences in memory at a time, but for those that a ranking keeps.
const SEQUENCES_PER_READ: usize = 64;

/// Bytes that an id takes in a file of maps beside its letters.
const ID_BYTES: usize = 3;

/// What was chosen.
pub(super) struct Chosen {
    /// Sequences.
    pub(super) count: u64,
    /// Length of the longest in nucleotides.
    pub(super) length: u64,
    /// Sequences that there were to choose from.
    pub(super) candidates: u64,
    /// In the order of their ranks; `None` = all, in the order of the source.
    held: Option<Vec<Named>>,
    /// Ids of all in the order of the source; `None` for a ranking, or if they are too long to be told.
    ids: Option<Vec<String>>,
}

impl Chosen {
    /// Ids in the order of the maps, unless these are all of the source and their ids too long.
    pub(super) fn ids(&self) -> Option<Vec<&str>> {
        match &self.held {
            Some(held) => Some(held.iter().map(|one| one.id.as_str()).collect()),
            None => Some(self.ids.as_ref()?.iter().map(String::as_str).collect()),
        }
    }
}

/// What was chosen of a source.
pub(super) struct Handed<'a>(pub(super) &'a Input, pub(super) &'a Chosen);

impl Sequences for Handed<'_> {
    fn each(&self, take: &mut dyn FnMut(&[Named]) -> Result<()>) -> Result<()> {
        match &self.1.held {
            Some(held) => held.chunks(SEQUENCES_PER_READ).try_for_each(take),
            None => self.0.read(&mut |sequences| take(&sequences)),
        }
    }

    fn told(&self, one: &Named, error: Error) -> Error {
        self.0.told(one, error)
    }
}

/// A source that can be read as often as needed.
pub(super) struct Input {
    source: DatasetSource,
    is_split: bool,
    place: String,
}

impl Input {
    /// Checks what the arguments say.
    pub(super) fn open(arguments: &SourceArguments, split: Option<&str>) -> Result<Self> {
        let representation =
            RepresentationSpec { one_hot: Some(true), ..RepresentationSpec::default() };
        let spec = JobSpec {
            name: "attribute".to_owned(),
            seed: 0,
            protocol: Protocol::default(),
            precision: None,
            shard_rows: None,
            models: Vec::new(),
            datasets: vec![arguments.spec(split)],
            representations: vec![representation],
            probes: Vec::new(),
            cost: None,
            schedule: None,
            attributions: Vec::new(),
        };
        let folder = std::env::current_dir()
            .map_err(|e| Error::unavailable("find the current folder").with_source(e))?;
        let job = Job::from_spec(spec, "command line", &folder)?;
        let source = job.datasets.into_iter().next().map(|dataset| dataset.source);
        let source = source.ok_or_else(|| Error::bug("a job without a data set"))?;
        let place = source.paths().first().map_or_else(String::new, |p| p.display().to_string());
        Ok(Self { source, is_split: split.is_some(), place })
    }

    /// Counts all sequences, which finds every defect of the source, and ranks them by the network's
    /// output where `top` bounds them.
    pub(super) fn choose(
        &self,
        top: Option<usize>,
        mapper: &mut Mapper<'_>,
        interrupted: &Interruption,
    ) -> Result<Chosen> {
        let (mut candidates, mut length) = (0, 0);
        let (mut ids, mut bytes) = (top.is_none().then(Vec::new), 0);
        self.read(&mut |sequences| {
            candidates += sequences.len() as u64;
            length = sequences.iter().map(|one| one.sequence.len() as u64).fold(length, u64::max);
            interrupted.check()?;
            bytes += sequences.iter().map(|one| one.id.len() + ID_BYTES).sum::<usize>();
            ids = ids.take().filter(|_| bytes < MAP_IDS_BYTES_MAX);
            ids.iter_mut().for_each(|ids| ids.extend(sequences.iter().map(|one| one.id.clone())));
            let check =
                |one: &Named| mapper.check_length(&one.sequence).map_err(|e| self.told(one, e));
            sequences.iter().try_for_each(check)
        })?;
        if candidates == 0 {
            let found = if self.is_split { "none of the test split" } else { "0 rows" };
            return Err(InputError::new(&self.place, "", "at least one sequence", found).into());
        }
        let Some(top) = top else {
            return Ok(Chosen { count: candidates, length, candidates, held: None, ids });
        };
        let mut ranking = Ranking::new(top);
        let mut progress = RowProgress::new("rank", candidates);
        self.read(&mut |sequences| {
            interrupted.check()?;
            let count = sequences.len() as u64;
            ranking.take(mapper, sequences)?;
            progress.advance(count);
            Ok(())
        })?;
        progress.finish();
        let held = ranking.finish();
        let length = held.iter().map(|one| one.sequence.len() as u64).max().unwrap_or(0);
        Ok(Chosen { count: held.len() as u64, length, candidates, held: Some(held), ids: None })
    }

    fn told(&self, one: &Named, error: Error) -> Error {
        error.context(format!("{}: sequence {} (row {})", self.place, one.id, one.row))
    }

    fn read(&self, take: &mut dyn FnMut(Vec<Named>) -> Result<()>) -> Result<()> {
        let mut reader = readers::open(&self.source, TaskName::None)?;
        let mut row = 0;
        loop {
            let examples = reader.read(SEQUENCES_PER_READ)?;
            if examples.is_empty() {
                return Ok(());
            }
            let mut named = Vec::with_capacity(examples.len());
            for example in examples {
                if !self.is_split || example.split == Some(Split::Test) {
                    named.push(self.named(row, example)?);
                }
                row += 1;
            }
            if !named.is_empty() {
                take(named)?;
            }
        }
    }

    fn named(&self, row: u64, example: Example) -> Result<Named> {
        let count = example.sequences.len();
        match <[DnaSequence; 1]>::try_from(example.sequences) {
            Ok([sequence]) => Ok(Named { row, id: example.id, sequence }),
            Err(_) => {
                let place = format!("row {row}");
                let found = format!("{count} sequences");
                Err(InputError::new(&self.place, place, "one sequence", found).into())
            }
        }
    }
}
