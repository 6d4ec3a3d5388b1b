//! Letters as paths in a box of one by one, y downwards, with the colours they have.
//!
//! Leaves out: where they stand. Invariant: a path touches the box at its top and bottom, so a height is
//! what it looks like.

/// Colours of Okabe and Ito 2008; the blue is lighter where the page is dark.
pub(crate) const STYLE: &str = "<style>.la{fill:#009e73}.lc{fill:#0072b2}.lg{fill:#e69f00}\
.lt{fill:#d55e00}.ln{fill:#8c959f}@media (prefers-color-scheme:dark){.lc{fill:#56b4e9}}</style>";

/// Path and class of a letter; any but A, C, G, T and U is an N.
pub(super) fn letter(letter: u8) -> (&'static str, &'static str) {
    match letter {
        b'A' => ("M0,1L.37,0H.63L1,1H.79L.71,.77H.29L.21,1ZM.345,.6H.655L.5,.15Z", "la"),
        b'C' => ("M.983,.192A.55,.5 0 1 0 .983,.808L.802,.709A.32,.34 0 1 1 .802,.291Z", "lc"),
        b'G' => (
            "M.983,.192A.55,.5 0 1 0 .983,.808H1V.46H.56V.61H.8V.72A.32,.34 0 1 1 .802,.291Z",
            "lg",
        ),
        b'T' | b'U' => ("M0,0H1V.17H.61V1H.39V.17H0Z", "lt"),
        _ => ("M0,1V0H.22L.78,.68V0H1V1H.78L.22,.32V1Z", "ln"),
    }
}
