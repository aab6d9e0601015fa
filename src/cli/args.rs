//! Options that several commands share.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::context::Context;
use super::error::CommandError;
use crate::base::name::Name;
use crate::catalog::select::{Filters, Selector, Wanted, parse_since};
use crate::tree::exclude;

/// Which snapshots come into question.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// Only snapshots with this tag; with commas: that have each of them; repeated: any of them
    #[arg(long = "tag", value_name = "TAG[,TAG]")]
    tags: Vec<String>,
    /// Only snapshots of this host
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<OsString>,
    /// Only snapshots taken since a date, a time or an age such as 3d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

impl FilterArgs {
    /// The filters they stand for.
    ///
    /// # Errors
    /// If the time is none.
    pub fn filters(&self, context: &Context) -> Result<Filters, CommandError> {
        let since = self.since.as_deref().map(|text| parse_since(text, context.clock().now()));
        Ok(Filters {
            tags: self.tags.clone(),
            hosts: self.hosts.iter().map(|host| Name::from(host.as_os_str())).collect(),
            since: since.transpose()?,
        })
    }
}

/// What is left out of a tree.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ExcludeArgs {
    /// Leave out what matches, in the syntax of gitignore
    #[arg(short = 'e', long = "exclude", value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Leave out what the patterns in a file match
    #[arg(long = "exclude-file", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// Leave out the content of directories that a CACHEDIR.TAG marks as caches
    #[arg(long = "exclude-caches")]
    caches: bool,
    /// Leave out the content of directories that hold a file of this name
    #[arg(long = "exclude-if-present", value_name = "NAME")]
    markers: Vec<OsString>,
}

impl ExcludeArgs {
    /// The rules they stand for.
    pub fn options(&self) -> exclude::Options {
        exclude::Options {
            patterns: self.patterns.clone(),
            files: self.files.clone(),
            caches: self.caches,
            markers: self.markers.clone(),
        }
    }
}

/// Reads a snapshot that must be whole.
///
/// # Errors
/// If it names none, or a part of one.
pub fn snapshot(text: &OsStr) -> Result<Wanted, CommandError> {
    let selector = Selector::parse(text)?;
    if let Some(path) = selector.path {
        let error = format!("{} names a path, a whole snapshot is wanted here", path.shown());
        return Err(CommandError::usage(error).next("leave out the colon and what follows"));
    }
    Ok(selector.wanted)
}
