//! Keys of a table that say nothing of what the table is.
//!
//! Leaves out: keys of probes (probes). Invariant: a key that would be read by nobody is refused with what
//! it belongs to, never ignored.

use super::Place;
use crate::error::InputError;
use crate::job::{DatasetSpec, RepresentationSpec};

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
    (place, key): (&Place<'_>, &str),
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
    let stray = keys.into_iter().find(|(_, is_given, of)| *is_given && !of.contains(&source));
    let Some((name, _, of)) = stray else { return Ok(()) };
    let of = one_of(of);
    let expected = format!("no such key, as it belongs to {of}");
    Err(place.wrong(&format!("{key}.{name}"), expected, format!("{name} without {of}")))
}

/// Refuses keys of a representation without a gLM that only one of a gLM has.
pub(super) fn check_representation(
    (place, key): (&Place<'_>, &str),
    spec: &RepresentationSpec,
) -> Result<(), InputError> {
    let keys = [
        ("layers", spec.layers.is_some()),
        ("pooling", spec.pooling.is_some()),
        ("dtype", spec.dtype.is_some()),
        ("strands", spec.strands.is_some()),
        ("mean_over", spec.mean_over.is_some()),
        ("full_rows", spec.full_rows.is_some()),
        ("zero_shot", spec.zero_shot.is_some()),
        ("scores", spec.scores.is_some()),
        ("both_strands", spec.both_strands.is_some()),
        ("pad_to", spec.pad_to.is_some()),
        ("padding", spec.padding.is_some()),
        ("undefined_bases", spec.undefined_bases.is_some()),
    ];
    match keys.into_iter().find(|(_, is_given)| *is_given && spec.model.is_none()) {
        None => Ok(()),
        Some((name, _)) => {
            let expected = "no such key, as it belongs to model";
            let found = format!("{name} without model");
            Err(place.wrong(&format!("{key}.{name}"), expected, found))
        }
    }
}

/// `a, b or c`.
fn one_of(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        names => names.concat(),
    }
}
