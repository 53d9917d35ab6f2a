//! Plots, as SVG written by hand: bars to compare, lines to see growth.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const INK: &str = "#24292f";
const OURS: &str = "#1f6feb";
const FLOOR: &str = "#8c959f";
const RIVAL: &str = "#d4793a";
const LINES: &[&str] = &[OURS, RIVAL, FLOOR];

/// One bar.
#[derive(Debug)]
pub(super) struct Bar<'a> {
    pub name: &'a str,
    pub value: f64,
    pub group: Group,
}

/// Whose bar it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Group {
    Ours,
    Floor,
    Rival,
}

/// A line of points.
pub(super) struct Line<'a> {
    pub name: &'a str,
    pub points: &'a [(f64, f64)],
}

/// Bars beside each other's names, the least first.
pub(super) fn bars(title: &str, unit: &str, mut bars: Vec<Bar<'_>>) -> String {
    const LEFT: f64 = 130.0;
    const ROW: f64 = 26.0;
    bars.sort_by(|a, b| a.value.total_cmp(&b.value));
    let height = 50.0 + ROW * bars.len() as f64;
    let most = bars
        .iter()
        .map(|bar| bar.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = open(title, height);
    for (row, bar) in bars.iter().enumerate() {
        let y = 40.0 + ROW * row as f64;
        let length = (WIDTH - LEFT - 110.0) * bar.value / most;
        let colour = match bar.group {
            Group::Ours => OURS,
            Group::Floor => FLOOR,
            Group::Rival => RIVAL,
        };
        let (middle, end) = (y + 13.0, LEFT + length + 6.0);
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{middle:.0}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT:.0}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"18\" fill=\"{colour}\"/>\
             <text x=\"{end:.0}\" y=\"{middle:.0}\">{} {unit}</text>",
            LEFT - 8.0,
            bar.name,
            short(bar.value),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Lines on logarithmic axes: a constant is flat, and what is linear climbs.
pub(super) fn lines(title: &str, x_axis: &str, unit: &str, lines: &[Line<'_>]) -> String {
    const HEIGHT: f64 = 320.0;
    const LEFT: f64 = 70.0;
    const BOTTOM: f64 = 270.0;
    const TOP: f64 = 50.0;
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let xs = decades(points().map(|point| point.0));
    let ys = decades(points().map(|point| point.1));
    let x = |value: f64| LEFT + (WIDTH - LEFT - 30.0) * along(value, xs);
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * along(value, ys);
    let mut svg = open(title, HEIGHT);
    for power in xs.0..=xs.1 {
        let value = 10_f64.powi(power);
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            x(value),
            BOTTOM + 18.0,
            short(value)
        );
    }
    for power in ys.0..=ys.1 {
        let value = 10_f64.powi(power);
        let at = y(value);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT:.0} {at:.0}H{:.0}\" stroke=\"#d0d7de\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{} {unit}</text>",
            WIDTH - 30.0,
            LEFT - 6.0,
            at + 4.0,
            short(value)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{x_axis}</text>",
        WIDTH / 2.0,
        HEIGHT - 8.0
    );
    for (line, colour) in lines.iter().zip(LINES) {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|point| format!("{:.1} {:.1}", x(point.0), y(point.1)))
            .collect();
        let Some(last) = line.points.last() else {
            continue;
        };
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
            path.join("L"),
            x(last.0),
            y(last.1) - 8.0,
            line.name
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\" \
         fill=\"{INK}\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\
         <text x=\"12\" y=\"22\" font-size=\"14\">{title}</text>\n"
    )
}

/// The powers of ten around the values.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let logs: Vec<f64> = values
        .filter(|value| *value > 0.0)
        .map(f64::log10)
        .collect();
    let least = logs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match least.is_finite() && most.is_finite() {
        true => {
            let low = least.floor() as i32;
            (low, (most.ceil() as i32).max(low + 1))
        }
        false => (0, 1),
    }
}

fn along(value: f64, decades: (i32, i32)) -> f64 {
    (value.log10() - f64::from(decades.0)) / f64::from(decades.1 - decades.0)
}

fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        v => format!("{v:.3}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
    }
}
