//! MEME's motif files: minimal ones, and reports of which all but the matrices is passed over.
//!
//! Leaves out: sites and diagrams of reports. Invariant: a motif has a matrix, or the file is
//! refused at the line of the motif.

use super::{Lines, MOTIF_NT_MAX, Motif, MotifSet, SUM_SLACK};
use crate::error::Result;
use crate::readers::text::excerpt;
use std::collections::BTreeSet;

/// Newest version of the format that is known.
const VERSION_MAX: u64 = 5;
/// What log-odds may be multiplied by: plain, and whole numbers of a hundredth in reports. Plain ones
/// come first: read as hundredths they would all be near the background, which sums to 1 too.
const LOG_ODDS_SCALES: [f64; 2] = [1.0, 100.0];

/// A motif of which not all lines were read.
struct Open {
    id: String,
    name: Option<String>,
    line: u64,
    probabilities: Option<(Vec<[f64; 4]>, Option<f64>)>,
    log_odds: Option<(Vec<[f64; 4]>, u64)>,
}

/// Checks the version on the current line.
pub(super) fn check_version(lines: &mut Lines) -> Result<()> {
    lines.step_back();
    let line = lines.next_line()?.unwrap_or_default();
    let version = line.trim_start_matches("MEME version").trim();
    let major = version.split(['.', ' ', '(']).next().unwrap_or_default();
    match major.parse::<u64>() {
        Ok(3..=VERSION_MAX) => Ok(()),
        _ => {
            let expected = format!("a MEME version of 3 to {VERSION_MAX}");
            Err(lines.defect("", expected, excerpt(version.as_bytes())))
        }
    }
}

/// Reads what follows the version.
pub(super) fn read(lines: &mut Lines) -> Result<MotifSet> {
    let mut set = MotifSet::default();
    let mut ids = BTreeSet::new();
    let mut open: Option<Open> = None;
    while let Some(line) = lines.next_line()? {
        if let Some(rest) = line.strip_prefix("ALPHABET") {
            check_alphabet(lines, rest)?;
        } else if line.starts_with("Background letter frequencies") {
            set.background = Some(background(lines)?);
        } else if let Some(rest) = line.strip_prefix("MOTIF").filter(|r| r.starts_with([' ', '\t']))
        {
            finish(lines, &mut set, open.take())?;
            let mut words = rest.split_whitespace();
            let id = words.next().unwrap_or_default().to_owned();
            lines.check_id(&mut ids, &id)?;
            // Reports go on with `width = 11 sites = …`.
            let name = words.next().filter(|word| *word != "width").map(str::to_owned);
            let line = lines.number();
            open = Some(Open { id, name, line, probabilities: None, log_odds: None });
        } else if let Some(rest) = line.strip_prefix("letter-probability matrix:") {
            let motif = of_motif(lines, open.as_mut())?;
            let sites = attribute(rest, "nsites").and_then(|text| text.parse::<f64>().ok());
            let rows = rows(lines, rest, true)?;
            motif.probabilities = Some((rows, sites.filter(|sites| *sites > 0.0)));
        } else if let Some(rest) = line.strip_prefix("log-odds matrix:") {
            let motif = of_motif(lines, open.as_mut())?;
            let at = lines.number();
            motif.log_odds = Some((rows(lines, rest, false)?, at));
        }
    }
    finish(lines, &mut set, open)?;
    Ok(set)
}

fn of_motif<'o>(lines: &Lines, open: Option<&'o mut Open>) -> Result<&'o mut Open> {
    open.ok_or_else(|| lines.defect("", "a line `MOTIF` before its matrix", "none"))
}

/// Keeps a motif whose last line was read.
fn finish(lines: &Lines, set: &mut MotifSet, open: Option<Open>) -> Result<()> {
    let Some(open) = open else { return Ok(()) };
    let (probabilities, sites) = match (open.probabilities, open.log_odds) {
        (Some(found), _) => found,
        (None, Some((scores, line))) => {
            let background = set.background.unwrap_or([0.25; 4]);
            let turned = LOG_ODDS_SCALES.iter().find_map(|scale| {
                probabilities_of(&scores, *scale, background).filter(|rows| rows.iter().all(is_one))
            });
            let turned = turned.ok_or_else(|| {
                let place = format!("motif {}", open.id);
                let expected = "log2(p / background), or that times 100, of p that sum to 1";
                lines.text.defect_at(line, place, expected, "other numbers")
            })?;
            (turned, None)
        }
        (None, None) => {
            let place = format!("motif {}", open.id);
            let expected = "a letter-probability or log-odds matrix";
            return Err(lines.text.defect_at(open.line, place, expected, "none").into());
        }
    };
    set.motifs.push(Motif { id: open.id, name: open.name, probabilities, sites });
    Ok(())
}

/// ```text
/// p = background 2^(score / scale)
/// ```
fn probabilities_of(
    scores: &[[f64; 4]],
    scale: f64,
    background: [f64; 4],
) -> Option<Vec<[f64; 4]>> {
    let row = |row: &[f64; 4]| {
        let mut found = [0.0; 4];
        for ((value, score), frequency) in found.iter_mut().zip(row).zip(background) {
            *value = frequency * (score / scale).exp2();
        }
        found.iter().all(|value| value.is_finite()).then_some(found)
    };
    scores.iter().map(row).collect()
}

