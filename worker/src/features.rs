//! Features computed from sequences alone: one-hot, k-mer counts and shares of nucleotides.
//!
//! Leaves out: embeddings (representation). Invariant: an undefined letter contributes
//! nothing, or what an A does where a job asks for that.

use crate::probe::Matrix;
use glmeval_common::dna::{BASES, DnaSequence};
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::representation::{SequenceFeature, UndefinedInKmers};

/// Longest k-mer that is counted: 4^8 = 65,536 columns.
const K_MAX: u32 = 8;
/// Largest feature matrix in bytes.
const MATRIX_BYTES_MAX: usize = 64 << 30;

/// One example as features see it: its id and its sequences (two for splicing).
pub type NamedSequences<'a> = (&'a str, &'a [DnaSequence]);

/// The feature matrix of `examples`; features of several sequences of an example stand side by side.
///
/// `dataset` names the data set in errors.
///
/// # Errors
/// `Invalid` if k is not 1 to 8, if one-hot sequences differ in length (the first that differs is
/// named), or if the matrix would not fit in memory.
pub fn sequence_features(
    feature: SequenceFeature,
    dataset: &str,
    examples: &[NamedSequences<'_>],
) -> Result<Matrix> {
    let lengths: Vec<usize> = match examples.first() {
        Some((_, sequences)) => sequences.iter().map(DnaSequence::len).collect(),
        None => Vec::new(),
    };
    let columns = match feature {
        SequenceFeature::OneHot => {
            check_lengths(dataset, examples, &lengths)?;
            lengths.iter().try_fold(0_usize, |sum, length| sum.checked_add(length.checked_mul(4)?))
        }
        SequenceFeature::Kmer { k, .. } => {
            check_sequences(dataset, examples, lengths.len())?;
            kmer_columns(k)?.checked_mul(lengths.len())
        }
        SequenceFeature::Nucleotides => {
            check_sequences(dataset, examples, lengths.len())?;
            BASES.len().checked_mul(lengths.len())
        }
    };
    let size = columns.and_then(|columns| columns.checked_mul(examples.len()));
    let (Some(columns), Some(size)) =
        (columns, size.filter(|size| *size <= MATRIX_BYTES_MAX / size_of::<f32>()))
    else {
        let found = examples.len();
        let expected = format!("features of at most {} GiB", MATRIX_BYTES_MAX >> 30);
        return Err(InputError::new(dataset, "", expected, format!("{found} examples")).into());
    };
    let mut values = vec![0.0_f32; size];
    for ((_, sequences), row) in examples.iter().zip(values.chunks_mut(columns.max(1))) {
        let mut rest = row;
        for sequence in *sequences {
            let width = match feature {
                SequenceFeature::OneHot => 4 * sequence.len(),
                SequenceFeature::Kmer { k, .. } => kmer_columns(k)?,
                SequenceFeature::Nucleotides => BASES.len(),
            };
            let Some((own, others)) = rest.split_at_mut_checked(width) else { break };
            match feature {
                SequenceFeature::OneHot => one_hot(sequence, own),
                SequenceFeature::Kmer { k, undefined } => count_kmers(sequence, k, undefined, own),
                SequenceFeature::Nucleotides => shares(sequence, own),
            }
            rest = others;
        }
    }
    Matrix::new(examples.len(), columns, values)
}

fn kmer_columns(k: u32) -> Result<usize> {
    if (1..=K_MAX).contains(&k) {
        return Ok(4_usize.pow(k));
    }
    Err(Error::invalid(format!("kmer: expected k from 1 to {K_MAX}, found {k}")))
}

fn check_sequences(dataset: &str, examples: &[NamedSequences<'_>], count: usize) -> Result<()> {
    match examples.iter().find(|(_, sequences)| sequences.len() != count) {
        None => Ok(()),
        Some((id, sequences)) => {
            let place = format!("example {id}");
            let expected = format!("{count} sequences");
            Err(InputError::new(dataset, place, expected, sequences.len()).into())
        }
    }
}

fn check_lengths(dataset: &str, examples: &[NamedSequences<'_>], lengths: &[usize]) -> Result<()> {
    check_sequences(dataset, examples, lengths.len())?;
    for (id, sequences) in examples {
        for (sequence, &length) in sequences.iter().zip(lengths) {
            if sequence.len() != length {
                let place = format!("example {id}");
                let expected = format!("a sequence of {length} nucleotides for one-hot features");
                return Err(InputError::new(dataset, place, expected, sequence.len()).into());
            }
        }
    }
    Ok(())
}

/// Place of a base in A, C, G, T; `None` for undefined letters.
fn base_index(letter: u8) -> Option<usize> {
    BASES.iter().position(|&base| base == letter)
}

fn one_hot(sequence: &DnaSequence, row: &mut [f32]) {
    for (letter, cell) in sequence.as_bytes().iter().zip(row.as_chunks_mut::<4>().0) {
        if let Some(out) = base_index(*letter).and_then(|base| cell.get_mut(base)) {
            *out = 1.0;
        }
    }
}

/// Column of a k-mer: its letters as digits of a base-4 number, first letter highest.
fn count_kmers(sequence: &DnaSequence, k: u32, undefined: UndefinedInKmers, row: &mut [f32]) {
    let (mut code, mut defined) = (0_usize, 0_u32);
    let other = match undefined {
        UndefinedInKmers::LeftOut => None,
        UndefinedInKmers::ReadAsA => Some(0),
    };
    for &letter in sequence.as_bytes() {
        match base_index(letter).or(other) {
            None => defined = 0,
            Some(base) => {
                code = (code * 4 + base) % row.len();
                defined += 1;
                if defined >= k
                    && let Some(count) = row.get_mut(code)
                {
                    *count += 1.0;
                }
            }
        }
    }
}

/// Share of each base in the length.
fn shares(sequence: &DnaSequence, row: &mut [f32]) {
    count_kmers(sequence, 1, UndefinedInKmers::LeftOut, row);
    let length = sequence.len().max(1) as f32;
    row.iter_mut().for_each(|count| *count /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(feature: SequenceFeature, texts: &[&str]) -> Result<Matrix> {
        let sequences: Vec<[DnaSequence; 1]> =
            texts.iter().map(|text| [DnaSequence::new(*text).unwrap()]).collect();
        let examples: Vec<NamedSequences<'_>> =
            sequences.iter().map(|sequence| ("seq7", &sequence[..])).collect();
        sequence_features(feature, "REST", &examples)
    }

    #[test]
    fn one_hot_is_position_major_with_zeros_for_undefined_letters() {
        let matrix = features(SequenceFeature::OneHot, &["ANT"]).unwrap();
        assert_eq!(matrix.values(), &[1., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 1.]);
    }

    #[test]
    fn kmers_with_an_undefined_letter_are_left_out() {
        let matrix = features(SequenceFeature::kmer(2), &["ACNAC", "TT"]).unwrap();
        assert_eq!(matrix.row(0)[1], 2.0);
        assert_eq!(matrix.row(0).iter().sum::<f32>(), 2.0);
        assert_eq!(matrix.row(1)[15], 1.0);
    }

    #[test]
    fn an_undefined_letter_is_an_a_in_the_published_counts() {
        let undefined = UndefinedInKmers::ReadAsA;
        let matrix = features(SequenceFeature::Kmer { k: 2, undefined }, &["CNNG"]).unwrap();
        let counted: Vec<usize> = (0..16).filter(|&pair| matrix.row(0)[pair] == 1.0).collect();
        assert_eq!(counted, [0, 2, 4], "AA, AG, CA");
        assert_eq!(matrix.row(0).iter().sum::<f32>(), 3.0);
    }

    #[test]
    fn shares_of_nucleotides_are_of_the_whole_length() {
        let matrix = features(SequenceFeature::Nucleotides, &["ACNA", "TTTTT"]).unwrap();
        assert_eq!(matrix.values(), &[0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_sequence_of_another_length_is_named() {
        let error = features(SequenceFeature::OneHot, &["ACG", "ACGT"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("REST: example seq7") && text.contains("found 4"), "{text}");
    }

    #[test]
    fn k_outside_1_to_8_is_refused() {
        for k in [0, 9, u32::MAX] {
            assert!(features(SequenceFeature::kmer(k), &["ACG"]).is_err());
        }
    }

    #[test]
    fn no_examples_make_an_empty_matrix() {
        assert_eq!(features(SequenceFeature::OneHot, &[]).unwrap().rows(), 0);
    }

    #[test]
    fn sequences_of_one_example_stand_side_by_side() {
        let pair = [DnaSequence::new("AA").unwrap(), DnaSequence::new("TT").unwrap()];
        let matrix = sequence_features(SequenceFeature::kmer(1), "x", &[("a", &pair)]).unwrap();
        assert_eq!(matrix.values(), &[2., 0., 0., 0., 0., 0., 0., 2.]);
    }
}
