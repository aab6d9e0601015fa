//! What the snapshot says each database held must hold in the copy.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::recorder::{Recorder, Result};
use crate::base::name::Name;
use crate::database::{Facts, sqlite};
use crate::evidence::Outcome;
use crate::format::snapshot::{Database, Document};

/// Looks at every database of the document below `root`, whose copy is at `copy`; true if all are as they were.
pub fn check_all(document: &Document, root: &Path, copy: &Path, recorder: &mut Recorder) -> bool {
    let mut all = true;
    for database in &document.databases {
        let path = PathBuf::from(database.path.as_os_str().to_owned());
        let Ok(below) = path.strip_prefix(root) else { continue };
        let began = Instant::now();
        let (result, rows) = check(database, &copy.join(below));
        let shown = Name::from(below.as_os_str()).shown();
        // an empty database is whole as well, and proves no data
        all &= recorder.own_check(format!("database {shown} is whole"), "sqlite", rows > 0, began, result);
    }
    all
}

// The verdict, and how many rows there are.
fn check(database: &Database, copy: &Path) -> (Result, u64) {
    let bad = |why: String| (Result::of(Outcome::Fail, why), 0);
    let unsound = match sqlite::unsound(copy) {
        Ok(unsound) => unsound,
        Err(error) => return bad(format!("it cannot be opened: {error}")),
    };
    if let Some(first) = unsound.first() {
        return bad(format!("{first} ({} findings)", unsound.len()));
    }
    let found = match sqlite::look(copy) {
        Ok(found) => found,
        Err(error) => return bad(format!("it cannot be read: {error}")),
    };
    let recorded = Facts {
        schema: database.schema.clone(),
        user_version: database.user_version,
        tables: database.tables.clone(),
        uncounted: database.uncounted,
    };
    let differences = recorded.differences(&found);
    if differences.is_empty() {
        let rows: u64 = found.tables.values().fold(0, |sum, rows| sum.saturating_add(*rows));
        let text = format!(
            "integrity_check and foreign_key_check found nothing; schema and {rows} rows in {} tables are as recorded",
            found.tables.len()
        );
        return (Result { reason: text, ..Result::pass() }, rows);
    }
    bad(format!("it is not as it was when it was saved: {}", differences.join(", ")))
}
