//! What commands do with a repository besides their own work: compare it with what this host has seen of it, forget, and
//! write to the logbook.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use super::{Context, whoami};
use crate::base::Exit;
use crate::base::error::causes;
use crate::base::id::SnapshotId;
use crate::base::name::Name;
use crate::catalog::list::choose;
use crate::catalog::select::{Filters, SelectError, Wanted};
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::format::snapshot::Tombstone;
use crate::logbook::{self, ACCEPTED_FIELD, Act, TOMBSTONES_FIELD};
use crate::repo::documents::{Signed, Snapshot};
use crate::repo::keys::WriterKey;
use crate::repo::{Repo, RepoError};
use crate::state::State;
use crate::witness::{self, Look, Older, WitnessError};

/// The way out where a repository is older than it was.
const PUT_BACK: &str = "put the newer state back, or find out who removed it; --accept-older, of snapshot, forget or prune, takes this one for the newest";
/// Why what is gone counts as forgotten.
const ACCEPTED: &str = "accepted: the repository is older than this host has seen it";

impl Context {
    /// Opens the repository, and warns if it is older than this host has seen it.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened.
    pub fn open_repo(&self) -> Result<Repo, CommandError> {
        let repo = Repo::open(self.store()?, self.clock)?;
        self.compare(&repo)?;
        Ok(repo)
    }

    /// Compares the repository with what this host has seen of it; the first time in a run that it is older, that is said.
    ///
    /// # Errors
    /// If the repository cannot be listed.
    pub fn compare(&self, repo: &Repo) -> Result<(), CommandError> {
        if self.older.get().is_some() {
            return Ok(());
        }
        let state = self.seen_of(repo);
        // without a memory a logbook without any snapshot speaks for itself; to ask it every time would take too long
        let look = match &state {
            None if !repo.snapshot_ids()?.is_empty() => Ok(Look { older: None, kept: Ok(()) }),
            state => witness::look(repo, state.as_ref()),
        };
        let older = match look {
            Err(WitnessError::Repo(error)) => return Err(error.into()),
            Err(error) => {
                self.not_remembered(&error);
                None
            }
            Ok(look) => {
                // who only reads may be somewhere where nothing can be written, as on a rescue system
                if let Err(error) = look.kept.as_ref()
                    && !error.is_no_place()
                {
                    self.not_remembered(error);
                }
                look.older
            }
        };
        if let Some(older) = &older {
            self.warn("older-repository", &format!("{older}\n  next: {PUT_BACK}"));
        }
        // the first look is the one that counts
        let _ = self.older.set(older);
        Ok(())
    }

    /// Where it is kept what this host has seen of the repository.
    pub fn seen_of(&self, repo: &Repo) -> Option<State> {
        Some(State::of_repository(&env::state_dir()?, &repo.config().id))
    }

    /// What the repository has lost since this host saw it.
    pub fn older(&self) -> Option<&Older> {
        self.older.get().and_then(Option::as_ref)
    }

    /// Fails, saying `undone`, if the repository is older than this host has seen it; unless that is accepted: then
    /// what is gone counts as forgotten from here on.
    ///
    /// # Errors
    /// If it is older and that is not accepted, or that cannot be written.
    pub fn demand_newest(&self, repo: &Repo, accept: bool, undone: &str) -> Result<(), CommandError> {
        let Some(older) = self.older() else { return Ok(()) };
        if !accept {
            let text =
                format!("{undone}: the repository is older than this host has seen it; {}", older.brief());
            return Err(CommandError::new(Exit::Failed, text).next(PUT_BACK));
        }
        let key = self.writer_key(repo)?;
        let ids: Vec<_> = older.snapshots.iter().map(|(id, _)| *id).collect();
        self.forget_as(repo, &key, &ids, Some(Name::from(ACCEPTED)), true)?;
        if let Some(state) = self.seen_of(repo) {
            let failed = |error| CommandError::of(Exit::Failed, &error);
            witness::accept(repo, &state).map_err(failed)?;
        }
        self.say(format!("accepted as it is: {}", older.brief()));
        Ok(())
    }

    /// Forgets snapshots: a tombstone each, and one record that tells of them.
    ///
    /// # Errors
    /// If a tombstone cannot be written.
    pub fn forget(
        &self,
        repo: &Repo,
        key: &WriterKey,
        snapshots: &[SnapshotId],
        why: Option<Name>,
    ) -> Result<(), CommandError> {
        self.forget_as(repo, key, snapshots, why, false)
    }

