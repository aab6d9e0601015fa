//! Sessions (format.md, section 10): a writer says that it is at work, so that a prune that cannot
//! be alone waits for it. Nothing else depends on them: what a writer relied on, it looks at again
//! before and after it commits.

use std::sync::Arc;
use std::time::Duration;

use super::{Repo, RepoError, Result};
use crate::base::Name;
use crate::base::id::name_of;
use crate::base::time::Clock;
use crate::format::FormatError;
use crate::format::record::Session;
use crate::store::{Key, Store};
use crate::sys::clock::since_boot;
use crate::sys::host::{boot_id, random_hex};

/// A session that was not renewed for this long has ended.
pub const ENDS: Duration = Duration::from_secs(24 * 3600);
/// A session is renewed when it is this old: well before a prune takes it for abandoned.
const RENEW_AFTER: Duration = Duration::from_secs(18 * 3600);

/// A session that is open.
pub struct OpenSession {
    store: Arc<dyn Store>,
    repository: String,
    clock: Clock,
    host: Name,
    // the first, and the one that renewed it last
    names: Vec<String>,
    since: Duration,
}

impl OpenSession {
    /// Opens one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin(repo: &Repo, host: &Name) -> Result<Self> {
        let mut session = Self {
            store: Arc::clone(&repo.store),
            repository: repo.config.id.clone(),
            clock: repo.clock,
            host: host.clone(),
            names: Vec::new(),
            since: since_boot(),
        };
        session.write()?;
        Ok(session)
    }

    fn write(&mut self) -> Result<()> {
        let session = Session {
            lifeboat: "session".to_owned(),
            version: 1,
            repository: self.repository.clone(),
            host: self.host.clone(),
            process: std::process::id(),
            started: self.clock.now(),
            renews: self.names.first().cloned(),
            boot: boot_id(),
            nonce: random_hex().map_err(RepoError::io("get random bytes"))?,
        };
        let bytes = serde_json::to_vec(&session).map_err(|e| FormatError::malformed("a session", e))?;
        let name = name_of(&bytes);
        self.store.create(&Key::session(&name), &bytes)?;
        self.names.push(name);
        self.since = since_boot();
        Ok(())
    }

    /// The name that the document names.
    pub fn name(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    /// The object that the store has of it, the newest.
    pub fn key(&self) -> Key {
        Key::session(self.name())
    }

    /// Says again that the writer is at work, if the last time was long ago. Sleep counts.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn renew_if_due(&mut self) -> Result<()> {
        if since_boot().saturating_sub(self.since) < RENEW_AFTER {
            return Ok(());
        }
        self.write()
    }

    /// Closes it, where the store lets this writer delete; elsewhere the document closes it, or age.
    pub fn close(self) {
        for name in &self.names {
            let _ = self.store.delete(&Key::session(name));
        }
    }
}
