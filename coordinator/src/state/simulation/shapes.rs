//! The jobs that worlds run: a few small plans, made once.
//!
//! Leaves out: what becomes of them. Invariant: units that write the same object have the same key.

use super::store::Key;
use crate::plan::tests as plans;
use glmeval_common::ids::SetId;
use glmeval_common::job::{JobDataset, JobModel};
use glmeval_common::model::Precision;
use glmeval_common::plan::{Plan, UnitSpec};
use std::sync::{Arc, LazyLock};

/// One unit as a worker of the world needs it.
#[derive(Clone, Debug)]
pub(super) struct SimUnit {
    pub(super) key: Key,
    pub(super) inputs: Vec<(u32, u32)>,
    /// Data set, first row, one past the last; for shards.
    pub(super) rows: Option<(usize, u64, u64)>,
    pub(super) is_report: bool,
}

/// A job of the world.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) plan: Arc<Plan>,
    pub(super) units: Vec<SimUnit>,
}

/// Name, data set, its rows, rows of a shard, precision.
const SHAPES: [(&str, usize, u64, u64, Precision); 6] = [
    ("tiny", 0, 12, 4, Precision::F32),
    ("small", 1, 40, 8, Precision::F32),
    ("shares the set of small", 1, 40, 8, Precision::F32),
    ("other cuts of small", 1, 40, 10, Precision::F32),
    ("wide", 2, 96, 4, Precision::F32),
    ("of another class", 3, 30, 5, Precision::Bf16),
];

/// Rows of each data set, for those who poison some.
pub(super) const DATASET_ROWS: [u64; 4] = [12, 40, 96, 30];

pub(super) static ALL: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    let mut sets = Vec::new();
    (0..SHAPES.len()).map(|index| shape(index, &mut sets)).collect()
});

fn shape(index: usize, sets: &mut Vec<SetId>) -> Shape {
    let (name, dataset, rows, shard_rows, precision) = SHAPES[index];
    let mut job = plans::job();
    job.name = name.into();
    job.shard_rows = Some(shard_rows);
    let JobModel { options, .. } = &mut job.models[0];
    options.precision = precision;
    let JobDataset { name, .. } = &mut job.datasets[0];
    *name = format!("D{dataset}");
    let plan = plans::planned_over(&job, &format!("d{dataset}"), rows);
    let units = plan.units().enumerate().map(|(unit, planned)| {
        let key = match planned.spec {
            UnitSpec::Extract { set, start, end, .. } => {
                let set = intern(sets, &plan.sets[set].id);
                Key::Shard { set, start, end }
            }
            UnitSpec::Prepare { .. } => Key::Dataset { dataset },
            UnitSpec::Fit(_) | UnitSpec::Report => Key::Unit { job: index, unit },
        };
        SimUnit {
            key,
            inputs: planned.prerequisites.to_vec(),
            rows: match planned.spec {
                UnitSpec::Extract { start, end, .. } => Some((dataset, start, end)),
                _ => None,
            },
            is_report: planned.spec == UnitSpec::Report,
        }
    });
    let units = units.collect();
    Shape { plan: Arc::new(plan), units }
}

fn intern(sets: &mut Vec<SetId>, id: &SetId) -> usize {
    sets.iter().position(|known| known == id).unwrap_or_else(|| {
        sets.push(id.clone());
        sets.len() - 1
    })
}