    fn forget_as(
        &self,
        repo: &Repo,
        key: &WriterKey,
        snapshots: &[SnapshotId],
        why: Option<Name>,
        are_gone: bool,
    ) -> Result<(), CommandError> {
        if snapshots.is_empty() {
            return Ok(());
        }
        let (host, user) = whoami();
        let mut tombstones = BTreeMap::new();
        for &snapshot in snapshots {
            let tombstone = Tombstone {
                lifeboat: "tombstone".to_owned(),
                version: 1,
                repository: repo.config().id.clone(),
                snapshot,
                at: repo.clock().now(),
                by: Name([&user.0[..], b"@", &host.0[..]].concat()),
                why: why.clone(),
            };
            tombstones.insert(snapshot, repo.forget(&tombstone)?);
        }
        let reason = why.as_ref().map(Name::shown);
        let mut body =
            serde_json::json!({"snapshots": snapshots, "reason": reason, TOMBSTONES_FIELD: tombstones});
        if are_gone {
            body[ACCEPTED_FIELD] = true.into();
        }
        self.record(repo, key, "forget", body);
        Ok(())
    }

    /// What was just written is the newest that this host has seen.
    pub fn remember(&self, repo: &Repo) {
        let Some(state) = self.seen_of(repo) else { return };
        match witness::look(repo, Some(&state)) {
            Err(error) => self.not_remembered(&error),
            Ok(Look { kept: Err(error), .. }) => self.not_remembered(&error),
            Ok(_) => {}
        }
    }

    fn not_remembered(&self, error: &dyn std::error::Error) {
        let text = format!("what this host has seen of the repository could not be kept: {error}");
        self.warn("not-remembered", &text);
    }

    /// The file with the writer's key.
    ///
    /// # Errors
    /// If nothing says where it is.
    pub fn key_path(&self) -> Result<PathBuf, CommandError> {
        env::writer_key().ok_or_else(|| {
            let text = "there is no home directory to look for the writer's key in";
            CommandError::new(Exit::Key, text).next("set LIFEBOAT_WRITER_KEY to the key's file")
        })
    }

    /// The writer's key, which the repository must know.
    ///
    /// # Errors
    /// If it is missing or strange to the repository.
    pub fn writer_key(&self, repo: &Repo) -> Result<WriterKey, CommandError> {
        let path = self.key_path()?;
        let shown = Name::from(path.as_os_str()).shown();
        let key = match WriterKey::load(&path) {
            Err(RepoError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let text = format!("this host has no writer's key: {shown} does not exist");
                return Err(CommandError::new(Exit::Key, text)
                    .next("lifeboat key add makes one, or set LIFEBOAT_WRITER_KEY to the key's file"));
            }
            Err(RepoError::Io { act, source }) => {
                let error = RepoError::Io { act, source };
                return Err(CommandError::of(Exit::Key, &error).next(format!("check {shown}")));
            }
            other => other?,
        };
        let known = repo.writers()?.iter().any(|w| w.file_hash() == key.public().file_hash());
        if known {
            return Ok(key);
        }
        let text = format!("the key {shown} is not one of the repository's writers");
        Err(CommandError::new(Exit::Key, text).next("lifeboat key add lets it write"))
    }

    /// Writes an act to the logbook. It is done all the same if that fails: then it is said.
    pub fn record(&self, repo: &Repo, key: &WriterKey, kind: &str, body: serde_json::Value) {
        let (host, user) = whoami();
        let act = Act { kind: kind.to_owned(), host, user, body };
        if let Err(error) = logbook::append(repo, key, act) {
            self.warn("not-recorded", &format!("the logbook could not be written: {error}"));
        }
        self.remember(repo);
    }

    /// Writes an act to the logbook where this host may write: without a key of the repository that is said, and the act is
    /// done all the same.
    pub fn record_where_possible(&self, repo: &Repo, kind: &str, body: serde_json::Value) {
        match self.writer_key(repo) {
            Ok(key) => self.record(repo, &key, kind, body),
            Err(error) => self.warn("not-recorded", &format!("not in the logbook: {}", error.message())),
        }
    }

