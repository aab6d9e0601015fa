//! What lies beside a database, told on a walk in the order of paths.

use super::sqlite::owner_of;
use crate::base::name::is_within;

/// The databases that a walk came past in the directories that it is still in. Between a database and its log others may
/// come, and whole directories: `app.db`, `app.db-backup`, `app.db-old/`, `app.db-wal`.
#[derive(Debug, Default)]
pub struct Beside(Vec<Vec<u8>>);

impl Beside {
    /// Notes a database.
    pub fn add(&mut self, path: &[u8]) {
        self.0.retain(|known| match known.iter().rposition(|&byte| byte == b'/') {
            Some(end) => is_within(path, &known[..end]),
            None => true,
        });
        self.0.push(path.to_vec());
    }

    /// True if this would be the log or journal of one of them.
    pub fn is_of_one(&self, path: &[u8]) -> bool {
        owner_of(path).is_some_and(|owner| self.0.iter().any(|known| known == owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_may_come_between_a_database_and_its_log() {
        let mut beside = Beside::default();
        for path in ["a/app.db", "a/app.db-backup", "a/app.db-old/x.db", "a/app.db-old/y/z.db"] {
            beside.add(path.as_bytes());
        }
        for (path, is_of_one) in [
            ("a/app.db-old/y/z.db-wal", true),
            ("a/app.db-wal", true),
            ("a/app.db-backup-journal", true),
            ("a/app.db-old-wal", false),
            ("a/app.db", false),
            ("app.db-wal", false),
        ] {
            assert_eq!(beside.is_of_one(path.as_bytes()), is_of_one, "{path}");
        }
        beside.add(b"b/app.db");
        assert!(!beside.is_of_one(b"a/app.db-wal") && beside.is_of_one(b"b/app.db-shm"));
        beside.add(b"top.db");
        beside.add(b"top.db-x/y.db");
        assert!(beside.is_of_one(b"top.db-wal"));
    }
}
