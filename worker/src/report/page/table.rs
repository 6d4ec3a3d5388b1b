//! Tables of the page: cells with what they are sorted by, bounded rows, their own scrolling.
//!
//! Leaves out: what stands in them, the sorting itself (script). Invariant: text is escaped here and
//! nowhere else; a cut table says how many rows it leaves out and which file has them.

use super::super::svg::escape;
use super::super::view::number;

/// One cell.
pub(super) struct Cell {
    html: String,
    /// What the column is sorted by where the text is not enough.
    key: Option<String>,
    class: &'static str,
    is_number: bool,
}

impl Cell {
    pub(super) fn text(text: &str) -> Self {
        Self { html: escape(text), key: None, class: "", is_number: false }
    }

    /// Three decimals, sorted by the whole number.
    pub(super) fn number(value: Option<f64>) -> Self {
        let key = value.map_or(String::new(), |value| format!("{value:.7}"));
        Self { html: number(value), key: Some(key), class: "", is_number: true }
    }

    /// As [`Cell::number`], with its sign; a dash for `None`.
    pub(super) fn signed(value: Option<f64>) -> Self {
        let shown = |value: f64| match format!("{value:+.3}") {
            zero if zero.trim_start_matches(['+', '-']) == "0.000" => "0.000".to_owned(),
            text => text.replace('-', "−"),
        };
        let html = value.map_or_else(|| "–".to_owned(), shown);
        Self { html, ..Self::number(value) }
    }

    /// As [`Cell::number`], with a dash for `None`.
    pub(super) fn optional(value: Option<f64>) -> Self {
        Self {
            html: value.map_or_else(|| "–".to_owned(), |v| number(Some(v))),
            ..Self::number(value)
        }
    }

    /// A number that is written as `text`.
    pub(super) fn written(value: f64, text: &str) -> Self {
        Self { html: escape(text), ..Self::number(Some(value)) }
    }

    /// Ready-made markup, sorted by `key`.
    pub(super) fn markup(html: String, key: &str) -> Self {
        Self { html, key: Some(escape(key)), class: "", is_number: false }
    }

    /// A line in small print below.
    pub(super) fn small(mut self, text: &str) -> Self {
        if !text.is_empty() {
            self.html.push_str(&format!("<small>{}</small>", escape(text)));
        }
        self
    }

    pub(super) fn class(mut self, class: &'static str) -> Self {
        self.class = class;
        self
    }

    fn finish(&self) -> String {
        let class = match (self.is_number, self.class) {
            (false, "") => String::new(),
            (false, class) => format!(" class=\"{class}\""),
            (true, "") => " class=\"number\"".to_owned(),
            (true, class) => format!(" class=\"number {class}\""),
        };
        let key = self.key.as_ref().map_or(String::new(), |key| format!(" data-v=\"{key}\""));
        format!("<td{class}{key}>{}</td>", self.html)
    }
}

/// A table under construction.
pub(super) struct HtmlTable {
    head: String,
    rows: Vec<String>,
    all: usize,
    rows_max: usize,
}

impl HtmlTable {
    /// Columns by title; those that begin with `#` hold numbers.
    pub(super) fn new(columns: &[&str], rows_max: usize) -> Self {
        let head = columns.iter().map(|title| match title.strip_prefix('#') {
            Some(title) => format!("<th class=\"number\">{}</th>", escape(title)),
            None => format!("<th>{}</th>", escape(title)),
        });
        Self { head: head.collect(), rows: Vec::new(), all: 0, rows_max }
    }

    pub(super) fn row(&mut self, class: &str, cells: &[Cell]) {
        self.all += 1;
        if self.rows.len() < self.rows_max {
            let cells: String = cells.iter().map(Cell::finish).collect();
            let class =
                if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
            self.rows.push(format!("<tr{class}>{cells}</tr>\n"));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all == 0
    }

    /// The table and, if it was cut, where the rest is.
    pub(super) fn finish(self, file: &str) -> String {
        let Self { head, rows, all, rows_max } = self;
        let tall = if rows.len() > 24 { " tall" } else { "" };
        let mut out = format!(
            "<div class=\"scroll{tall}\" tabindex=\"0\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{}</tbody></table></div>\n",
            rows.concat()
        );
        if all > rows_max {
            out.push_str(&format!(
                "<p class=\"muted\">The first {rows_max} of {all} rows are shown; {file} holds all.</p>\n"
            ));
        }
        out
    }
}
