//! One chromosome under several names: `chr1` and `1`, `chrM` and `MT`.
//!
//! Leaves out: accessions (`NC_000001.11`) and numbers of releases. Invariant: equal names are found
//! first, so that a file with both spellings keeps them apart.

/// How the mitochondrion is called beside `MT`.
const MITOCHONDRION: [&str; 2] = ["M", "MT"];

/// `name` without `chr` in any case; both names of the mitochondrion become `MT`.
pub(in crate::readers) fn plain_chromosome(name: &str) -> &str {
    let bare = match name.split_at_checked(3) {
        Some((prefix, rest)) if !rest.is_empty() && prefix.eq_ignore_ascii_case("chr") => rest,
        _ => name,
    };
    if MITOCHONDRION.contains(&bare) { "MT" } else { bare }
}

/// The one of `known` that means the chromosome `name`: spelled like it, or another name of it.
pub(in crate::readers) fn same_chromosome<'a>(
    known: impl Iterator<Item = &'a str> + Clone,
    name: &str,
) -> Option<&'a str> {
    let plain = plain_chromosome(name);
    let mut equal = known.clone().filter(|one| *one == name);
    equal.next().or_else(|| known.clone().find(|one| plain_chromosome(one) == plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_chromosome_are_plain_alike() {
        let plain = ["chr1", "1", "Chr1", "CHR1", "chrM", "MT", "M", "chrMT"].map(plain_chromosome);
        assert_eq!(plain, ["1", "1", "1", "1", "MT", "MT", "MT", "MT"]);
        let kept = ["chr", "chrUn_1", "scaffold_7", "é1", "x"].map(plain_chromosome);
        assert_eq!(kept, ["chr", "Un_1", "scaffold_7", "é1", "x"]);
    }

    #[test]
    fn the_same_spelling_comes_first() {
        let known = ["1", "chr1", "chrM"];
        let found = |name| same_chromosome(known.into_iter(), name);
        assert_eq!(["chr1", "1", "Chr1"].map(found), [Some("chr1"), Some("1"), Some("1")]);
        assert_eq!(["MT", "chr2", ""].map(found), [Some("chrM"), None, None]);
    }
}
