//! Who, where, with what.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::Subject;
use crate::base::id::SnapshotId;
use crate::base::time::Timestamp;
use crate::evidence::{Host, Operator, Seconds, SnapshotFacts, Tool};
use crate::format::snapshot::Document;
use crate::repo::documents::Snapshot;
use crate::sys::host::{host_name, user_name};

/// The machine this runs on.
pub fn host() -> Host {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let hashed = |text: Vec<u8>| hex::encode(Sha256::digest(text.trim_ascii()));
    Host {
        hostname: host_name().shown(),
        machine_id_hash: std::fs::read("/etc/machine-id").ok().map(hashed),
        kernel,
        os: std::fs::read_to_string("/etc/os-release")
            .map_or_else(|_| "unknown".to_owned(), |text| distribution(&text)),
    }
}

fn distribution(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    crate::base::name::shown(line.unwrap_or("unknown").trim_matches('"').as_bytes())
}

/// Whoever runs this; `sudo_user` is the user behind sudo.
pub fn operator(sudo_user: Option<String>) -> Operator {
    Operator { user: user_name().shown(), sudo_user, role: None }
}

/// This program.
pub fn tool(program: &Path) -> Tool {
    let sha256 = std::fs::read(program).ok().map(|bytes| hex::encode(Sha256::digest(bytes)));
    Tool { version: env!("CARGO_PKG_VERSION").to_owned(), sha256 }
}

/// What is known of the snapshot.
pub fn snapshot(subject: &Subject<'_>) -> SnapshotFacts {
    let same_as_last_drill = subject.same_as_last_drill;
    SnapshotFacts { same_as_last_drill, ..of_snapshot(subject.snapshot.id, &subject.snapshot.document) }
}

/// What is known of any snapshot.
pub fn of_snapshot(id: SnapshotId, document: &Document) -> SnapshotFacts {
    SnapshotFacts {
        id: id.to_hex(),
        taken_at: document.started,
        consistent_at: document.databases.iter().map(|d| d.at).min(),
        files: document.statistics.files,
        bytes: document.statistics.bytes,
        root_hash: None,
        repository: document.repository.clone(),
        same_as_last_drill: false,
    }
}

/// How old the snapshot was at the disaster, and the longest time without a good snapshot of the same tree in the
/// 30 days before it.
pub fn loss(subject: &Subject<'_>, at: Timestamp) -> (Seconds, Seconds) {
    const WINDOW: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);
    let document = &subject.snapshot.document;
    // `rehearse` refuses a disaster before the snapshot
    let age = at.since(document.started);
    let is_good = |s: &&Snapshot| {
        let d = &s.document;
        !s.forgotten
            && !d.is_partial()
            && d.roots.iter().any(|r| document.roots.iter().any(|m| m.path == r.path))
    };
    let mut times: Vec<Timestamp> = subject.kept.iter().filter(is_good).map(|s| s.document.started).collect();
    times.retain(|time| *time <= at && at.since(*time) <= WINDOW);
    times.sort();
    let ends = times.iter().skip(1).copied().chain([at]);
    let worst = times.iter().zip(ends).map(|(from, to)| to.since(*from)).max().unwrap_or(age);
    (Seconds::new(age), Seconds::new(worst.max(age)))
}
