//! What a person needs who has no Lifeboat must be in every repository.

use crate::repo::open::{EARLIER_RECOVER_PY, RECOVER_MD, RECOVER_PY};
use crate::repo::{Repo, Result};
use crate::store::{Key, StoreError};
use crate::verify::Problem;

/// The files, with the versions of their content that a Lifeboat has written.
pub const FILES: [(&str, &[&[u8]]); 2] =
    [("RECOVER.md", &[RECOVER_MD]), ("recover.py", &[RECOVER_PY, EARLIER_RECOVER_PY])];

/// Looks whether they are there and as they were written.
pub fn check(repo: &Repo, found: &mut Vec<Problem>) -> Result<()> {
    for (name, versions) in FILES {
        let key = Key::top(name);
        let size = match repo.store().size(&key) {
            Err(StoreError::Missing { .. }) => {
                found.push(Problem::RecoveryMissing { key });
                continue;
            }
            // no file, or one that cannot be read
            Err(e) if e.is_of_the_object() => 0,
            other => other?,
        };
        let fitting = versions.iter().any(|v| v.len() as u64 == size);
        let same =
            fitting && repo.store().read_all(&key, size).is_ok_and(|b| versions.iter().any(|v| **v == b));
        if !same {
            found.push(Problem::RecoveryChanged { key });
        }
    }
    Ok(())
}
