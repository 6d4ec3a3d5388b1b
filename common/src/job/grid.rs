//! What makes one job file a whole grid: several data sets in one table, and filters on tables.
//!
//! Leaves out: the checks (check/grid), what the archive has (worker). Invariant: a filter takes away
//! from a grid and never adds to it; what is left out filters nothing.

use super::{JobEmbedding, LayerTable};
use crate::dataset::TaskName;
use crate::representation::SequenceFeature;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

#[cfg(test)]
mod tests;

/// Names of the sets that an archive has of a task.
pub type SetsOfTask<'a> = dyn Fn(TaskName) -> Vec<String> + 'a;

/// `names` of a `[[dataset]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SetNames {
    /// `"all"`.
    Word(String),
    /// Names.
    List(Vec<String>),
}

/// A checked sequence feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFeature {
    /// Which.
    pub feature: SequenceFeature,
    /// Indices into [`super::Job::datasets`]; `None` = all.
    pub dataset_indices: Option<BTreeSet<usize>>,
}

impl JobFeature {
    /// Whether it is computed on data set `dataset`.
    pub fn reads(&self, dataset: usize) -> bool {
        self.dataset_indices.as_ref().is_none_or(|indices| indices.contains(&dataset))
    }
}

impl JobEmbedding {
    /// Whether it is computed on data set `dataset`.
    pub fn reads(&self, dataset: usize) -> bool {
        self.dataset_indices.as_ref().is_none_or(|indices| indices.contains(&dataset))
    }
}

impl From<SequenceFeature> for JobFeature {
    fn from(feature: SequenceFeature) -> Self {
        Self { feature, dataset_indices: None }
    }
}

/// `layers` of a `[[probe]]` table: layers of gLMs to read, or those of a user's own network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ProbeLayers {
    /// 1-based numbers of layers of gLMs.
    Numbers(Vec<u32>),
    /// Layers of a network.
    Tables(Vec<LayerTable>),
}

impl ProbeLayers {
    /// Layers of gLMs, if that is what was written.
    pub fn numbers(&self) -> Option<&[u32]> {
        match self {
            Self::Numbers(numbers) => Some(numbers),
            Self::Tables(_) => None,
        }
    }

    /// Layers of a network, if that is what was written.
    pub fn tables(&self) -> Option<&[LayerTable]> {
        match self {
            Self::Tables(tables) => Some(tables),
            Self::Numbers(_) => None,
        }
    }
}

/// Read by the kind of its first entry, so that a defect in a table is told as that of a table.
impl<'de> Deserialize<'de> for ProbeLayers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(LayersVisitor)
    }
}

struct LayersVisitor;

impl<'de> Visitor<'de> for LayersVisitor {
    type Value = ProbeLayers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of layer numbers, or of tables that describe a network")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ProbeLayers, A::Error> {
        let (mut numbers, mut tables) = (Vec::new(), Vec::new());
        match list.next_element()? {
            None => return Ok(ProbeLayers::Tables(tables)),
            Some(Entry::Table(table)) => tables.push(*table),
            Some(Entry::Number(number)) => numbers.push(number),
        }
        if tables.is_empty() {
            while let Some(number) = list.next_element()? {
                numbers.push(number);
            }
            return Ok(ProbeLayers::Numbers(numbers));
        }
        while let Some(table) = list.next_element()? {
            tables.push(table);
        }
        Ok(ProbeLayers::Tables(tables))
    }
}

/// The first entry of the list.
enum Entry {
    Number(u32),
    Table(Box<LayerTable>),
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a layer number, or a table that describes a layer")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Entry, E> {
        let number = u32::try_from(number);
        number.map(Entry::Number).map_err(|_| E::custom("expected a layer number"))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        let table = LayerTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Entry::Table(Box::new(table)))
    }
}
