//! What every file must say of a variant: a position from 1, two alleles that differ.
//!
//! Leaves out: where fields stand in a line. Invariant: every defect names the column.

use crate::error::{Error, Result};
use crate::readers::text::excerpt;
use crate::variant::{Indels, base};

/// Makes the error of a field from its column, what was expected and what was found.
pub(super) type Defect<'a> = &'a dyn Fn(&str, &str, String) -> Error;

/// A field and the column it stands in.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) column: &'a str,
    pub(super) text: &'a str,
}

/// The name of a chromosome.
pub(super) fn chromosome(field: Field<'_>, defect: Defect<'_>) -> Result<String> {
    match field.text.trim_ascii() {
        "" => Err(defect(field.column, "a chromosome", excerpt(b""))),
        name => Ok(name.to_owned()),
    }
}

/// A position, from 1.
pub(super) fn position(field: Field<'_>, defect: Defect<'_>) -> Result<u64> {
    let parsed = field.text.trim_ascii().parse::<u64>().ok().filter(|&position| position > 0);
    parsed
        .ok_or_else(|| defect(field.column, "an integer from 1 on", excerpt(field.text.as_bytes())))
}

/// Both alleles, those of letters alone in upper case.
pub(super) fn alleles(
    reference: Field<'_>,
    alternative: Field<'_>,
    indels: Indels,
    defect: Defect<'_>,
) -> Result<(String, String)> {
    let [from, to] = [reference, alternative].map(|field| {
        let allele = field.text.trim_ascii();
        // Symbolic alleles and breakends hold names, which keep their case.
        let is_letters = allele.bytes().all(|letter| letter.is_ascii_alphabetic());
        if is_letters { allele.to_ascii_uppercase() } else { allele.to_owned() }
    });
    for (field, allele) in [(reference, &from), (alternative, &to)] {
        if base(allele).is_none() && (allele.is_empty() || indels == Indels::Refuse) {
            let expected =
                "a single base, A, C, G or T (--indels skip leaves other variants without a score)";
            return Err(defect(field.column, expected, excerpt(field.text.as_bytes())));
        }
    }
    if from == to {
        let expected = "an alternative that differs from the reference";
        return Err(defect(alternative.column, expected, excerpt(to.as_bytes())));
    }
    Ok((from, to))
}

/// A finite number.
pub(super) fn number(field: Field<'_>, defect: Defect<'_>) -> Result<f64> {
    let parsed = field.text.trim_ascii().parse::<f64>().ok().filter(|value| value.is_finite());
    parsed.ok_or_else(|| defect(field.column, "a finite number", excerpt(field.text.as_bytes())))
}