    /// All snapshots that can be read, oldest first. Those that cannot are named on stderr.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn snapshots(&self, repo: &Repo) -> Result<Vec<Snapshot>, CommandError> {
        let (found, bad) = repo.snapshots()?;
        for (id, error) in &bad {
            let text = format!("snapshot {} cannot be read: {}", id.short(), causes(error));
            self.warn("snapshot-unreadable", &text);
        }
        let forgotten = if bad.is_empty() { BTreeSet::new() } else { repo.forgotten_ids()? };
        *self.unreadable.borrow_mut() =
            bad.into_iter().map(|(id, _)| id).filter(|id| !forgotten.contains(id)).collect();
        Ok(found)
    }

    /// Warns if nobody whose key the repository has signed the snapshot: what is in it may be anybody's.
    pub fn look_at_signature(&self, repo: &Repo, snapshot: &Snapshot) {
        let signed = repo.writers().and_then(|writers| repo.signed(snapshot.id, &writers));
        let why = match signed {
            Ok(Signed::By(_)) => return,
            Ok(Signed::Unknown) => "is signed by nobody whose key the repository has".to_owned(),
            Ok(Signed::Missing) => "is not signed".to_owned(),
            Err(error) => format!("has a signature that cannot be checked: {}", causes(&error)),
        };
        let text = format!(
            "snapshot {} {why}: it may not come from who it says; lifeboat verify looks at all of them",
            snapshot.id.short()
        );
        self.warn("snapshot-unsigned", &text);
    }

    /// Those that [`Self::snapshots`] could not read.
    pub fn unreadable(&self) -> Vec<SnapshotId> {
        self.unreadable.borrow().clone()
    }

    /// The one of these snapshots that is meant.
    ///
    /// # Errors
    /// If there is none, or more than one; or it is there and cannot be read.
    pub fn choose<'s>(
        &self,
        wanted: &Wanted,
        snapshots: &'s [Snapshot],
        filters: &Filters,
    ) -> Result<&'s Snapshot, CommandError> {
        choose_but(wanted, snapshots, filters, &self.unreadable.borrow())
    }

    /// Makes sure that none of those that [`Self::snapshots`] could not read may be newer than this one.
    ///
    /// # Errors
    /// If one may be.
    pub fn be_sure(&self, found: &Snapshot, snapshots: &[Snapshot]) -> Result<(), CommandError> {
        be_sure(found, snapshots, &self.unreadable.borrow())
    }
}

/// As [`Context::choose`], where these could not be read.
///
/// # Errors
/// As there.
pub fn choose_but<'s>(
    wanted: &Wanted,
    snapshots: &'s [Snapshot],
    filters: &Filters,
    unreadable: &[SnapshotId],
) -> Result<&'s Snapshot, CommandError> {
    let found = choose(wanted, snapshots, filters).map_err(|error| {
        let is_meant = |id: &&SnapshotId| {
            matches!(&error, SelectError::Unknown { prefix } if id.to_hex().starts_with(prefix))
        };
        let next = "lifeboat verify says what is damaged and how it is mended";
        if let (SelectError::NoneMatch { .. }, Some(id)) = (&error, unreadable.first()) {
            let text = format!("{error}; {} is there, cannot be read, and may be the one that is meant", id.short());
            return CommandError::new(Exit::Damage, text).next(next);
        }
        let Some(id) = unreadable.iter().find(is_meant) else { return error.into() };
        let text = format!("snapshot {} is there, but its document is damaged and cannot be read", id.short());
        CommandError::new(Exit::Damage, text).next(next)
    })?;
    if !matches!(wanted, Wanted::Id(_)) {
        be_sure(found, snapshots, unreadable)?;
    }
    Ok(found)
}

// Refuses to take a snapshot for the newest while another may be, and cannot be read.
fn be_sure(found: &Snapshot, snapshots: &[Snapshot], unreadable: &[SnapshotId]) -> Result<(), CommandError> {
    let Some(id) = unreadable.iter().find(|id| !is_older(**id, found, snapshots)) else { return Ok(()) };
    let (id, found) = (id.short(), found.id.short());
    let text = format!(
        "which snapshot is meant cannot be told: {id} is there, cannot be read, and may be newer than {found}"
    );
    let next = format!(
        "give an id, such as {found}, to take that one all the same; lifeboat verify says what is damaged and how it is mended"
    );
    Err(CommandError::new(Exit::Damage, text).next(next))
}

// Whether a snapshot that cannot be read was taken before another: some snapshot that is not newer than that one names it as the one before.
fn is_older(unreadable: SnapshotId, than: &Snapshot, snapshots: &[Snapshot]) -> bool {
    let until = than.document.started;
    snapshots.iter().any(|s| s.document.previous == Some(unreadable) && s.document.started <= until)
}
