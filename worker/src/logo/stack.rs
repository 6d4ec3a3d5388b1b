//! Stacks of letters over an axis: the information of a motif, the values of a map.
//!
//! Leaves out: the letters themselves (letters). Invariant: heights are to scale, and larger letters of
//! a stack stand further from the axis.

use super::letters::{STYLE, letter};
use crate::report::svg::{Canvas, Scale, round_range, standalone};
use glmeval_common::dna::{BASES, DnaSequence};
use glmeval_common::error::{InputError, Result};
use glmeval_common::readers::motifs::Motif;

const TOP: f64 = 34.0;
const LEFT: f64 = 62.0;
const PLOT_HEIGHT: f64 = 130.0;
/// Width of a letter of a short logo and of a long one.
const LETTER_WIDTHS: (f64, f64) = (28.0, 11.0);
/// Positions of a short logo at most.
const SHORT_NT_MAX: usize = 40;
/// Share of its width that a letter leaves free.
const GAP: f64 = 0.06;
/// Letters lower than this many pixels are left out: nobody sees them, and files stay small.
const HEIGHT_MIN: f64 = 0.2;

/// Letters and their heights at one position.
type Stack = Vec<(u8, f64)>;

/// Bits of each position: how far its probabilities are from a quarter each.
///
/// ```text
/// 2 + sum over bases of p log2 p
/// ```
///
/// Source: Schneider and Stephens 1990, without the correction for few sites.
pub fn information(motif: &Motif) -> Vec<f64> {
    let term = |p: &f64| if *p > 0.0 { p * p.log2() } else { 0.0 };
    let bits = |row: &[f64; 4]| (2.0 + row.iter().map(term).sum::<f64>()).max(0.0);
    motif.probabilities.iter().map(bits).collect()
}

/// The logo of a motif: at each position letters of height probability times information.
pub fn information_logo(motif: &Motif) -> String {
    let rows = motif.probabilities.iter().zip(information(motif));
    let stack = |(row, bits): (&[f64; 4], f64)| -> Stack {
        BASES.iter().zip(row).map(|(base, p)| (*base, p * bits)).collect()
    };
    let stacks: Vec<Stack> = rows.map(stack).collect();
    draw(&stacks, (0.0, 2.0), "bits", &motif.label())
}

/// The logo of a map: the letter of each position as high as its value, below the axis and upside
/// down where that is negative.
///
/// # Errors
/// `Invalid` unless `values` has one for each nucleotide of `sequence`; values that are no numbers
/// are left blank.
pub fn attribution_logo(sequence: &DnaSequence, values: &[f64], title: &str) -> Result<String> {
    if sequence.len() != values.len() {
        let expected = format!("{} values, one for each nucleotide", sequence.len());
        return Err(InputError::new("logo", title, expected, values.len()).into());
    }
    let pairs = sequence.as_bytes().iter().zip(values);
    let stacks: Vec<Stack> = pairs.map(|(letter, value)| vec![(*letter, *value)]).collect();
    let range = round_range(values.iter().copied().chain([0.0]));
    Ok(draw(&stacks, range, "attribution", title))
}

fn draw(stacks: &[Stack], (low, high): (f64, f64), unit: &str, title: &str) -> String {
    let is_short = stacks.len() <= SHORT_NT_MAX;
    let width = if is_short { LETTER_WIDTHS.0 } else { LETTER_WIDTHS.1 };
    let right = LEFT + width * stacks.len() as f64;
    let bottom = TOP + PLOT_HEIGHT;
    let y = Scale { low, high, from: bottom, to: TOP };
    let mut canvas = Canvas::new(right.max(LEFT + 220.0) + 16.0, bottom + 34.0);
    canvas.push(STYLE);
    canvas.text((LEFT, 18.0), "start", "strong", title);
    canvas.y_axis(y, LEFT, right, unit);
    for (position, stack) in stacks.iter().enumerate() {
        let x = LEFT + width * position as f64;
        draw_letters(&mut canvas, y, (x, width), stack);
        let number = position + 1;
        if number == 1 || number % 10 == 0 || (is_short && number % 5 == 0) {
            let at = (x + width / 2.0, bottom + 16.0);
            canvas.text(at, "middle", "small muted", &number.to_string());
        }
    }
    canvas.line((LEFT, y.at(0.0)), (right, y.at(0.0)), "axis");
    standalone(&canvas.finish(title))
}

/// Draws positive letters upwards from the axis and negative ones downwards, the smallest first, in a column
/// from `x` of `width`.
pub(crate) fn draw_letters(
    canvas: &mut Canvas,
    y: Scale,
    (x, width): (f64, f64),
    stack: &[(u8, f64)],
) {
    let mut sorted: Vec<&(u8, f64)> = stack.iter().filter(|(_, value)| value.is_finite()).collect();
    sorted.sort_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    let (mut above, mut below) = (0.0, 0.0);
    for &&(base, value) in &sorted {
        let end = if value < 0.0 { &mut below } else { &mut above };
        let from = *end;
        *end += value;
        // A letter's top lies away from the axis: a negative height turns it over.
        let (top, height) = (y.at(*end), y.at(from) - y.at(*end));
        if height.abs() < HEIGHT_MIN {
            continue;
        }
        let (path, class) = letter(base);
        let (left, width) = (x + width * GAP / 2.0, width * (1.0 - GAP));
        canvas.push(&format!(
            r#"<path class="{class}" fill-rule="evenodd" transform="translate({left:.2},{top:.2}) scale({width:.2},{height:.3})" d="{path}"/>"#
        ));
    }
}
