//! What stands in the way of any rollback of an application, and which of its paths are whose.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::exchange::{mounts_within, probe};
use super::types::{Obstacle, RollbackError, Subject};
use crate::base::Name;
use crate::plan::{DatabaseKind, Plan};
use crate::service::Service;
use crate::tree::exclude::{self, ExcludeError, Excludes};

/// So many paths are named.
const NAMED: usize = 5;

/// An obstacle with no other way.
pub fn obstacle(what: impl Into<String>, next: impl Into<String>) -> Obstacle {
    Obstacle { what: what.into(), next: next.into(), in_place_helps: false }
}

/// Everything that can be found out without a snapshot.
pub fn obstacles(subject: &Subject<'_>, classes: &Classes) -> Vec<Obstacle> {
    let root = subject.plan.root();
    let mut found = of_tree(&root);
    for outside in subject.outside.iter().filter(|path| path.starts_with(&root)) {
        let outside = Name::from(outside.as_os_str());
        found.push(obstacle(
            format!("{outside} lies in the tree that would be exchanged"),
            "move it out of the tree, or exclude it and name it in app.keep_on_rollback",
        ));
    }
    // a carried directory goes with its content
    let carried = |path: &Path| path.strip_prefix(&root).is_ok_and(|below| classes.is_carried(below));
    if subject.outside.iter().all(|path| carried(path)) {
        found.retain(|obstacle| !obstacle.what.ends_with("lies in the tree that would be exchanged"));
    }
    if let Some(service) = Service::of(subject.plan) {
        let missing = [service.can_stop().err(), service.can_start().err()];
        found.extend(missing.into_iter().flatten().map(|m| obstacle(m.to_string(), m.next)));
    }
    if !classes.unclassified.is_empty() {
        let mut names: Vec<String> = classes.unclassified.iter().take(NAMED).map(Name::shown).collect();
        if classes.unclassified.len() > NAMED {
            names.push(format!("{} more", classes.unclassified.len() - NAMED));
        }
        found.push(obstacle(
            format!("no snapshot holds {}, and the plan does not say what becomes of it", names.join(", ")),
            "name it in app.keep_on_rollback to carry it over, or in app.rebuild if set-up makes it again",
        ));
    }
    found
}

fn of_tree(root: &Path) -> Vec<Obstacle> {
    let shown = Name::from(root.as_os_str()).shown();
    let meta = match fs::symlink_metadata(root) {
        Ok(meta) => meta,
        Err(error) => {
            let next = "lifeboat restore brings a tree back where there is none";
            return vec![obstacle(format!("{shown} cannot be looked at: {error}"), next)];
        }
    };
    if meta.is_symlink() {
        let target = fs::read_link(root).unwrap_or_default();
        let target = Name::from(target.as_os_str());
        return vec![obstacle(
            format!("{shown} is a link to {target}, and what a link leads to is not exchanged"),
            "name the directory itself as app.root",
        )];
    }
    if !meta.is_dir() {
        return vec![obstacle(format!("{shown} is not a directory"), "name a directory as app.root")];
    }
    let in_place = |what: String, next: &str| Obstacle { what, next: next.to_owned(), in_place_helps: true };
    let mut found = Vec::new();
    match mounts_within(root) {
        Ok(points) => found.extend(points.iter().map(|point| {
            let point = Name::from(point.as_os_str());
            in_place(
                format!("{point} is a mount point: it would go away with the old tree"),
                "unmount it, or name a directory below it as app.root, or give --in-place",
            )
        })),
        Err(error) => {
            found.push(obstacle(format!("the table of mounts cannot be read: {error}"), "mount /proc"));
        }
    }
    let Some(parent) = root.parent() else {
        found.push(obstacle("the whole system cannot be exchanged", "name a directory as app.root"));
        return found;
    };
    let parent_shown = Name::from(parent.as_os_str());
    match fs::metadata(parent) {
        Ok(parent) if parent.dev() != meta.dev() => found.push(in_place(
            format!("{shown} lies on another file system than {parent_shown}"),
            "give --in-place",
        )),
        Ok(_) => {
            if let Err(error) = probe(parent) {
                found.push(in_place(
                    format!("names cannot be exchanged in {parent_shown}: {error}"),
                    "run it as a user who may write there, or give --in-place",
                ));
            }
        }
        Err(error) => {
            found.push(obstacle(format!("{parent_shown} cannot be read: {error}"), "run it as root"))
        }
    }
    found
}

