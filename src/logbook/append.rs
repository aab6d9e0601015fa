//! Adding an act.

use crate::base::Name;
use crate::base::id::RecordId;
use crate::format::record::{NAMESPACE, Record};
use crate::repo::keys::WriterKey;
use crate::repo::{Repo, Result};
use crate::store::{Key, Kind};

use super::read::names_of;

/// Something that was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    /// What kind of act: `snapshot`, `verify`, `restore`, `forget`, `prune`, `repair`, …
    pub kind: String,
    /// Where.
    pub host: Name,
    /// Who.
    pub user: Name,
    /// What was done and found; by kind.
    pub body: serde_json::Value,
}

/// Adds an act to the chain of the key's writer.
///
/// # Errors
/// If it could not be written. The operation that it tells of is done all the same: the caller
/// reports the error and goes on.
pub fn append(repo: &Repo, key: &WriterKey, act: Act) -> Result<RecordId> {
    Ok(write(repo, key, act)?.0)
}

/// Like [`append`], and tells where in the chain the act is.
///
/// # Errors
/// As [`append`].
pub fn write(repo: &Repo, key: &WriterKey, act: Act) -> Result<(RecordId, Record)> {
    let writer = key.public().writer_name();
    let (sequence, previous) = next(repo, &writer)?;
    let record = Record {
        lifeboat: "record".to_owned(),
        version: 1,
        repository: repo.config().id.clone(),
        writer: writer.clone(),
        sequence,
        previous,
        at: repo.clock().now(),
        host: act.host,
        user: act.user,
        kind: act.kind,
        body: act.body,
    };
    let (id, bytes) = record.encode()?;
    let signature = key.sign(NAMESPACE, &bytes)?;
    let store = repo.store();
    store.create(&Key::record_signature(&writer, sequence, id), &signature)?;
    store.sync()?;
    store.create(&Key::record(&writer, sequence, id), &bytes)?;
    store.sync()?;
    Ok((id, record))
}

// The number after the newest record, and that record. Names are enough: what they name is looked at by
// `verify_chain`, and an act must not fail because an old record is damaged.
fn next(repo: &Repo, writer: &str) -> Result<(u64, Option<RecordId>)> {
    let listed = repo.store().names(Kind::Records)?;
    let names = listed.iter().filter_map(names_of);
    // a fork (two processes at once) is continued from the greater hash
    let newest = names.filter(|n| n.writer == writer && n.is_record).map(|n| (n.sequence, n.id)).max();
    Ok(newest.map_or((1, None), |(sequence, id)| (sequence.saturating_add(1), Some(id))))
}
