//! Small pieces of SVG: scales, ticks, axes, marks, text.
//!
//! Leaves out: what a figure shows (figures). Invariant: colours of text and axes come from CSS
//! classes, so a figure follows the page's light or dark theme.

use std::fmt::Write as _;

/// Okabe and Ito 2008, without black; told apart with any colour vision.
pub(crate) const PALETTE: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b8ac2b"];

/// Styles of every figure; the page carries them once, a file of its own carries its copy.
pub(crate) const STYLE: &str = "\
.fig text{font:12px system-ui,sans-serif;fill:#24292f}\
.fig .small{font-size:11px}.fig .muted{fill:#57606a}.fig .strong{font-weight:600}\
.fig .axis{stroke:#8c959f;fill:none}.fig .grid{stroke:#d0d7de;stroke-width:.6}\
.fig .whisker{stroke:#24292f;stroke-width:1.4}.fig .reference{fill:#8c959f;opacity:.45}\
.fig .mark{fill:#fff;stroke:#24292f;stroke-width:1.5}.fig .median{stroke:#24292f;stroke-width:2}\
.fig .point{stroke:#fff;stroke-width:.8;fill-opacity:.85}\
@media (prefers-color-scheme:dark){.fig text{fill:#e6edf3}.fig .muted{fill:#9da7b3}\
.fig .grid{stroke:#30363d}.fig .whisker{stroke:#e6edf3}\
.fig .mark{fill:#0d1117;stroke:#e6edf3}.fig .median{stroke:#e6edf3}.fig .point{stroke:#0d1117}\
.fig [stroke=\"#0072b2\"]{stroke:#4ba6e3}.fig [fill=\"#0072b2\"]{fill:#4ba6e3}}";

/// A linear map from data to picture coordinates.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Scale {
    pub(crate) fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round numbers inside the scale, about `count` of them, with the decimals they need.
    pub(crate) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let (step, decimals) = tick_step(self.low, self.high, count);
        let first = (self.low / step - 1e-9).ceil();
        (0..=3 * count.max(1))
            .map(|i| (first + i as f64) * step)
            .take_while(|tick| *tick <= self.high + step * 1e-9)
            .map(|tick| (tick, label(tick, decimals)))
            .collect()
    }
}

fn label(tick: f64, decimals: usize) -> String {
    let text = format!("{tick:.decimals$}");
    if text.trim_matches(['-', '0', '.']).is_empty() { text.replace('-', "") } else { text }
}

fn tick_step(low: f64, high: f64, count: usize) -> (f64, usize) {
    let raw = ((high - low) / count.max(1) as f64).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|step| *step >= raw * 0.999);
    let step = step.unwrap_or(raw);
    let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    (step, decimals)
}

/// The range of `values`, widened to round numbers; `[0, 1]` without finite values.
pub(crate) fn round_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    let high = if high > low { high } else { low + low.abs().max(1.0) };
    let (step, _) = tick_step(low, high, 5);
    ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step)
}

/// Text made safe for markup.
pub(crate) fn escape(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Width of `text` at 12 px, on the safe side.
pub(crate) fn text_width(text: &str) -> f64 {
    6.6 * text.chars().count() as f64
}

/// A picture under construction.
pub(crate) struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

impl Canvas {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// Any element.
    pub(crate) fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    /// Text with its anchor (`start`, `middle`, `end`) and classes.
    pub(crate) fn text(&mut self, at: (f64, f64), anchor: &str, class: &str, text: &str) {
        let (x, y) = at;
        let text = escape(text);
        self.push(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{text}</text>"#
        ));
    }

    /// Text that reads upwards, centred on `at`.
    pub(crate) fn upward_text(&mut self, at: (f64, f64), text: &str) {
        let (x, y) = at;
        let text = escape(text);
        self.push(&format!(
            r#"<text transform="translate({x:.1},{y:.1}) rotate(-90)" text-anchor="middle">{text}</text>"#
        ));
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(&format!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        ));
    }

    /// Grid lines, tick labels and title of a horizontal axis below the plot.
    pub(crate) fn x_axis(&mut self, x: Scale, top: f64, bottom: f64, title: &str) {
        for (tick, text) in x.ticks(6) {
            self.line((x.at(tick), top), (x.at(tick), bottom), "grid");
            self.text((x.at(tick), bottom + 16.0), "middle", "small muted", &text);
        }
        self.line((x.from, bottom), (x.to, bottom), "axis");
        self.text(((x.from + x.to) / 2.0, bottom + 36.0), "middle", "", title);
    }

    /// Grid lines, tick labels and title of a vertical axis left of the plot.
    pub(crate) fn y_axis(&mut self, y: Scale, left: f64, right: f64, title: &str) {
        let ticks = y.ticks(6);
        let widest = ticks.iter().map(|(_, text)| text_width(text)).fold(0.0, f64::max);
        for (tick, text) in ticks {
            self.line((left, y.at(tick)), (right, y.at(tick)), "grid");
            self.text((left - 7.0, y.at(tick) + 4.0), "end", "small muted", &text);
        }
        self.line((left, y.from), (left, y.to), "axis");
        self.upward_text((left - widest - 16.0, (y.from + y.to) / 2.0), title);
    }

    /// The finished element, for a page.
    pub(crate) fn finish(self, title: &str) -> String {
        let mut out = String::new();
        let (width, height) = (self.width, self.height);
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" class="fig" role="img" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}"><title>{}</title>"#,
            escape(title)
        );
        out.push('\n');
        out.push_str(&self.body);
        out.push_str("</svg>");
        out
    }
}

/// The figure as a file of its own.
pub(crate) fn standalone(svg: &str) -> String {
    let back = ".fig{background:#fff}@media (prefers-color-scheme:dark){.fig{background:#0d1117}}";
    let styled = svg.replacen("<title>", &format!("<style>{STYLE}{back}</style><title>"), 1);
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{styled}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale { low: 0.5, high: 0.9, from: 0.0, to: 1.0 };
        let texts: Vec<String> = scale.ticks(5).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["0.5", "0.6", "0.7", "0.8", "0.9"]);
        let scale = Scale { low: -1.0, high: 1.0, from: 0.0, to: 1.0 };
        assert_eq!(scale.ticks(4)[2].1, "0.0");
    }

    #[test]
    fn degenerate_ranges_still_have_a_width() {
        assert_eq!(round_range(std::iter::empty()), (0.0, 1.0));
        let (low, high) = round_range([3.0].into_iter());
        assert!(low <= 3.0 && high > low);
        assert_eq!(round_range([f64::NAN, 0.51, 0.88].into_iter()), (0.5, 0.9));
    }

    #[test]
    fn markup_in_names_is_made_safe() {
        assert_eq!(escape("<b>&\"\u{1b}"), "&lt;b&gt;&amp;&quot; ");
    }
}