/// Databases of the plan that a rollback cannot bring back.
pub fn far_databases(plan: &Plan) -> Vec<Obstacle> {
    let root = plan.root();
    let is_near = |path: &str| plan.path(path).starts_with(&root);
    let far = plan.database.iter().filter(|database| {
        database.kind != DatabaseKind::Sqlite || !database.path.as_deref().is_some_and(is_near)
    });
    far.map(|database| {
        let name = database.name.as_ref().or(database.path.as_ref()).or(database.database.as_ref());
        let name = crate::base::name::shown(name.map_or(&b"?"[..], |name| name.as_bytes()));
        obstacle(
            format!("the database {name} is no file in the tree, and this version brings back no other"),
            "give --keep-databases to leave databases as they are",
        )
    })
    .collect()
}

/// Which paths of the live tree are whose.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    /// Live data, each the topmost path of its own.
    pub carried: Vec<Name>,
    /// What programs make again.
    pub dropped: Vec<Name>,
    /// What no snapshot holds and nobody speaks of.
    pub unclassified: Vec<Name>,
}

impl Classes {
    /// Looks through the live tree.
    ///
    /// # Errors
    /// If a pattern is wrong or the tree cannot be read.
    pub fn of(plan: &Plan, keep_databases: bool) -> Result<Self, RollbackError> {
        let root = plan.root();
        let rules = |patterns: &[String]| -> Result<Excludes, ExcludeError> {
            let options = exclude::Options { patterns: patterns.to_vec(), ..exclude::Options::default() };
            Excludes::build(&root, &options)
        };
        let wrong = |error: ExcludeError| RollbackError::Strange(error.to_string());
        let keep = rules(&plan.app.keep_on_rollback).map_err(wrong)?;
        let rebuild = rules(&plan.app.rebuild).map_err(wrong)?;
        let exclude = rules(&plan.app.exclude).map_err(wrong)?;
        let databases = if keep_databases { database_files(plan) } else { Vec::new() };
        let mut found = Self::default();
        let mut walk = walkdir::WalkDir::new(&root).min_depth(1).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            let Ok(entry) = entry else { continue };
            let Ok(relative) = entry.path().strip_prefix(&root) else { continue };
            let (bytes, is_dir) = (relative.as_os_str().as_bytes(), entry.file_type().is_dir());
            let list = if keep.matches(bytes, is_dir) || databases.iter().any(|path| path == entry.path()) {
                &mut found.carried
            } else if rebuild.matches(bytes, is_dir) {
                &mut found.dropped
            } else if exclude.matches(bytes, is_dir) {
                &mut found.unclassified
            } else {
                continue;
            };
            list.push(Name(bytes.to_vec()));
            if is_dir {
                walk.skip_current_dir();
            }
        }
        Ok(found)
    }

    /// True if a path below the tree is live data.
    pub fn is_carried(&self, below: &Path) -> bool {
        self.carried.iter().any(|path| below.starts_with(path.as_os_str()))
    }
}

// The files of the plan's databases, and what SQLite writes beside them.
fn database_files(plan: &Plan) -> Vec<std::path::PathBuf> {
    let paths = plan.database.iter().filter_map(|database| database.path.as_ref());
    let beside =
        |path: &String| ["", "-wal", "-shm", "-journal"].map(|ending| plan.path(format!("{path}{ending}")));
    paths.flat_map(beside).collect()
}
