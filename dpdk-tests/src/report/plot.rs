//! A plot by frame size, as SVG inside the page.

use std::fmt::Write as _;

use super::html::escape;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 44.0;
/// From this ratio between the largest and the smallest value on, small values could not be seen on a linear axis.
const LOGARITHMIC_FROM: f64 = 30.0;
/// Told apart also by people who see few colours.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f3c8d", "#444444"];

/// A line of the plot.
pub(super) struct Line {
    pub(super) name: String,
    /// Frame size and value.
    pub(super) points: Vec<(u16, f64)>,
    /// What is possible, not what was measured.
    pub(super) limit: bool,
}

impl Line {
    fn stroke(&self, index: usize) -> (&'static str, &'static str) {
        let colour = COLOURS.get(index % COLOURS.len()).copied().unwrap_or("black");
        if self.limit { ("#888888", "6 4") } else { (colour, "none") }
    }
}

/// From values to heights.
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Axis {
    fn of(lines: &[Line]) -> Option<Self> {
        let values = || lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        let positive = || values().filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) = (positive().reduce(f64::min)?, positive().reduce(f64::max)?);
        let logarithmic = high / low >= LOGARITHMIC_FROM;
        if logarithmic {
            Some(Self {
                low: 10f64.powf(low.log10().floor()),
                high: 10f64.powf(high.log10().ceil()),
                logarithmic,
            })
        } else {
            let step = nice_step(high);
            Some(Self { low: 0.0, high: (high / step).ceil() * step, logarithmic })
        }
    }

    fn height(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value.max(self.low).log10() - self.low.log10()) / (self.high.log10() - self.low.log10())
        } else {
            value / self.high
        };
        HEIGHT - BOTTOM - part.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn marks(&self) -> Vec<f64> {
        let mut marks = Vec::new();
        let step = nice_step(self.high);
        let mut mark = self.low;
        // Rounding errors must not cost the last mark.
        while mark <= self.high * 1.0001 && marks.len() < 20 {
            marks.push(mark);
            mark = if self.logarithmic { mark * 10.0 } else { mark + step };
        }
        marks
    }
}

/// About five steps of 1, 2 or 5 times a power of ten.
fn nice_step(high: f64) -> f64 {
    let rough = high / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough).unwrap_or(rough)
}

/// `1.5 M`, as marks of an axis are written.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e3 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let digits = if value == 0.0 || value >= 10.0 { 0 } else { 3 };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// The plot; nothing when there is no value to plot.
pub(super) fn plot(title: &str, lines: &[Line]) -> Option<String> {
    let axis = Axis::of(lines)?;
    let mut sizes: Vec<u16> = lines.iter().flat_map(|line| &line.points).map(|(size, _)| *size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let legend = TOP + HEIGHT + 18.0 * as_f64(lines.len());
    let mut svg = format!(
        "<figure><figcaption>{}{}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {legend}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title),
        if axis.logarithmic { ", logarithmic" } else { "" },
        escape(title)
    );
    for mark in axis.marks() {
        let y = axis.height(mark);
        let (end, text) = (WIDTH - RIGHT, LEFT - 8.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{text}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            y + 4.0,
            short(mark)
        );
    }
    for size in &sizes {
        let (x, y) = (place(*size, &sizes), HEIGHT - BOTTOM + 18.0);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{size}</text>");
    }
    let (middle, below) = (f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 8.0);
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">bytes per frame, with checksum</text>"
    );
    for (index, line) in lines.iter().enumerate() {
        svg.push_str(&draw(line, index, &axis, &sizes));
    }
    svg.push_str("</svg></figure>\n");
    Some(svg)
}

fn draw(line: &Line, index: usize, axis: &Axis, sizes: &[u16]) -> String {
    let (colour, dash) = line.stroke(index);
    let points: Vec<(f64, f64)> =
        line.points.iter().map(|(size, value)| (place(*size, sizes), axis.height(*value))).collect();
    let list: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let mut svg = format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\n",
        list.join(" ")
    );
    for ((x, y), (size, value)) in points.iter().zip(&line.points) {
        let radius = if line.limit { 2.0 } else { 4.0 };
        let name = escape(&line.name);
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"><title>{name}, {size} B: {value:.3}</title></circle>"
        );
    }
    let y = HEIGHT + 18.0 * as_f64(index) + 6.0;
    let (end, text) = (LEFT + 30.0, LEFT + 38.0);
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"3\" stroke-dasharray=\"{dash}\"/>\
         <text x=\"{text}\" y=\"{:.1}\">{}</text>",
        y + 4.0,
        escape(&line.name)
    );
    svg
}

/// Sizes stand at equal distances: most of what happens is among the small ones.
fn place(size: u16, sizes: &[u16]) -> f64 {
    let index = sizes.iter().position(|other| *other == size).unwrap_or(0);
    let room = WIDTH - LEFT - RIGHT;
    LEFT + room * (as_f64(index) + 0.5) / as_f64(sizes.len().max(1))
}

#[expect(clippy::cast_precision_loss, reason = "counts of lines and sizes are small")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, values: [f64; 2], limit: bool) -> Line {
        Line { name: name.into(), points: vec![(64, values[0]), (1518, values[1])], limit }
    }

    #[test]
    fn values_far_apart_get_a_logarithmic_axis() {
        let near = Axis::of(&[line("a", [100.0, 90.0], false)]).unwrap();
        assert!(!near.logarithmic && near.height(0.0) == HEIGHT - BOTTOM);
        let far =
            Axis::of(&[line("a", [100.0, 90.0], false), line("line rate", [1_488_095.0, 81_274.0], true)])
                .unwrap();
        assert!(far.logarithmic);
        assert_eq!((far.low, far.high), (10.0, 1e7));
        assert!(far.height(90.0) > far.height(1_488_095.0));
        // Nothing has no logarithm.
        assert_eq!(far.height(0.0), HEIGHT - BOTTOM);
        assert!(Axis::of(&[line("dead", [0.0, 0.0], false)]).is_none());
    }

    #[test]
    fn marks_are_few_and_round() {
        let axis = Axis::of(&[line("a", [87_000.0, 40_000.0], false)]).unwrap();
        let marks: Vec<String> = axis.marks().into_iter().map(short).collect();
        assert_eq!(marks, ["0", "20 k", "40 k", "60 k", "80 k", "100 k"]);
        assert_eq!(short(1_500_000.0), "1.5 M");
        assert_eq!(short(0.02), "0.02");
    }

    #[test]
    fn every_point_and_name_is_in_the_plot() {
        let svg = plot("Packets", &[line("a <b>", [10.0, 5.0], false)]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("a &lt;b&gt;") && !svg.contains("<b>"));
        assert!(plot("Packets", &[]).is_none());
    }
}
