//! Sequence logos: stacks of letters, as SVG files of their own.
//!
//! Leaves out: making maps and reading motifs. Invariant: pure; letters are paths, so that a logo looks the
//! same without any font; the four colours are told apart with any colour vision, in light and dark.

mod letters;
mod stack;
#[cfg(test)]
mod tests;

pub(crate) use letters::STYLE as LETTER_STYLE;
pub(crate) use stack::draw_letters;
pub use stack::{attribution_logo, information, information_logo};
