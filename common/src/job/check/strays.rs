//! Keys of a table that say nothing of what the table is.
//!
//! Leaves out: keys of probes (probes). Invariant: a key that would be read by nobody is refused with what
//! it belongs to, never ignored.

use super::{POOLINGS_DEFAULT, Place};
use crate::error::InputError;
use crate::job::{DatasetSpec, RepresentationSpec};
use crate::representation::Pooling;

/// Sources whose examples may be divided by a rule; that windows have no examples is told elsewhere.
const DIVIDED: &[&str] = &[
    "fasta",
    "bed",
    "narrowpeak",
    "windows",
    "table",
    "parquet",
    "hdf5",
    "psi",
    "peaks",
    "tfrecord",
];

/// Refuses keys of a data set that its `source` does not have.
pub(super) fn check_dataset(
    at: (&Place<'_>, &str),
    spec: &DatasetSpec,
    source: &str,
) -> Result<(), InputError> {
    let keys: [(&str, bool, &[&str]); 19] = [
        (
            "genome",
            spec.genome.is_some(),
            &["bed", "narrowpeak", "variants", "psi", "peaks", "archive"],
        ),
        ("window", spec.window.is_some(), &["bed", "narrowpeak", "windows", "variants", "peaks"]),
        ("stride", spec.stride.is_some(), &["windows"]),
        ("undefined_share_max", spec.undefined_share_max.is_some(), &["windows"]),
        ("columns", spec.columns.is_some(), &["table", "parquet"]),
        ("layout", spec.layout.is_some(), &["hdf5"]),
        ("length", spec.length.is_some(), &["hdf5"]),
        ("keys", spec.keys.is_some(), &["hdf5"]),
        ("elements", spec.elements.is_some(), &["variants"]),
        ("variant_columns", spec.variant_columns.is_some(), &["variants"]),
        ("indels", spec.indels.is_some(), &["variants"]),
        ("split", spec.split.is_some(), DIVIDED),
        ("tissues", spec.tissues.is_some(), &["psi"]),
        ("negatives", spec.negatives.is_some(), &["peaks"]),
        ("accessible", spec.accessible.is_some(), &["peaks"]),
        ("exclude", spec.exclude.is_some(), &["peaks"]),
        ("same_chromosomes", spec.same_chromosomes.is_some(), &["peaks"]),
        ("seed", spec.seed.is_some(), &["peaks"]),
        ("set", spec.set.is_some(), &["archive"]),
    ];
    refuse(at, &keys, &[source])
}

/// Refuses keys of a representation that only one of a gLM has, or only another pooling.
pub(super) fn check_representation(
    at: (&Place<'_>, &str),
    spec: &RepresentationSpec,
) -> Result<(), InputError> {
    const OF_MODEL: &[&str] = &["model"];
    let keys = [
        ("layers", spec.layers.is_some(), OF_MODEL),
        ("pooling", spec.pooling.is_some(), OF_MODEL),
        ("dtype", spec.dtype.is_some(), OF_MODEL),
        ("strands", spec.strands.is_some(), OF_MODEL),
        ("mean_over", spec.mean_over.is_some(), OF_MODEL),
        ("full_rows", spec.full_rows.is_some(), OF_MODEL),
        ("zero_shot", spec.zero_shot.is_some(), OF_MODEL),
        ("scores", spec.scores.is_some(), OF_MODEL),
        ("both_strands", spec.both_strands.is_some(), OF_MODEL),
        ("pad_to", spec.pad_to.is_some(), OF_MODEL),
        ("padding", spec.padding.is_some(), OF_MODEL),
        ("undefined_bases", spec.undefined_bases.is_some(), OF_MODEL),
        ("mean_over", spec.mean_over.is_some(), &["pooling mean"]),
        ("full_rows", spec.full_rows.is_some(), &["pooling full"]),
    ];
    let poolings = spec.pooling.as_deref().unwrap_or(POOLINGS_DEFAULT);
    // Scores of variants have neither; that is told where they are checked.
    let has = |pooling| spec.zero_shot == Some(true) || poolings.contains(&pooling);
    let own = [
        ("model", spec.model.is_some()),
        ("pooling mean", has(Pooling::Mean)),
        ("pooling full", has(Pooling::Full)),
    ];
    let own: Vec<&str> = own.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    refuse(at, &keys, &own)
}

/// Refuses the first of `keys`, each with whether it is given and what has it, that nothing of `own` has.
fn refuse(
    (place, key): (&Place<'_>, &str),
    keys: &[(&str, bool, &[&str])],
    own: &[&str],
) -> Result<(), InputError> {
    let is_stray = |(_, is_given, of): &&(&str, bool, &[&str])| {
        *is_given && !of.iter().any(|name| own.contains(name))
    };
    let Some((name, _, of)) = keys.iter().find(is_stray) else { return Ok(()) };
    let of = one_of(of);
    let expected = format!("no such key, as it belongs to {of}");
    Err(place.wrong(&format!("{key}.{name}"), expected, format!("{name} without {of}")))
}

/// `a, b or c`.
fn one_of(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        names => names.concat(),
    }
}
