//! Which snapshot somebody means: `3f2a91`, `latest`, `latest~2`, `@release`, each with `:path` behind it
//! if a part is meant; and the filters `--tag`, `--host` and `--since`. Pure.
//!
//! * Snapshots of one source (host and roots) are ordered by their **sequence number**, never by a clock.
//! * `latest` takes the newest of each source, and of these the one taken last: only between sources,
//!   which share no sequence, does a clock decide.
//! * `latest~2` is the second before `latest`, of the same source.
//! * Filters narrow down `latest`, `latest~N` and `@tag`. An id means that snapshot, filters or not.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

use crate::base::id::SnapshotId;
use crate::base::name::{Name, shown};
use crate::base::size;
use crate::base::time::Timestamp;
use crate::format::source::Source;

/// The fewest digits of an id that may stand for it.
pub const SHORTEST_PREFIX: usize = 4;

/// A snapshot, as far as choosing one needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which snapshot.
    pub id: SnapshotId,
    /// What it is a snapshot of: host and roots.
    pub source: Source,
    /// The host alone, as `--host` names it.
    pub host: Name,
    /// Its place among the snapshots of its source; greater is newer.
    pub sequence: u64,
    /// When it was taken, by the clock of its host.
    pub taken: Timestamp,
    /// Its tags.
    pub tags: Vec<Name>,
}

impl Known {
    fn bears(&self, tag: &str) -> bool {
        self.tags.iter().any(|have| have.0 == tag.as_bytes())
    }
}

/// What stands before the colon: one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first digits of an id, lower-case; all 64 for a full one.
    Id(String),
    /// The newest, or the so manieth before it.
    Latest {
        /// How many before the newest; 0 is the newest itself.
        back: usize,
    },
    /// The newest that carries this tag.
    Tag(String),
}

/// A snapshot, or a path in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Which snapshot.
    pub wanted: Wanted,
    /// Which part of it, as written; `None` for all.
    pub path: Option<Name>,
}

/// Which snapshots come into question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Tags: any element suffices; in an element such as `app,release` each tag is needed.
    pub tags: Vec<String>,
    /// Hosts, any of which suffices.
    pub hosts: Vec<Name>,
    /// Taken at this time or later.
    pub since: Option<Timestamp>,
}

/// Why a text means no snapshot, or no one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// None of the forms.
    #[error("`{text}` names no snapshot: {why}")]
    Form {
        /// What was written; safe for a terminal.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No id begins like this.
    #[error("no snapshot has an id that begins with {prefix}")]
    Unknown {
        /// The digits.
        prefix: String,
    },
    /// Several ids begin like this.
    #[error("{prefix} is the beginning of {}:{}", size::plural(.found.len() as u64, "id"), listed(.found))]
    Ambiguous {
        /// The digits.
        prefix: String,
        /// The snapshots whose ids begin so.
        found: Vec<Known>,
    },
    /// There is no snapshot, or none that the filters let through.
    #[error("no snapshot matches {wanted}{}", if *.filtered { " and the filters" } else { "" })]
    NoneMatch {
        /// What was wanted.
        wanted: Wanted,
        /// True if filters left some out.
        filtered: bool,
    },
    /// The source has fewer snapshots than that.
    #[error("{wanted} does not exist: {} has {}", .from, size::plural(*.have, "snapshot"))]
    TooFarBack {
        /// What was wanted.
        wanted: Wanted,
        /// The source of the newest snapshot.
        from: Source,
        /// How many of its snapshots match.
        have: u64,
    },
    /// Not a time.
    #[error("`{}` is not a time", shown(.0.as_bytes()))]
    Since(String),
}

impl SelectError {
    /// What to do about it.
    pub fn next(&self) -> &'static str {
        match self {
            Self::Form { .. } => {
                "write an id or at least four of its first digits, latest, latest~2 or @tag, and :path for a part"
            }
            Self::Ambiguous { .. } => "write more digits",
            Self::NoneMatch { filtered: true, .. } => {
                "widen --tag, --host or --since; lifeboat snapshots lists what there is"
            }
            Self::Unknown { .. } | Self::NoneMatch { .. } | Self::TooFarBack { .. } => {
                "lifeboat snapshots lists what there is"
            }
            Self::Since(_) => {
                "write a date (2026-11-01), a time (2026-11-01T08:00:00Z) or an age (90m, 36h, 3d, 2w; \
                 m is a minute and M a month)"
            }
        }
    }
}

