//! How the local system behaves as its tables grow: with more history, webhooks and users, none of its figures
//! may rise with them.

use std::path::Path;

use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::harness::text;
use crate::load::{Figures, Load};
use crate::report::number;

/// Deliveries of each closed loop.
const DELIVERIES: usize = 4_000;
/// Events a second of each open loop, and how many.
const RATE: u32 = 200;
const EVENTS: usize = 2_000;
/// Webhooks of a user, at most.
const WEBHOOKS: u32 = 100;

/// What is measured at one point of a curve.
const MEASURED: [&str; 4] = ["deliveries/s", "CPU s/1,000", "p99 ms at 200/s", "PSS MB"];

/// A curve: what grows, and the figures at each size.
struct Curve {
    name: &'static str,
    points: Vec<(usize, [f64; 4])>,
}

/// Measures each curve, and draws them into a file.
pub(crate) async fn run(svg: Option<&Path>) -> Outcome<bool> {
    let base = Load::closed(DELIVERIES);
    let users = |count| Load { users: count, ..base.clone() };
    let webhooks = |count: u32| Load {
        users: count.div_ceil(WEBHOOKS),
        others: count.min(WEBHOOKS) - 1,
        ..base.clone()
    };
    let history = |count| Load { history: count, ..base.clone() };
    let curves: [(&str, Vec<(usize, Load)>); 3] = [
        ("deliveries in the history", [0, 100_000, 1_000_000].map(|n| (n, history(n))).into()),
        ("webhooks", [1, 100, 10_000].map(|n| (n as usize, webhooks(n))).into()),
        ("users", [1, 100, 10_000].map(|n| (n as usize, users(n))).into()),
    ];
    let (mut measured, mut rows) = (Vec::new(), Vec::new());
    for (name, loads) in curves {
        let mut points = Vec::new();
        for (size, load) in loads {
            let Figures { per_second, cpu, .. } = load.run(false).await?;
            let open = Load { rate: Some(RATE), deliveries: EVENTS, ..load };
            let Figures { latencies, pss_mb, .. } = open.run(false).await?;
            let figures = [per_second, cpu, latencies.per_mille(990), pss_mb];
            let shown = figures.iter().zip([0, 2, 1, 0]).map(|(figure, d)| format!("{figure:.d$}"));
            rows.push([name.to_owned(), size.to_string()].into_iter().chain(shown).collect());
            points.push((size, figures));
        }
        measured.push(Curve { name, points });
    }
    let header: Vec<&str> = ["what grows", "to"].into_iter().chain(MEASURED).collect();
    say(lay_out(&header, &rows, &[1, 2, 3, 4, 5]));
    if let Some(path) = svg {
        std::fs::write(path, drawn(&measured)).map_err(text)?;
    }
    Ok(true)
}

/// The curves as a grid: a column for what grows, a row for what is measured. Each panel begins at zero.
fn drawn(curves: &[Curve]) -> String {
    const WIDTH: f64 = 200.0;
    const HEIGHT: f64 = 80.0;
    const GAP: f64 = 40.0;
    let across = number(curves.len()) * (WIDTH + GAP) + GAP;
    let down = number(MEASURED.len()) * (HEIGHT + GAP) + GAP;
    let mut parts = vec![format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {across} {down}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    )];
    let text = |x: f64, y: f64, text: &str| {
        format!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"middle\">{text}</text>")
    };
    for (column, Curve { name, points }) in curves.iter().enumerate() {
        let left = GAP + number(column) * (WIDTH + GAP);
        parts.push(text(left + WIDTH / 2.0, GAP / 2.0, name));
        for (row, measured) in MEASURED.iter().enumerate() {
            let bottom = (number(row) + 1.0) * (HEIGHT + GAP);
            let most = points.iter().map(|(_, figures)| figures[row]).fold(0.0, f64::max);
            let step = WIDTH / number(points.len());
            let mut line = Vec::new();
            for (index, (size, figures)) in points.iter().enumerate() {
                let x = left + (number(index) + 0.5) * step;
                let y = bottom - figures[row] / most * (HEIGHT - GAP / 2.0);
                line.push(format!("{x:.0},{y:.0}"));
                let decimals = if figures[row] < 10.0 { 2 } else { 0 };
                parts.push(text(x, y - 5.0, &format!("{:.decimals$}", figures[row])));
                parts.push(text(x, bottom + 11.0, &size.to_string()));
            }
            parts.push(text(left + WIDTH / 2.0, bottom + 23.0, measured));
            let (right, line) = (left + WIDTH, line.join(" "));
            parts.push(format!(
                "<path d=\"M{left:.0},{bottom:.0} H{right:.0}\" stroke=\"gray\"/>\n\
                 <polyline points=\"{line}\" fill=\"none\" stroke=\"teal\" stroke-width=\"2\"/>"
            ));
        }
    }
    parts.push("</svg>\n".to_owned());
    parts.join("\n")
}
