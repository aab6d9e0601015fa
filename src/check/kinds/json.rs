//! `json`: a value in a file.

use super::super::config::Json;
use super::super::judge;
use super::super::run::Context;
use super::super::value::Condition;
use super::super::verdict::{Found, evidence};

pub fn look(check: &Json, context: &Context) -> Found {
    let path = context.path(&check.json);
    let bytes = match super::read(&path) {
        Ok(bytes) => bytes,
        Err(found) => return found,
    };
    let document: serde_json::Value = match serde_json::from_slice(&bytes) {
        Ok(document) => document,
        Err(error) => {
            let reason = format!("{} is not JSON: {error}", super::shown(&path));
            return Found::fail(reason).saw(evidence(&bytes)).expected("JSON");
        }
    };
    let (equals, matches) = (check.equals.clone(), check.matches.clone());
    judge::judge(&document, &check.pointer, &Condition { equals, min: check.min, max: check.max, matches })
}
