//! What a database holds, and whether it is sound, as far as SQLite can tell without the application: that may have
//! declared collations and functions of its own, which nobody else knows.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use sha2::{Digest as _, Sha256};

use super::Facts;
use super::sqlite::{Interrupted, SqliteError, Way, is_alone, open, open_in_way, until, way};
use crate::base::name::shown;

/// Rows are counted in at most so many tables of one database.
pub const MAX_TABLES: usize = 256;
/// So many findings are enough.
const MAX_FINDINGS: usize = 20;

/// What was found in a database.
#[derive(Debug, Default)]
pub struct Examined {
    /// What is wrong with it, each in a sentence; at most 20, none if it is sound.
    pub unsound: Vec<String>,
    /// What could not be looked at, each in a few words, and why.
    pub unchecked: Vec<String>,
    /// What it holds; nothing if it is not sound.
    pub facts: Facts,
}

impl Examined {
    /// What could not be looked at, to be put behind a sentence; empty if there is nothing.
    pub fn but(&self) -> String {
        match self.unchecked.split_first() {
            None => String::new(),
            Some((first, [])) => format!("; not checked: {first}"),
            Some((first, more)) => format!("; not checked: {first}, and {} more", more.len()),
        }
    }
}

/// What an existing database holds.
///
/// # Errors
/// If it cannot be opened or read.
pub fn look(path: &Path) -> Result<Facts, SqliteError> {
    facts_of_copy(&open(path)?)
}

/// What is wrong with a database by its own checks (`integrity_check`, `foreign_key_check`), and then what it holds. What
/// they cannot do without the application is done as far as it can be, and said. For a copy that nobody else touches: where
/// nothing lies beside it, it is read without locks, and neither the file nor its directory is changed in any way.
///
/// # Errors
/// If it cannot be opened or read, or somebody wants an end.
pub fn examine(path: &Path, interrupted: Interrupted<'_>) -> Result<Examined, SqliteError> {
    let db = open_in_way(path, if is_alone(path) { Way::Alone } else { way(path)? })?;
    // Each row is looked up in each index, all over the file: with the usual 2 MiB the pages are read 27 times over. With
    // these the check of a database of 190 MB takes 1.7 s of the processor instead of 2.4. PRAGMA mmap_size would make it
    // 1.6, and an error of the disk, which a drill is to find and tell, would kill this process.
    db.execute_batch("PRAGMA cache_size=-32768")?;
    until(interrupted, &db, || {
        let mut found = Examined::default();
        check(&db, &mut found)?;
        if found.unsound.is_empty() {
            found.facts = facts_of_copy(&db)?;
        }
        Ok(found)
    })
}

fn check(db: &Connection, found: &mut Examined) -> Result<(), SqliteError> {
    let foreign_keys = match unreferenced(db) {
        Err(SqliteError::Foreign(why)) => {
            found.unchecked.push(format!("foreign keys ({why})"));
            Vec::new()
        }
        other => other?,
    };
    match findings(db, "integrity_check", None) {
        Err(SqliteError::Foreign(_)) => check_each(db, found)?,
        other => found.unsound = other?,
    }
    found.unsound.extend(foreign_keys);
    found.unsound.truncate(MAX_FINDINGS);
    Ok(())
}