fn is_one(row: &[f64; 4]) -> bool {
    (row.iter().sum::<f64>() - 1.0).abs() <= SUM_SLACK
}

/// The value of `key= value`, blanks or none between them.
fn attribute<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        if let Some((name, value)) = word.split_once('=')
            && name == key
        {
            return if value.is_empty() { words.next() } else { Some(value) };
        }
    }
    None
}

/// The rows of a matrix, four numbers each, as many as `w=` says.
fn rows(lines: &mut Lines, header: &str, are_probabilities: bool) -> Result<Vec<[f64; 4]>> {
    let whole = |key: &str| match attribute(header, key) {
        None => Ok(None),
        Some(text) => match text.parse::<usize>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(lines.defect(key, "a whole number", excerpt(text.as_bytes()))),
        },
    };
    if let Some(letters) = whole("alength")?.filter(|letters| *letters != 4) {
        return Err(lines.defect("alength", "4 letters: A, C, G, T", letters));
    }
    let width = whole("w")?;
    let mut rows = Vec::new();
    while width.is_none_or(|width| rows.len() < width) {
        let Some(line) = lines.next_line()? else { break };
        if !line.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
            lines.step_back();
            break;
        }
        if rows.len() == MOTIF_NT_MAX {
            let expected = format!("a motif of at most {MOTIF_NT_MAX} positions (the limit)");
            return Err(lines.defect("", expected, "one more"));
        }
        let numbers = lines.numbers(&line)?;
        let Ok(row) = <[f64; 4]>::try_from(numbers.as_slice()) else {
            let found = format!("{} numbers", numbers.len());
            return Err(lines.defect("", "4 numbers: A, C, G, T", found));
        };
        let is_fair = row.iter().all(|p| *p >= 0.0) && is_one(&row);
        if are_probabilities && !is_fair {
            let expected = "probabilities that sum to 1";
            return Err(lines.defect("", expected, excerpt(line.as_bytes())));
        }
        rows.push(row);
    }
    if rows.is_empty() || width.is_some_and(|width| width != rows.len()) {
        let expected = width.map_or("rows of numbers".to_owned(), |w| format!("{} rows", w.max(1)));
        return Err(lines.defect("", expected, format!("{} rows", rows.len())));
    }
    Ok(rows)
}

/// Checks that the letters are A, C, G and T (or U): `= ACGT`, or a list that ends in `END ALPHABET`.
fn check_alphabet(lines: &mut Lines, rest: &str) -> Result<()> {
    let mut letters: Vec<char> = match rest.trim().strip_prefix('=') {
        Some(letters) => letters.trim().chars().collect(),
        None => {
            let mut letters = Vec::new();
            loop {
                let Some(line) = lines.next_line()? else {
                    return Err(lines.defect("", "a line `END ALPHABET`", "the end of the file"));
                };
                if line.starts_with("END ALPHABET") {
                    break;
                }
                letters.extend(core_letters(&line));
            }
            letters
        }
    };
    letters.sort_unstable();
    letters.dedup();
    if letters != ['A', 'C', 'G', 'T'] && letters != ['A', 'C', 'G', 'U'] {
        let found: String = letters.iter().take(32).collect();
        return Err(lines.defect("", "the alphabet ACGT or ACGU", excerpt(found.as_bytes())));
    }
    Ok(())
}

/// `A "Adenine" CC0000 ~ T "Thymine" 008000` has two letters; `R = AG` has none of its own.
fn core_letters(line: &str) -> Vec<char> {
    let mut outside = String::new();
    let mut is_quoted = false;
    for letter in line.chars() {
        is_quoted ^= letter == '"';
        outside.push(if is_quoted || letter == '"' { ' ' } else { letter });
    }
    if outside.contains('=') {
        return Vec::new();
    }
    let letter = |part: &str| part.split_whitespace().next().map(str::to_owned);
    let words = outside.split('~').filter_map(letter);
    words.filter(|word| word.len() == 1).flat_map(|word| word.chars().collect::<Vec<_>>()).collect()
}

/// `A 0.25 C 0.25 G 0.25 T 0.25`, on one line or several.
fn background(lines: &mut Lines) -> Result<[f64; 4]> {
    let mut found = [None; 4];
    while found.iter().any(Option::is_none) {
        let line = lines.next_line()?.unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let bad = || {
            lines.defect(
                "",
                "frequencies such as A 0.3 C 0.2 G 0.2 T 0.3",
                excerpt(line.as_bytes()),
            )
        };
        if words.is_empty() {
            return Err(bad());
        }
        for pair in words.chunks(2) {
            let &[letter, number] = pair else { return Err(bad()) };
            let place = ["A", "C", "G", "T"].iter().position(|base| *base == letter);
            let place = if letter == "U" { Some(3) } else { place };
            let number = number.parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p));
            let (Some(place), Some(number)) = (place, number) else { return Err(bad()) };
            if let Some(cell) = found.get_mut(place) {
                *cell = Some(number);
            }
        }
    }
    let mut row = found.map(Option::unwrap_or_default);
    if !is_one(&row) || row.iter().any(|p| *p <= 0.0) {
        return Err(lines.defect("", "frequencies above 0 that sum to 1", format!("{row:?}")));
    }
    super::normalise(&mut row);
    Ok(row)
}
