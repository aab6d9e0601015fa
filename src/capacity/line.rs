//! A line of measurements: a JSON object of which only the fields asked for are understood.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The most fields that are measured.
pub const MAX: usize = 64;

/// Which fields are wanted, as a tree of their paths.
#[derive(Debug)]
pub struct Fields {
    root: Vec<Node>,
    count: usize,
}

#[derive(Debug)]
struct Node {
    key: String,
    // the time is the first
    slots: Vec<usize>,
    inner: Vec<Node>,
}

/// What a line holds.
#[derive(Debug, Default, PartialEq)]
pub struct Values {
    /// Seconds since 1970.
    pub time: Option<f64>,
    /// In the order of the fields; not a number where there is none.
    pub values: Vec<f64>,
}

impl Fields {
    /// The field with the time, and those that are measured; paths such as `cpu.percent`.
    pub fn new(time: &str, fields: &[String]) -> Self {
        let mut found = Self { root: Vec::new(), count: fields.len().min(MAX) };
        for (slot, path) in
            std::iter::once(time).chain(fields.iter().take(MAX).map(String::as_str)).enumerate()
        {
            let mut nodes = &mut found.root;
            let mut parts = path.split('.').peekable();
            while let Some(part) = parts.next() {
                let at = nodes.iter().position(|node| node.key == part).unwrap_or_else(|| {
                    nodes.push(Node { key: part.to_owned(), slots: Vec::new(), inner: Vec::new() });
                    nodes.len() - 1
                });
                if parts.peek().is_none() {
                    nodes[at].slots.push(slot);
                }
                nodes = &mut nodes[at].inner;
            }
        }
        found
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Reads a line into `into`; false if it is no JSON object with a time.
    pub fn read(&self, line: &[u8], into: &mut Values) -> bool {
        into.time = None;
        into.values.clear();
        into.values.resize(self.count, f64::NAN);
        let mut json = serde_json::Deserializer::from_slice(line);
        let read = json.deserialize_map(Object { nodes: &self.root, into });
        read.is_ok() && json.end().is_ok() && into.time.is_some()
    }
}

struct Object<'f, 'v> {
    nodes: &'f [Node],
    into: &'v mut Values,
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(node) = map.next_key_seed(Key(self.nodes))? {
            match node {
                Some(node) => map.next_value_seed(Field { node, into: &mut *self.into })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Key<'f>(&'f [Node]);

impl<'de, 'f> DeserializeSeed<'de> for Key<'f> {
    type Value = Option<&'f Node>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'f> Visitor<'_> for Key<'f> {
    type Value = Option<&'f Node>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|node| node.key == key))
    }
}

struct Field<'f, 'v> {
    node: &'f Node,
    into: &'v mut Values,
}

impl Field<'_, '_> {
    fn set(self, number: f64) {
        for &slot in &self.node.slots {
            match slot.checked_sub(1) {
                None => self.into.time = Some(number),
                Some(at) => self.into.values[at] = number,
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Field<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Field<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.set(number);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.set(number as f64);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.set(number as f64);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.node.slots.contains(&0) {
            self.into.time = time_of(text);
        } else if let Ok(number) = text.trim().parse::<f64>() {
            self.set(number);
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Object { nodes: &self.node.inner, into: self.into }.visit_map(map)
    }
}

// RFC 3339; without a zone as UTC. The usual form is read here, as it is read ten million times.
fn time_of(text: &str) -> Option<f64> {
    let b = text.as_bytes();
    if b.len() < 19 {
        return text.parse().ok();
    }
    let number = |from: usize, to: usize| {
        b[from..to]
            .iter()
            .try_fold(0_i64, |all, d| d.is_ascii_digit().then(|| all * 10 + i64::from(d - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let mut rest = &b[19..];
    let mut part = 0.0;
    if let [b'.', digits @ ..] = rest {
        let count = digits.iter().take_while(|d| d.is_ascii_digit()).count();
        let mut scale = 0.1;
        for digit in &digits[..count] {
            part += f64::from(digit - b'0') * scale;
            scale /= 10.0;
        }
        rest = &digits[count..];
    }
    let is_usual =
        matches!(rest, b"" | b"Z" | b"+00:00") && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_usual || hour > 23 || minute > 59 || second > 60 {
        let other: DateTime<Utc> = text.parse().ok()?;
        return Some(other.timestamp_micros() as f64 / 1e6);
    }
    // days since 1970 in the calendar of Gregory, counted from March
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
        - 1
        - 719_468;
    Some((days * 86400 + hour * 3600 + minute * 60 + second) as f64 + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_paths() {
        let fields = Fields::new("t", &["a".to_owned(), "b.c".to_owned(), "d".to_owned()]);
        let mut found = Values::default();
        assert!(
            fields.read(br#"{"x": [1, {"a": 2}], "b": {"a": 9, "c": 2.5}, "t": 5, "a": "7"}"#, &mut found)
        );
        assert_eq!((found.time, &found.values[..2]), (Some(5.0), &[7.0, 2.5][..]));
        assert!(found.values[2].is_nan());
        for line in
            ["", "{", "[1]", r#"{"a": 1}"#, r#"{"t": 1} x"#, r#"{"t": null}"#, r#"{"t": "yesterday"}"#]
        {
            assert!(!fields.read(line.as_bytes(), &mut found), "{line}");
        }
    }

    #[test]
    fn times_are_those_of_chrono() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59.25Z",
            "2026-11-24T10:11:12+00:00",
            "2026-11-24T10:11:12.5+02:00",
            "1999-12-31T23:59:59Z",
        ] {
            let other: DateTime<Utc> = text.parse().unwrap();
            assert!((time_of(text).unwrap() - other.timestamp_micros() as f64 / 1e6).abs() < 1e-3, "{text}");
        }
        assert_eq!(time_of("1700000000"), Some(1_700_000_000.0));
        assert_eq!(time_of("2026-13-24T10:11:12Z"), None);
    }
}
