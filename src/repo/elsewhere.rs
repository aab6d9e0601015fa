//! Writers that an exclusive lock does not shut out: those on another host, or behind another mount, whose locks this
//! one does not see. Their sessions show them.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::session::ENDS;
use super::{Repo, Result};
use crate::format::record::{MAX_SMALL, Session};
use crate::store::{Kind, StoreError};
use crate::sys::host::{boot_id, host_name};
use crate::sys::process_facts::age;
use crate::sys::process_tree::stat;

/// Times that are read off different clocks differ by less than this.
const SLACK: Duration = Duration::from_secs(5);

impl Repo {
    /// True if a writer may be at work that the exclusive lock does not shut out. What a writer of this host that was killed
    /// left does not count, nor a session that a document closed.
    ///
    /// # Errors
    /// If sessions or documents cannot be listed, or the store fails.
    pub fn writers_elsewhere(&self) -> Result<bool> {
        let mut open = BTreeSet::new();
        let now = SystemTime::from(self.clock.now().0);
        for object in self.store.list(Kind::Sessions)? {
            // what comes from the future is new
            if now.duration_since(object.modified).unwrap_or_default() >= ENDS {
                continue;
            }
            let session = match self.store.read_all(&object.key, MAX_SMALL) {
                Ok(bytes) => serde_json::from_slice::<Session>(&bytes).ok(),
                Err(StoreError::Missing { .. }) => continue,
                Err(e) => return Err(e.into()),
            };
            // one that cannot be understood is one all the same
            if session.is_none_or(|session| self.may_be_at_work(&session)) {
                open.insert(object.key.stem().to_owned());
            }
        }
        if open.is_empty() {
            return Ok(false);
        }
        for snapshot in self.snapshots()?.0 {
            if let Some(closed) = snapshot.document.session {
                open.remove(&closed);
            }
        }
        Ok(!open.is_empty())
    }

    fn may_be_at_work(&self, session: &Session) -> bool {
        let is_of_this_boot = !session.boot.is_empty() && session.boot == boot_id();
        if !is_of_this_boot {
            // one of this host has ended with the run of the system that it belonged to
            return session.host != host_name();
        }
        let Ok(pid) = i32::try_from(session.process) else { return true };
        if session.process == std::process::id() {
            return false;
        }
        // another process may have the number by now
        let since = self.clock.now().since(session.started);
        stat(pid).is_some_and(|found| !found.is_dead() && age(found.member) + SLACK >= since)
    }
}
