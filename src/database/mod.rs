//! Databases that lie in the tree as files: found by what they are, copied whole while others write, and asked
//! whether they are sound. No repository here.

mod beside;
mod examine;
pub mod locks;
pub mod sqlite;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::beside::Beside;
pub use self::examine::{Examined, examine, look};

/// What a database held when it was saved: what must hold again when it comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// SHA-256 over its tables, indexes, views and triggers as they were declared, in hexadecimal.
    pub schema: String,
    /// The number that applications keep their schema's version in (`PRAGMA user_version`).
    pub user_version: i64,
    /// Rows of each table.
    pub tables: BTreeMap<String, u64>,
    /// Tables whose rows were not counted: virtual ones, those above the limit, and those that SQLite cannot read without their
    /// application.
    #[serde(default)]
    pub uncounted: u64,
}

impl Facts {
    /// How `found` differs from these, each in a sentence; empty if it does not.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let mut all = Vec::new();
        if self.schema != found.schema {
            all.push("its schema is another".to_owned());
        }
        if self.user_version != found.user_version {
            all.push(format!("its user_version is {}, not {}", found.user_version, self.user_version));
        }
        for (table, rows) in &self.tables {
            let table_shown = crate::base::name::shown(table.as_bytes());
            match found.tables.get(table) {
                // what the schema declares is there, counted or not
                None if self.schema == found.schema && found.uncounted > 0 => {}
                None => all.push(format!("the table {table_shown} is missing")),
                Some(have) if have != rows => {
                    all.push(format!("the table {table_shown} has {have} rows, not {rows}"));
                }
                Some(_) => {}
            }
        }
        all
    }
}
