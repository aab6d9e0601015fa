//! A series as a small drawing of blocks, for a terminal.

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The series in a line of at most so many characters, from `least` to `most`; blanks where there is nothing.
pub fn line(series: &[Option<f64>], width: usize, least: f64, most: f64) -> String {
    fit(series, width)
        .into_iter()
        .map(|value| value.map_or(' ', |value| block(value, least, most, 8)))
        .collect()
}

/// The series in so many rows, the highest first, with its numbers on the left.
pub fn rows(series: &[Option<f64>], width: usize, height: usize) -> Vec<String> {
    let values: Vec<f64> = series.iter().flatten().copied().collect();
    let (Some(least), Some(most)) =
        (values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max))
    else {
        return Vec::new();
    };
    let most = if most > least { most } else { least + 1.0 };
    let labels: Vec<String> = (0..height)
        .map(|row| format!("{:.1}", most - (most - least) * row as f64 / (height.max(2) - 1) as f64))
        .collect();
    let margin = labels.iter().map(String::len).max().unwrap_or_default();
    let points = fit(series, width.saturating_sub(margin + 2).max(1));
    let steps = height * 8;
    let draw = |row: usize| {
        let base = (height - 1 - row) * 8;
        let cells = points.iter().map(|value| {
            let Some(value) = value else { return ' ' };
            let filled = 1 + ((value - least) / (most - least) * (steps - 1) as f64).round() as usize;
            match filled.saturating_sub(base) {
                0 => ' ',
                part => BLOCKS[part.min(8) - 1],
            }
        });
        format!("{:>margin$} │{}", labels[row], cells.collect::<String>().trim_end())
    };
    (0..height).map(draw).collect()
}

fn block(value: f64, least: f64, most: f64, steps: usize) -> char {
    let share = if most > least { ((value - least) / (most - least)).clamp(0.0, 1.0) } else { 0.0 };
    BLOCKS[((share * (steps - 1) as f64).round() as usize).min(7)]
}

// The averages of neighbours, so that there are no more than `width`.
fn fit(series: &[Option<f64>], width: usize) -> Vec<Option<f64>> {
    let width = width.clamp(1, series.len().max(1));
    (0..width)
        .map(|at| {
            let part = &series[at * series.len() / width..((at + 1) * series.len() / width)];
            let values: Vec<f64> = part.iter().flatten().copied().collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        })
        .collect()
}
