//! `file`: what lies there.

use std::fs::{File as Open, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ignore::gitignore::Gitignore;
use sha2::{Digest as _, Sha256};

use super::super::config::File;
use super::super::run::Context;
use super::super::verdict::{Found, evidence};
use crate::base::pattern;
use crate::base::size;
use crate::base::time::Timestamp;

/// More entries are not looked through.
const MOST: usize = 1_000_000;

/// A pattern: the directory it begins in, and what matches below.
///
/// # Errors
/// A sentence if it is none.
pub fn matcher(pattern: &str) -> Result<Option<(PathBuf, Gitignore)>, String> {
    if pattern.is_empty() {
        return Err("the path is empty".to_owned());
    }
    let Some(wild) = pattern.find(['*', '?', '[']) else { return Ok(None) };
    let cut = pattern[..wild].rfind('/').map_or(0, |at| at + 1);
    let (base, rest) = pattern.split_at(cut);
    let mut builder = pattern::begin("/");
    let wrong = |error: String| format!("{} is not a pattern: {error}", evidence(pattern.as_bytes()));
    // anchored: else a name alone matches at any depth
    pattern::add(&mut builder, &format!("/{rest}")).map_err(wrong)?;
    Ok(Some((PathBuf::from(base), pattern::end(&builder).map_err(wrong)?)))
}

pub fn look(check: &File, context: &Context) -> Found {
    let found = match matcher(&check.file) {
        Err(why) => return Found::error(why),
        Ok(None) => single(&context.path(&check.file)),
        Ok(Some((base, pattern))) => many(&context.path(base), &pattern),
    };
    match found {
        Ok(found) => judge(check, &found, context),
        Err(found) => found,
    }
}

fn single(path: &Path) -> Result<Vec<(PathBuf, Metadata)>, Found> {
    match path.metadata() {
        Ok(metadata) => Ok(vec![(path.to_owned(), metadata)]),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(super::of_io(path, &error)),
    }
}

fn many(base: &Path, pattern: &Gitignore) -> Result<Vec<(PathBuf, Metadata)>, Found> {
    let mut found = Vec::new();
    for (count, entry) in walkdir::WalkDir::new(base).min_depth(1).sort_by_file_name().into_iter().enumerate()
    {
        if count >= MOST {
            return Err(Found::error(format!(
                "{} holds more than {} entries",
                super::shown(base),
                size::count(MOST as u64)
            )));
        }
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let is_missing = error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound);
                if is_missing {
                    continue;
                }
                return Err(Found::error(format!(
                    "{} cannot be read: {}",
                    super::shown(base),
                    evidence(error.to_string().as_bytes())
                )));
            }
        };
        let Ok(relative) = entry.path().strip_prefix(base) else { continue };
        if pattern.matched(relative, entry.file_type().is_dir()).is_ignore()
            && let Ok(metadata) = entry.path().metadata()
        {
            found.push((entry.into_path(), metadata));
        }
    }
    Ok(found)
}

fn judge(check: &File, found: &[(PathBuf, Metadata)], context: &Context) -> Found {
    let count = found.len() as u64;
    let seen = seen(found);
    let name = evidence(check.file.as_bytes());
    if !check.exists {
        let expected = format!("nothing at {name}");
        return if found.is_empty() {
            Found::pass(format!("{name} does not exist"))
        } else {
            Found::fail(format!("{name} exists, and should not"))
        }
        .saw(seen)
        .expected(expected);
    }
    let least = check.min_count.unwrap_or(u64::from(check.max_count.is_none()));
    let expected = expected(check, least);
    let is_pattern = check.min_count.is_some() || check.max_count.is_some() || count > 1;
    let wrong = if count < least || check.max_count.is_some_and(|most| count > most) {
        Some(match count {
            0 if !is_pattern => Found::fail(format!("{name} does not exist")),
            _ => Found::fail(format!("{} at {name}, expected {expected}", size::plural(count, "file"))),
        })
    } else {
        found.iter().find_map(|(path, metadata)| judge_one(check, path, metadata, context))
    };
    wrong
        .unwrap_or_else(|| match found {
            [(_, metadata)] if !is_pattern => {
                Found::pass(format!("{name} is there, {}", size::bytes(metadata.len())))
            }
            _ => Found::pass(format!("{} at {name}", size::plural(count, "file"))),
        })
        .saw(seen)
        .expected(expected)
}

fn expected(check: &File, least: u64) -> String {
    let mut parts = vec![match check.max_count {
        Some(most) => format!("{least} to {most}"),
        None => format!("at least {least}"),
    }];
    parts.extend(check.min_size.map(|size| format!("of at least {}", size::bytes(size.0))));
    parts.extend(check.max_age.map(|age| format!("changed within {age}")));
    parts.extend(check.mode.as_ref().map(|mode| format!("with mode {}", evidence(mode.as_bytes()))));
    parts.extend(check.sha256.as_ref().map(|hash| format!("with SHA-256 {}", hash.to_lowercase())));
    parts.join(", ")
}

fn judge_one(check: &File, path: &Path, metadata: &Metadata, context: &Context) -> Option<Found> {
    let name = super::shown(path);
    if let Some(least) = check.min_size.filter(|least| metadata.len() < least.0) {
        let (has, least) = (size::bytes(metadata.len()), size::bytes(least.0));
        return Some(Found::fail(format!("{name} has {has}, less than {least}")));
    }
    if let Some(most) = check.max_age {
        let Some(changed) = Timestamp::from_seconds(metadata.mtime()) else {
            return Some(Found::error(format!("{name} has a time that no calendar holds")));
        };
        let age = context.now().since(changed);
        if age > most.0 {
            return Some(Found::fail(format!(
                "{name} was changed {} ago, expected within {most}",
                size::duration(age)
            )));
        }
    }
    if let Some(wanted) = check.mode.as_ref().and_then(|mode| u32::from_str_radix(mode, 8).ok()) {
        let mode = metadata.permissions().mode() & 0o7777;
        if mode != wanted {
            return Some(Found::fail(format!("{name} has mode {mode:04o}, expected {wanted:04o}")));
        }
    }
    if let Some(wanted) = &check.sha256 {
        if !metadata.is_file() {
            return Some(Found::fail(format!("{name} is no regular file")));
        }
        return match hash(path) {
            Err(error) => Some(super::of_io(path, &error)),
            Ok(found) if !found.eq_ignore_ascii_case(wanted) => {
                Some(Found::fail(format!("{name} has SHA-256 {found}, expected {}", wanted.to_lowercase())))
            }
            Ok(_) => None,
        };
    }
    None
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = Open::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn seen(found: &[(PathBuf, Metadata)]) -> String {
    let lines = found.iter().take(20).map(|(path, m)| {
        format!("{:04o} {:>10} {}", m.permissions().mode() & 0o7777, size::bytes(m.len()), super::shown(path))
    });
    let mut text = lines.collect::<Vec<_>>().join("\n");
    if found.len() > 20 {
        text.push_str(&format!("\nand {} more", size::count(found.len() as u64 - 20)));
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}