// One table that SQLite does not understand keeps it from looking at any other, unless they are looked at one by one.
fn check_each(db: &Connection, found: &mut Examined) -> Result<(), SqliteError> {
    let mut left = Vec::new();
    for table in declared(db)?.tables {
        match findings(db, "integrity_check", Some(&table.name)) {
            Ok(all) => found.unsound.extend(all),
            Err(SqliteError::Foreign(why)) => {
                found
                    .unchecked
                    .push(format!("indexes of the table {} ({why})", shown(table.name.as_bytes())));
                left.push(table.name);
            }
            Err(other) => return Err(other),
        }
    }
    // pages and rows are understood whatever the order of an index is; only a look at all sees a page that has two owners
    accept_collations(db)?;
    match findings(db, "quick_check", None) {
        Err(SqliteError::Foreign(_)) => {}
        other => {
            found.unsound.extend(other?);
            return Ok(());
        }
    }
    for table in left {
        match findings(db, "quick_check", Some(&table)) {
            Ok(all) => found.unsound.extend(all),
            Err(SqliteError::Foreign(why)) => {
                found.unchecked.push(format!("the table {} ({why})", shown(table.as_bytes())));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn findings(db: &Connection, pragma: &str, table: Option<&str>) -> Result<Vec<String>, SqliteError> {
    let what = table.map_or_else(|| MAX_FINDINGS.to_string(), quoted);
    let mut statement = db.prepare(&format!("PRAGMA {pragma}({what})"))?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let line = text(row, 0)?;
        if line != b"ok" && found.len() < MAX_FINDINGS {
            found.push(String::from_utf8_lossy(&line).into_owned());
        }
    }
    Ok(found)
}

fn unreferenced(db: &Connection) -> Result<Vec<String>, SqliteError> {
    let mut statement = db.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()?
        && found.len() < MAX_FINDINGS
    {
        let (table, parent) = (text(row, 0)?, text(row, 2)?);
        let [table, parent] = [table, parent].map(|name| String::from_utf8_lossy(&name).into_owned());
        found.push(format!("a row of {table} refers to a row of {parent} that is not there"));
    }
    Ok(found)
}

// A column of the schema or of an answer: its bytes. Whoever made the schema may have put anything there.
fn text(row: &Row<'_>, column: usize) -> Result<Vec<u8>, SqliteError> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        ValueRef::Integer(number) => number.to_string().into_bytes(),
        ValueRef::Real(number) => number.to_string().into_bytes(),
        ValueRef::Null => Vec::new(),
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

// Has SQLite take the collations of the application for the order of bytes. Good for a count, which has no order, and
// never for what compares or writes.
fn accept_collations(db: &Connection) -> Result<(), SqliteError> {
    Ok(db.collation_needed(|db, name| db.create_collation(name, |a, b| a.cmp(b)))?)
}

struct Declared {
    // SHA-256 over all of it, in hexadecimal
    hash: String,
    tables: Vec<Table>,
}

struct Table {
    name: String,
    is_virtual: bool,
}

fn declared(db: &Connection) -> Result<Declared, SqliteError> {
    let mut hash = Sha256::new();
    let mut tables = Vec::new();
    let query =
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name, tbl_name";
    let mut statement = db.prepare(query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let parts = [text(row, 0)?, text(row, 1)?, text(row, 2)?, text(row, 3)?];
        for part in &parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let [kind, name, _, sql] = parts;
        if kind == b"table" && !name.starts_with(b"sqlite_") {
            let is_virtual = sql.to_ascii_uppercase().starts_with(b"CREATE VIRTUAL");
            tables.push(Table { name: String::from_utf8_lossy(&name).into_owned(), is_virtual });
        }
    }
    Ok(Declared { hash: hex::encode(hash.finalize()), tables })
}

/// What a database holds that is not written to on this connection any more.
///
/// # Errors
/// If it cannot be read.
pub fn facts_of_copy(db: &Connection) -> Result<Facts, SqliteError> {
    accept_collations(db)?;
    facts(db)
}

/// What a database holds. A table that SQLite does not understand is not counted.
///
/// # Errors
/// If it cannot be read.
pub fn facts(db: &Connection) -> Result<Facts, SqliteError> {
    let declared = declared(db)?;
    let mut facts = Facts { schema: declared.hash, ..Facts::default() };
    facts.user_version = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for table in declared.tables {
        if table.is_virtual || facts.tables.len() >= MAX_TABLES {
            facts.uncounted += 1;
            continue;
        }
        match count(db, &table.name) {
            Ok(rows) => _ = facts.tables.insert(table.name, rows),
            Err(SqliteError::Foreign(_)) => facts.uncounted += 1,
            Err(other) => return Err(other),
        }
    }
    Ok(facts)
}

fn count(db: &Connection, table: &str) -> Result<u64, SqliteError> {
    let query = format!("SELECT count(*) FROM {}", quoted(table));
    let rows: i64 = db.query_row(&query, [], |row| row.get(0))?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::database::sqlite;

    // A database whose application orders names from their ends, and knows a function that nobody else knows.
    fn foreign(path: &Path) -> Connection {
        let db = Connection::open(path).unwrap();
        db.create_collation("localized", |a, b| a.chars().rev().cmp(b.chars().rev())).unwrap();
        db.execute_batch(
            "CREATE TABLE people (name TEXT COLLATE localized); CREATE INDEX pn ON people (name);
             CREATE TABLE keyed (name TEXT COLLATE localized PRIMARY KEY, y) WITHOUT ROWID;
             CREATE TABLE plain (x)",
        )
        .unwrap();
        let fill =
            "WITH RECURSIVE n (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n LIMIT 1000) INSERT INTO";
        for into in
            ["people SELECT 'n' || x FROM n", "keyed SELECT 'n' || x, 1 FROM n", "plain SELECT x FROM n"]
        {
            db.execute_batch(&format!("{fill} {into}")).unwrap();
        }
        db
    }

    #[test]
    fn what_only_its_application_understands_is_copied_and_counted_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        foreign(&path).close().unwrap();
        let copy = sqlite::copy(&path, dir.path(), &|| false).unwrap();
        let counted: Vec<u64> = copy.facts.tables.values().copied().collect();
        assert_eq!((counted, copy.facts.uncounted), (vec![1000; 3], 0));
        let found = examine(&path, &|| false).unwrap();
        assert_eq!((found.unsound.clone(), &found.facts), (Vec::new(), &copy.facts));
        assert_eq!(found.unchecked.len(), 2, "{:?}", found.unchecked);
        assert!(found.but().contains("no such collation sequence: localized"), "{}", found.but());
        assert!(copy.facts.differences(&found.facts).is_empty());
    }

    #[test]
    fn what_is_wrong_elsewhere_is_found_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let db = foreign(&path);
        // two tables in one place
        db.execute_batch(
            "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'plain'",
        )
        .unwrap();
        db.close().unwrap();
        let found = examine(&path, &|| false).map(|found| found.unsound);
        assert!(!matches!(&found, Ok(unsound) if unsound.is_empty()), "{found:?}");
    }

    #[test]
    fn a_function_or_a_name_that_is_no_text_leaves_its_table_uncounted_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE aname (x); INSERT INTO aname VALUES (1); CREATE TABLE t (x); INSERT INTO t VALUES (1)")
            .unwrap();
        db.close().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let name = b"aname";
        for at in 0..bytes.len() - name.len() {
            if &bytes[at..at + name.len()] == name {
                bytes[at] = 0xff;
            }
        }
        fs::write(&path, bytes).unwrap();
        let copy = sqlite::copy(&path, dir.path(), &|| false).unwrap();
        assert_eq!((copy.facts.tables.get("t"), copy.facts.uncounted), (Some(&1), 1));
        let found = examine(&path, &|| false).unwrap();
        assert!(found.unsound.is_empty() && copy.facts.differences(&found.facts).is_empty(), "{found:?}");
    }
}