// One line each, with as many digits as tell them apart.
fn listed(found: &[Known]) -> String {
    const MOST: usize = 10;
    let hex: Vec<String> = found.iter().map(|known| known.id.to_hex()).collect();
    let differ = |digits: usize| {
        let mut parts: Vec<&str> = hex.iter().map(|id| &id[..digits]).collect();
        parts.sort_unstable();
        parts.windows(2).all(|pair| pair[0] != pair[1])
    };
    let digits = (8..64).find(|&digits| differ(digits)).unwrap_or(64);
    let mut text = String::new();
    for (known, id) in found.iter().zip(&hex).take(MOST) {
        let host = known.host.shown();
        text.push_str(&format!("\n  {}  {}  {host}", &id[..digits], known.taken.shown()));
    }
    if found.len() > MOST {
        text.push_str(&format!("\n  and {} more", found.len() - MOST));
    }
    text
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(prefix) => f.write_str(prefix),
            Self::Latest { back: 0 } => f.write_str("latest"),
            Self::Latest { back } => write!(f, "latest~{back}"),
            Self::Tag(tag) => write!(f, "@{}", shown(tag.as_bytes())),
        }
    }
}

impl Selector {
    /// Reads `SNAPSHOT` or `SNAPSHOT:path`. The first colon separates, as neither ids nor tags have one.
    ///
    /// # Errors
    /// [`SelectError::Form`].
    pub fn parse(text: &OsStr) -> Result<Self, SelectError> {
        let bytes = text.as_bytes();
        let form = |why| SelectError::Form { text: shown(bytes), why };
        let (snapshot, path) = match memchr::memchr(b':', bytes) {
            Some(colon) => (&bytes[..colon], Some(&bytes[colon + 1..])),
            None => (bytes, None),
        };
        // an empty variable in `latest:$DIR` must not turn a part into the whole
        if path.is_some_and(<[u8]>::is_empty) {
            return Err(form("there is no path after the colon"));
        }
        let snapshot = str::from_utf8(snapshot).map_err(|_| form("it is not UTF-8"))?;
        Ok(Self {
            wanted: Wanted::parse(snapshot).map_err(form)?,
            path: path.map(|path| Name(path.to_vec())),
        })
    }
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(tag) = text.strip_prefix('@') {
            return if tag.is_empty() {
                Err("there is no tag after the @")
            } else {
                Ok(Self::Tag(tag.to_owned()))
            };
        }
        if text == "latest" {
            return Ok(Self::Latest { back: 0 });
        }
        if let Some(back) = text.strip_prefix("latest~") {
            let digits_only = back.bytes().all(|byte| byte.is_ascii_digit());
            let back = back.parse().ok().filter(|_| digits_only).ok_or("after latest~ comes a number")?;
            return Ok(Self::Latest { back });
        }
        match text.len() {
            _ if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => {
                Err("it is neither latest nor a tag, and an id has only the digits 0 to 9 and a to f")
            }
            0..SHORTEST_PREFIX => Err("an id needs at least its first four digits"),
            65.. => Err("an id has 64 digits"),
            _ => Ok(Self::Id(text.to_owned())),
        }
    }
}

impl Filters {
    /// True if this snapshot comes into question.
    pub fn admit(&self, known: &Known) -> bool {
        let has_all = |tags: &String| tags.split(',').all(|tag| known.bears(tag));
        (self.tags.is_empty() || self.tags.iter().any(has_all))
            && (self.hosts.is_empty() || self.hosts.contains(&known.host))
            && self.since.is_none_or(|since| known.taken >= since)
    }
}

/// The snapshots that the filters admit, by source and within it by sequence, oldest first.
pub fn admitted<'a>(known: &'a [Known], filters: &Filters) -> Vec<&'a Known> {
    let mut found: Vec<&Known> = known.iter().filter(|one| filters.admit(one)).collect();
    found.sort_by(|a, b| (&a.source, a.sequence, a.id).cmp(&(&b.source, b.sequence, b.id)));
    found
}

/// Finds the one snapshot that is meant (see the module's header).
///
/// # Errors
/// [`SelectError`], if there is none, or more than one id begins with the digits given.
pub fn select<'a>(wanted: &Wanted, known: &'a [Known], filters: &Filters) -> Result<&'a Known, SelectError> {
    match wanted {
        Wanted::Id(prefix) => by_prefix(prefix, known),
        Wanted::Latest { back } => newest(wanted, known, filters, *back, |_| true),
        Wanted::Tag(tag) => newest(wanted, known, filters, 0, |one| one.bears(tag)),
    }
}

