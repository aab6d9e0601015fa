//! `sql`: the answer of an SQLite database.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde_json::Value;

use super::super::config::Sql;
use super::super::judge::short;
use super::super::run::Context;
use super::super::value::Condition;
use super::super::verdict::{Found, evidence};

/// So many problems are told.
const MOST: usize = 10;

pub fn look(check: &Sql, limit: Duration, context: &Context) -> Found {
    let path = context.path(&check.sql);
    // SQLite says only that it cannot open, not why
    match std::fs::File::open(&path) {
        Err(error) => return super::of_io(&path, &error),
        // an empty file is a valid database without tables
        Ok(file) if file.metadata().is_ok_and(|m| m.len() == 0) => {
            return Found::fail(format!("{} is empty", super::shown(&path)));
        }
        Ok(_) => {}
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match Connection::open_with_flags(&path, flags) {
        Ok(connection) => connection,
        Err(error) => return failed(&error),
    };
    let interrupt = connection.get_interrupt_handle();
    let (done, ended) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    let found = ask(check, &connection, limit).unwrap_or_else(|error| failed(&error));
    drop(done);
    let _ = watch.join();
    found
}

fn ask(check: &Sql, connection: &Connection, limit: Duration) -> rusqlite::Result<Found> {
    connection.busy_timeout(limit)?;
    connection.execute_batch("PRAGMA query_only = ON")?;
    let mut said = Vec::new();
    if check.integrity {
        let problems = integrity(connection)?;
        if !problems.is_empty() {
            let reason = format!("the database is damaged: {}", short(&problems[0]));
            return Ok(Found::fail(reason).saw(problems.join("\n")).expected("no problem"));
        }
        said.push("integrity_check and foreign_key_check find nothing".to_owned());
    }
    let Some(query) = &check.query else {
        return Ok(Found::pass(said.remove(0)).saw("ok").expected("no problem"));
    };
    let (equals, matches) = (check.equals.clone(), check.matches.clone());
    let condition = Condition { equals, min: check.min, max: check.max, matches };
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else {
        return Ok(Found::fail("the query returns no row").saw("no row").expected(condition.words()));
    };
    let value = json(row.get_ref(0)?);
    let seen = evidence(value.to_string().as_bytes());
    let expected = condition.words();
    Ok(match condition.holds(&value) {
        Ok(true) => {
            said.push(format!("the answer is {}", short(&seen)));
            Found::pass(said.join("; "))
        }
        Ok(false) => Found::fail(format!("the answer is {}, expected {expected}", short(&seen))),
        Err(why) => Found::error(why),
    }
    .saw(seen)
    .expected(expected))
}

fn integrity(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({MOST})"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            problems.push(evidence(line.as_bytes()));
        }
    }
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if problems.len() >= MOST {
            break;
        }
        let (table, id, parent): (String, Option<i64>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let row = id.map(|id| format!(" row {id}")).unwrap_or_default();
        problems
            .push(evidence(format!("{table}{row} refers to a row that {parent} does not have").as_bytes()));
    }
    Ok(problems)
}

fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => hex::encode(&bytes[..bytes.len().min(1024)]).into(),
    }
}

// A database that is broken or lacks a table is wrong; one that is busy or asked nonsense is not judged.
fn failed(error: &rusqlite::Error) -> Found {
    let text = evidence(error.to_string().as_bytes());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            Found::fail(format!("the database is damaged: {text}"))
        }
        Some(ErrorCode::OperationInterrupted) => Found::fail("the query did not end in time"),
        _ if text.contains("no such table") || text.contains("no such column") => Found::fail(text),
        _ => Found::error(text),
    }
}
