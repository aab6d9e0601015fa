//! What a person needs who has no Lifeboat must be in every repository.

use crate::base::id::name_of;
use crate::repo::open::{EARLIER_RECOVERY, RECOVER_MD, RECOVER_PY};
use crate::repo::{Repo, Result};
use crate::store::{Key, StoreError};
use crate::verify::Problem;

/// Far above what any of them had.
const MAX: u64 = 1 << 20;

/// Looks whether they are there and as they were written.
pub fn check(repo: &Repo, found: &mut Vec<Problem>) -> Result<()> {
    for (name, content) in [("RECOVER.md", RECOVER_MD), ("recover.py", RECOVER_PY)] {
        let key = Key::top(name);
        match repo.store().size(&key) {
            Err(StoreError::Missing { .. }) => {
                found.push(Problem::RecoveryMissing { key });
                continue;
            }
            // no file, or one that cannot be read
            Err(e) if e.is_of_the_object() => {}
            other => drop(other?),
        }
        let is_ours = |bytes: Vec<u8>| bytes == content || EARLIER_RECOVERY.contains(&&*name_of(&bytes));
        if !repo.store().read_all(&key, MAX).is_ok_and(is_ours) {
            found.push(Problem::RecoveryChanged { key });
        }
    }
    Ok(())
}