fn by_prefix<'a>(prefix: &str, known: &'a [Known]) -> Result<&'a Known, SelectError> {
    let mut found: Vec<&Known> = known.iter().filter(|one| one.id.to_hex().starts_with(prefix)).collect();
    found.sort_by_key(|one| one.id);
    found.dedup_by_key(|one| one.id);
    match found[..] {
        [] => Err(SelectError::Unknown { prefix: prefix.to_owned() }),
        [one] => Ok(one),
        _ => {
            let found = found.into_iter().cloned().collect();
            Err(SelectError::Ambiguous { prefix: prefix.to_owned(), found })
        }
    }
}

fn newest<'a>(
    wanted: &Wanted,
    known: &'a [Known],
    filters: &Filters,
    back: usize,
    fits: impl Fn(&Known) -> bool,
) -> Result<&'a Known, SelectError> {
    let mut sources: BTreeMap<&Source, Vec<&Known>> = BTreeMap::new();
    for one in admitted(known, filters).into_iter().filter(|one| fits(one)) {
        sources.entry(&one.source).or_default().push(one);
    }
    let taken_last = sources.into_values().max_by_key(|source| source.last().map(|one| one.taken));
    let Some(source) = taken_last else {
        let filtered = known.iter().any(fits);
        return Err(SelectError::NoneMatch { wanted: wanted.clone(), filtered });
    };
    source.iter().rev().nth(back).copied().ok_or_else(|| SelectError::TooFarBack {
        wanted: wanted.clone(),
        from: source[0].source.clone(),
        have: source.len() as u64,
    })
}

