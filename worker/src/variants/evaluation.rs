//! Scores against measured effects: Pearson's r by element, and its mean by cell line.
//!
//! Leaves out: what the scores are. Invariant: elements and cells stand in the order in which they
//! came first; variants without an effect are left out.

use super::published_cell;
use crate::statistics::pearson;
use glmeval_common::variant::Variant;
use serde::Serialize;
use std::collections::BTreeMap;

/// How a column of scores and effects are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreForm {
    /// Score with |effect|.
    Distance,
    /// |score| with |effect|.
    Absolute,
    /// Score with effect.
    Signed,
    /// Not at all.
    Ignored,
}

/// r of one column over one element.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// Cell line; empty where none is known.
    pub cell: String,
    /// Element; empty where the file names none.
    pub element: String,
    /// Column.
    pub score: String,
    /// Variants with score and effect.
    pub variants: usize,
    /// Pearson's r; `None` where it is undefined.
    pub r_signed: Option<f64>,
}

/// r of one column over the elements of a cell line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellCorrelation {
    /// Cell line.
    pub cell: String,
    /// Column.
    pub score: String,
    /// Elements.
    pub elements: usize,
    /// Mean of the elements' r; `None` where one of them is undefined.
    pub r_mean_signed: Option<f64>,
    /// Its absolute value, which the published table prints.
    pub r_reported: Option<f64>,
}

/// All correlations of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Correlations {
    /// By element.
    pub elements: Vec<Correlation>,
    /// By cell line.
    pub cells: Vec<CellCorrelation>,
}

/// Gathers scores and effects.
pub struct Evaluation {
    columns: Vec<(String, ScoreForm)>,
    elements: Vec<Element>,
    indices: BTreeMap<(String, String), usize>,
}

struct Element {
    cell: String,
    name: String,
    effects: Vec<f64>,
    /// One vector for each column.
    scores: Vec<Vec<f64>>,
}

impl Evaluation {
    /// Compares the columns `columns`.
    pub fn new(columns: Vec<(String, ScoreForm)>) -> Self {
        Self { columns, elements: Vec::new(), indices: BTreeMap::new() }
    }

    /// Adds a variant with its scores, one for each column.
    pub fn add(&mut self, variant: &Variant, scores: &[f64]) {
        let Some(effect) = variant.effect else { return };
        let name = variant.element.clone().unwrap_or_default();
        let known = || published_cell(&name).map(str::to_owned);
        let cell = variant.cell.clone().or_else(known).unwrap_or_default();
        let next = self.elements.len();
        let index = *self.indices.entry((cell.clone(), name.clone())).or_insert(next);
        if index == next {
            let scores = vec![Vec::new(); self.columns.len()];
            self.elements.push(Element { cell, name, effects: Vec::new(), scores });
        }
        let Some(element) = self.elements.get_mut(index) else { return };
        element.effects.push(effect);
        for (column, &score) in element.scores.iter_mut().zip(scores) {
            column.push(score);
        }
    }

    /// The correlations of what was added.
    pub fn correlations(&self) -> Correlations {
        let mut found = Correlations::default();
        for (column, (score, form)) in self.columns.iter().enumerate() {
            if *form == ScoreForm::Ignored {
                continue;
            }
            let of = |element: &Element| {
                let scores = element.scores.get(column).map_or(&[][..], Vec::as_slice);
                Correlation {
                    cell: element.cell.clone(),
                    element: element.name.clone(),
                    score: score.clone(),
                    variants: scores.len(),
                    r_signed: compare(*form, scores, &element.effects),
                }
            };
            let elements: Vec<Correlation> = self.elements.iter().map(of).collect();
            found.cells.extend(cells(&elements));
            found.elements.extend(elements);
        }
        found
    }
}

fn compare(form: ScoreForm, scores: &[f64], effects: &[f64]) -> Option<f64> {
    let absolute = |values: &[f64]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
    match form {
        ScoreForm::Distance => pearson(scores, &absolute(effects)),
        ScoreForm::Absolute => pearson(&absolute(scores), &absolute(effects)),
        ScoreForm::Signed => pearson(scores, effects),
        ScoreForm::Ignored => None,
    }
}

/// Means over the elements of each named cell line.
fn cells(elements: &[Correlation]) -> Vec<CellCorrelation> {
    let mut found: Vec<CellCorrelation> = Vec::new();
    for first in elements.iter().filter(|element| !element.cell.is_empty()) {
        if found.iter().any(|cell| cell.cell == first.cell) {
            continue;
        }
        let members = elements.iter().filter(|element| element.cell == first.cell);
        let r: Option<Vec<f64>> = members.map(|element| element.r_signed).collect();
        let count = elements.iter().filter(|element| element.cell == first.cell).count();
        let mean = r.map(|r| r.iter().sum::<f64>() / count as f64);
        found.push(CellCorrelation {
            cell: first.cell.clone(),
            score: first.score.clone(),
            elements: count,
            r_mean_signed: mean,
            r_reported: mean.map(f64::abs),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(cell: Option<&str>, element: &str, effect: Option<f64>) -> Variant {
        Variant {
            cell: cell.map(str::to_owned),
            element: Some(element.to_owned()),
            effect,
            ..Variant::default()
        }
    }

    #[test]
    fn forms_decide_what_is_made_absolute() {
        let forms = [ScoreForm::Distance, ScoreForm::Absolute, ScoreForm::Signed];
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        let forms = forms.into_iter().chain([ScoreForm::Ignored]);
        let mut evaluation = Evaluation::new(names.into_iter().zip(forms).collect());
        for (score, effect) in [(-1.0, -3.0), (2.0, 5.0), (-3.0, -8.0), (4.0, 9.0)] {
            evaluation.add(&variant(None, "LDLR", Some(effect)), &[score; 4]);
        }
        evaluation.add(&variant(None, "LDLR", None), &[9.0; 4]);
        let found = evaluation.correlations();
        assert_eq!(found.elements.len(), 3);
        assert_eq!((found.elements[0].variants, found.cells[0].cell.as_str()), (4, "HepG2"));
        let (scores, effects) = ([-1.0, 2.0, -3.0, 4.0], [-3.0, 5.0, -8.0, 9.0]);
        let absolute = [3.0, 5.0, 8.0, 9.0];
        let r: Vec<_> = found.elements.iter().map(|element| element.r_signed).collect();
        assert_eq!(r[0], pearson(&scores, &absolute));
        assert_eq!(r[1], pearson(&scores.map(f64::abs), &absolute));
        assert_eq!(r[2], pearson(&scores, &effects));
    }

    #[test]
    fn a_cell_is_the_mean_of_its_elements_before_its_sign_is_dropped() {
        let mut evaluation = Evaluation::new(vec![("a".to_owned(), ScoreForm::Distance)]);
        for (element, sign) in [("one", 1.0), ("two", -1.0), ("three", -1.0)] {
            for value in [1.0, 2.0, 3.0] {
                evaluation.add(&variant(Some("cell"), element, Some(value)), &[sign * value]);
            }
        }
        let cells = evaluation.correlations().cells;
        let mean = cells[0].r_mean_signed.unwrap();
        assert!((mean + 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((cells[0].elements, cells[0].r_reported), (3, Some(-mean)));
    }
}
