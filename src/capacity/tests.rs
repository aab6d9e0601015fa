use std::io::Write as _;

use super::*;

fn metrics(text: serde_json::Value) -> Metrics {
    serde_json::from_value(text).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds).unwrap()
}

fn file(lines: impl Iterator<Item = String>) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut out = std::io::BufWriter::new(&mut file);
    for line in lines {
        writeln!(out, "{line}").unwrap();
    }
    drop(out);
    file
}

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86400;

#[test]
fn windows_are_counted_by_time_and_broken_lines_are_not_fatal() {
    // a sample a minute for 9 days: the operations document took the last 12,960 lines for 90 days
    let lines = (0..9 * 1440_i64).map(|i| {
        let when = at(NOW - 9 * DAY + 60 * i + 30).rfc3339();
        format!(
            r#"{{"timestamp": "{when}", "cpu_percent": {}, "disk_usage_percent": {}}}"#,
            i % 100,
            40.0 + i as f64 / 1440.0
        )
    });
    let broken = ["{\"timestamp\": \"2026", "not json", "{}"].map(str::to_owned);
    let future = format!(r#"{{"timestamp": {}, "cpu_percent": 5}}"#, NOW + 7200);
    let file = file(lines.chain(broken).chain([future, String::new()]));
    let rule = Capacity::default();
    let found = measure(file.path(), &metrics(serde_json::json!({"file": "x"})), &rule, at(NOW)).unwrap();
    assert_eq!((found.lines, found.broken, found.future), (9 * 1440 + 4, 3, 1));
    let samples: Vec<u64> = found.windows.iter().map(|w| w.samples).collect();
    assert_eq!(samples, [1440, 7 * 1440, 9 * 1440]);
    let long = &found.windows[2];
    assert!((long.covers / DAY as f64 - 9.0).abs() < 0.01, "it covers 9 days of 90");
    let cpu = &long.measures["cpu"];
    assert!(
        (cpu.average - 49.5).abs() < 0.1 && (cpu.p95 / 94.0 - 1.0).abs() < 0.02 && cpu.peak == 99.0,
        "{cpu:?}"
    );
    // the disk grows by one a day from 40, and 90 days are too few of 9
    let week = &found.windows[1].measures["disk"];
    let trend = week.trend.as_ref().unwrap();
    assert!((trend.per_day - 1.0).abs() < 0.01 && (trend.level - 49.0).abs() < 0.1, "{trend:?}");
    let forecast = week.forecast.as_ref().unwrap();
    assert!(forecast.days.is_none() && forecast.reason.starts_with("not within"), "{forecast:?}");
}

#[test]
fn pieces_and_processors_change_nothing() {
    // more than two pieces, lines of unequal length across their borders
    let count = 120_000_i64;
    let lines = (0..count).map(|i| {
        format!(r#"{{"t": {}, "v": {}, "pad": "{}"}}"#, NOW - i, i % 1000, "x".repeat((i % 90) as usize))
    });
    let file = file(lines);
    assert!(file.path().metadata().unwrap().len() > 9 << 20);
    let wanted = metrics(serde_json::json!({"file": "x", "time": "t", "fields": {"v": "v"}}));
    let found = measure(file.path(), &wanted, &Capacity::default(), at(NOW)).unwrap();
    assert_eq!((found.lines, found.broken), (count as u64, 0));
    let v = &found.windows[2].measures["v"];
    assert_eq!((v.samples, v.average), (count as u64, 499.5));
    assert!((v.p95 / 949.0 - 1.0).abs() <= histogram::ERROR * 1.5, "{}", v.p95);
}

#[test]
fn a_trend_stands_outliers_and_knows_what_it_does_not_know() {
    let line = |per_day: f64| {
        (0..50).map(|i| (f64::from(i), 10.0 + per_day * f64::from(i) + f64::from(i % 3))).collect::<Vec<_>>()
    };
    let mut points = line(0.5);
    for i in [3, 20, 21, 40, 44] {
        points[i].1 = 900.0;
    }
    let found = forecast::trend(&points).unwrap();
    assert!((found.per_day - 0.5).abs() < 0.05 && found.low <= 0.5 && found.high >= 0.5, "{found:?}");
    let full = Forecast::of(Some(&found), &points, 100.0, 49.0);
    let days = full.days.unwrap();
    assert!(
        (120.0..150.0).contains(&days) && full.earliest.unwrap() <= days && full.latest.unwrap() >= days,
        "{full:?}"
    );
    let of = |points: &[(f64, f64)], limit| {
        Forecast::of(forecast::trend(points).as_ref(), points, limit, 49.0).words()
    };
    assert!(of(&points[..9], 100.0).starts_with("not enough data"));
    assert_eq!(of(&line(-0.5), 100.0), "it does not grow");
    let flat: Vec<_> = (0..50).map(|i| (f64::from(i), f64::from(i * 7 % 5))).collect();
    assert!(of(&flat, 100.0).contains("grow"), "{}", of(&flat, 100.0));
    assert!(of(&line(0.01), 1e6).starts_with("not within"));
    // minutes are told as minutes
    let short: Vec<_> = line(0.5).into_iter().map(|(day, value)| (day / 1440.0, value)).collect();
    let words = |limit, now| Forecast::of(forecast::trend(&short).as_ref(), &short, limit, now).words();
    let now = 49.0 / 1440.0;
    assert_eq!(words(1e6, now), "not within 3 h 16 min; further than that 49 min 00 s of data do not tell");
    assert!(words(50.0, now).starts_with("in 29 min"), "{}", words(50.0, now));
    assert_eq!(words(1.0, now), "now, it is there");
    assert!(Forecast::of(Some(&found), &points, 100.0, 500.0).words().contains("newest is older"));
}

#[test]
fn a_repository_that_fills_its_disk_is_forecast() {
    let points = (0..30).map(|i| repository::Point {
        at: at(NOW - (30 - i) * DAY),
        bytes: 1 << 30,
        stored: (i as u64 + 1) * 100_000_000,
    });
    let found = repository::of_points(points.collect(), Some(2_000_000_000), at(NOW));
    let days = found.forecast.days.unwrap();
    assert!((18.0..21.0).contains(&days), "{days}");
    assert!((found.deduplication.unwrap() - 10.7).abs() < 0.1);
    let none = repository::of_points(Vec::new(), Some(1), at(NOW));
    assert!(none.forecast.words().starts_with("not enough data"));
}

#[test]
fn what_is_recorded_is_read_back_also_by_many_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs/metrics.jsonl");
    let wanted = metrics(
        serde_json::json!({"file": "x", "time": "at", "fields": {"cpu": "host.cpu", "disk": "host.disk", "other": "x"}}),
    );
    let sample = sample::take(dir.path(), std::time::Duration::from_millis(20));
    for name in ["cpu", "memory", "disk", "load"] {
        assert!(sample.contains_key(name), "{name} is not in {sample:?}");
    }
    let line = sample::line(&sample, at(NOW), &wanted);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| sample::append(&path, &line).unwrap()));
        }
    });
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"half").unwrap();
    sample::append(&path, &line).unwrap();
    let found = measure(&path, &wanted, &Capacity::default(), at(NOW + 5)).unwrap();
    assert_eq!((found.lines, found.broken, found.windows[0].measures["disk"].samples), (202, 1, 201));
}

#[test]
fn plots_fit_their_width() {
    let series: Vec<Option<f64>> = (0..240).map(|i| (i % 10 != 0).then_some(f64::from(i))).collect();
    for width in [1, 20, 80, 500] {
        assert!(plot::line(&series, width, 0.0, 239.0).chars().count() <= width);
        let rows = plot::rows(&series, width, 6);
        assert_eq!(rows.len(), 6);
        assert!(width < 20 || rows.iter().all(|row| row.chars().count() <= width), "{rows:#?}");
    }
    assert!(plot::rows(&[None], 20, 4).is_empty());
    let line = plot::line(&[Some(0.0), Some(50.0), None, Some(100.0)], 4, 0.0, 100.0);
    assert_eq!(line, "▁▅ █");
}