/// Reads the value of `--since`: RFC 3339, a date (its beginning, UTC) or an age such as `3d` or `1h 30m`.
///
/// # Errors
/// [`SelectError::Since`], if it is none of these.
pub fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, SelectError> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(Timestamp(moment.with_timezone(&Utc)));
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(Timestamp(date.and_time(NaiveTime::MIN).and_utc()));
    }
    let age = humantime::parse_duration(text).map_err(|_| SelectError::Since(text.to_owned()))?;
    // an age beyond the calendar leaves nothing out
    let moment = TimeDelta::from_std(age).ok().and_then(|age| now.0.checked_sub_signed(age));
    Ok(Timestamp(moment.unwrap_or(DateTime::<Utc>::MIN_UTC)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        parse_since(text, Timestamp::from_seconds(0).unwrap()).unwrap()
    }

    fn known(id: &str, source: &str, sequence: u64, taken: &str, tags: &[&str]) -> Known {
        let (host, root) = source.split_once(' ').unwrap();
        let host = Name::from(host);
        Known {
            id: SnapshotId::from_hex(&format!("{id:0<64}")).unwrap(),
            source: Source::of_files(&host, [&Name::from(root)]),
            host,
            sequence,
            taken: at(taken),
            tags: tags.iter().map(|&tag| Name::from(tag)).collect(),
        }
    }

    // On `web` the clock was wrong when the second was taken; `db` was saved last.
    fn catalog() -> Vec<Known> {
        vec![
            known("abcd33", "web /srv", 3, "2026-11-03", &["daily"]),
            known("abcd11", "web /srv", 1, "2026-11-01", &["release", "app"]),
            known("abce22", "web /srv", 2, "2026-12-24", &["release"]),
            known("12340", "db /var", 1, "2026-11-02", &[]),
            known("12341", "db /var", 2, "2026-11-04", &["daily"]),
        ]
    }

    fn find(text: &str, filters: &Filters) -> Result<String, String> {
        let selector = Selector::parse(OsStr::new(text)).map_err(|error| error.to_string())?;
        let known = catalog();
        let found = select(&selector.wanted, &known, filters);
        found.map(|one| one.id.to_hex()[..6].to_owned()).map_err(|error| error.to_string())
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(find(text, &Filters::default()).as_deref(), Ok(expected), "{text}");
    }

    fn check_refused(text: &str, expected: &str) {
        assert_eq!(find(text, &Filters::default()), Err(expected.to_owned()), "{text}");
    }

    #[test]
    fn a_full_id_and_an_unambiguous_beginning_are_found() {
        check(&format!("{:0<64}", "abcd33"), "abcd33");
        check("abce", "abce22");
        check("12341", "123410");
    }

    #[test]
    fn an_ambiguous_beginning_lists_what_it_could_be() {
        check_refused(
            "abcd",
            "abcd is the beginning of 2 ids:\
             \n  abcd1100  2026-11-01 00:00:00  web\
             \n  abcd3300  2026-11-03 00:00:00  web",
        );
        check_refused("beef", "no snapshot has an id that begins with beef");
        let twins: Vec<Known> =
            (0..12).map(|n| known(&format!("1234567890{n:x}"), "web /", n, "2026-11-01", &[])).collect();
        let text = by_prefix("1234", &twins).unwrap_err().to_string();
        assert!(text.contains("\n  12345678903  2026"), "{text}");
        assert!(text.ends_with("\n  and 2 more"), "{text}");
    }

    #[test]
    fn latest_is_by_sequence_in_a_source_and_by_time_between_sources() {
        check("latest", "123410");
        check("latest~0", "123410");
        check("latest~1", "123400");
        check_refused("latest~2", "latest~2 does not exist: db /var has 2 snapshots");
        let web = Filters { hosts: vec![Name::from("web")], ..Filters::default() };
        assert_eq!(find("latest", &web).as_deref(), Ok("abcd33"));
        assert_eq!(find("latest~2", &web).as_deref(), Ok("abcd11"));
    }

    #[test]
    fn a_tag_means_the_newest_that_has_it() {
        check("@release", "abce22");
        check("@daily", "123410");
        check_refused("@nightly", "no snapshot matches @nightly");
    }

    #[test]
    fn filters_narrow_down_but_an_id_is_an_id() {
        let tags = |tags: &[&str]| Filters {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..Filters::default()
        };
        assert_eq!(find("latest", &tags(&["release,app"])).as_deref(), Ok("abcd11"));
        assert_eq!(find("latest", &tags(&["app", "daily"])).as_deref(), Ok("123410"));
        assert_eq!(find("12340", &tags(&["release"])).as_deref(), Ok("123400"));
        let late = Filters { since: Some(at("2026-12-01")), ..Filters::default() };
        assert_eq!(find("latest", &late).as_deref(), Ok("abce22"));
        assert_eq!(find("@daily", &late), Err("no snapshot matches @daily and the filters".to_owned()));
        let catalog = catalog();
        let order: Vec<u64> =
            admitted(&catalog, &Filters::default()).iter().map(|one| one.sequence).collect();
        assert_eq!(order, [1, 2, 1, 2, 3]);
    }

    #[test]
    fn the_first_colon_begins_the_path() {
        let parse = |text: &[u8]| Selector::parse(OsStr::from_bytes(text)).unwrap();
        let selector = parse(b"@release:etc/a:b\xff");
        assert_eq!(selector.wanted, Wanted::Tag("release".to_owned()));
        assert_eq!(selector.path, Some(Name(b"etc/a:b\xff".to_vec())));
        assert_eq!(parse(b"latest~12").wanted, Wanted::Latest { back: 12 });
        assert_eq!(parse(b"abcd").path, None);
    }

    #[test]
    fn other_forms_are_refused_with_the_reason() {
        for (text, why) in [
            (&b"latest:"[..], "there is no path after the colon"),
            (b"@", "there is no tag after the @"),
            (b"latest~", "after latest~ comes a number"),
            (b"latest~+1", "after latest~ comes a number"),
            (b"latest~99999999999999999999", "after latest~ comes a number"),
            (b"abc", "an id needs at least its first four digits"),
            (b"", "an id needs at least its first four digits"),
            (b"ABCD", "it is neither latest nor a tag, and an id has only the digits 0 to 9 and a to f"),
            (b"a\x1b", "it is neither latest nor a tag, and an id has only the digits 0 to 9 and a to f"),
            (b"\xff", "it is not UTF-8"),
            (&[b'a'; 65], "an id has 64 digits"),
        ] {
            let error = Selector::parse(OsStr::from_bytes(text)).unwrap_err();
            assert_eq!(error.to_string(), format!("`{}` names no snapshot: {why}", shown(text)));
        }
    }

    #[test]
    fn an_empty_repository_has_no_latest() {
        let wanted = Wanted::Latest { back: 0 };
        let error = select(&wanted, &[], &Filters::default()).unwrap_err();
        assert_eq!(error, SelectError::NoneMatch { wanted, filtered: false });
    }

    #[test]
    fn since_takes_a_time_a_date_or_an_age() {
        let now = at("2026-11-23T12:00:00Z");
        let since = |text: &str| parse_since(text, now).map(Timestamp::rfc3339);
        assert_eq!(since("2026-11-01").as_deref(), Ok("2026-11-01T00:00:00Z"));
        assert_eq!(since("2026-11-01T08:00:00+02:00").as_deref(), Ok("2026-11-01T06:00:00Z"));
        assert_eq!(since("3d").as_deref(), Ok("2026-11-20T12:00:00Z"));
        assert_eq!(since("1h 30m").as_deref(), Ok("2026-11-23T10:30:00Z"));
        assert!(parse_since("500000000000y", now).is_ok_and(|moment| moment < at("0001-01-01")));
        for text in ["yesterday", "", "3", "2026-13-01", "-3d"] {
            assert_eq!(since(text), Err(SelectError::Since(text.to_owned())));
        }
    }
}
