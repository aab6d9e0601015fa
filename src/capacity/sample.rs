//! A sample of the host's load, and how it is kept.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::time::Timestamp;
use crate::plan::types::Metrics;

/// The host now, by measure: cpu, memory and disk in percent, load as the average of one minute. What the system does
/// not say is left out. `disk` is a path on the file system that is meant; the processors are watched for `over`.
pub fn take(disk: &Path, over: Duration) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut put =
        |name: &str, value: Option<f64>| found.extend(value.map(|value| (name.to_owned(), rounded(value))));
    let before = processor();
    std::thread::sleep(over);
    put(
        "cpu",
        before.zip(processor()).map(|((busy, all), (busy2, all2))| {
            (busy2.saturating_sub(busy)) as f64 * 100.0 / (all2.saturating_sub(all)).max(1) as f64
        }),
    );
    put("memory", memory());
    put(
        "disk",
        crate::sys::space::space(disk)
            .ok()
            .filter(|room| room.total_bytes > 0)
            .map(|room| 100.0 - room.free_bytes as f64 * 100.0 / room.total_bytes as f64),
    );
    put(
        "load",
        std::fs::read_to_string("/proc/loadavg").ok().and_then(|t| t.split(' ').next()?.parse().ok()),
    );
    found
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

// Busy and all ticks of all processors: proc(5), the line `cpu` of /proc/stat; guest time is in user time already.
fn processor() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> =
        line.split_ascii_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
    let all = fields.iter().sum::<u64>();
    Some((all - fields.get(3)? - fields.get(4)?, all))
}

fn memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_ascii_whitespace().next()?.parse::<f64>().ok()
    };
    let (all, available) = (field("MemTotal:")?, field("MemAvailable:")?);
    (all > 0.0).then(|| 100.0 - available * 100.0 / all)
}

/// The sample as a line, with the fields that the plan names. Measures that it does not name are left out.
pub fn line(sample: &BTreeMap<String, f64>, at: Timestamp, metrics: &Metrics) -> String {
    let mut document = Map::new();
    put(
        &mut document,
        &metrics.time,
        Value::String(at.0.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
    );
    let usual: BTreeMap<String, String> =
        super::FIELDS.iter().map(|(name, field)| ((*name).to_owned(), (*field).to_owned())).collect();
    let fields = if metrics.fields.is_empty() { &usual } else { &metrics.fields };
    for (name, field) in fields {
        if let Some(value) = sample.get(name) {
            put(&mut document, field, Value::from(*value));
        }
    }
    Value::Object(document).to_string() + "\n"
}

fn put(document: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(document.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = document.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Adds a line by a single write, so that lines of several writers do not mix. After a line that somebody left without
/// an end, it begins a new one.
///
/// # Errors
/// If it cannot be written.
pub fn append(path: &Path, line: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o644).open(path)?;
    let size = file.metadata()?.len();
    let mut last = [b'\n'];
    if size > 0 {
        file.read_at(&mut last, size - 1)?;
    }
    let start = if last == [b'\n'] { "" } else { "\n" };
    let text = format!("{start}{line}");
    match file.write(text.as_bytes())? {
        count if count == text.len() => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::StorageFull, "only a part of the line could be written")),
    }
}
