//! What stands in the way of any rollback of an application, and which of its paths are whose.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::choose::Chosen;
use super::exchange::{is_overlay, mounts_within, probe};
use super::types::{Obstacle, RollbackError, Subject};
use crate::base::Name;
use crate::base::name::compare_paths;
use crate::format::manifest::ROOT;
use crate::plan::{DatabaseKind, Plan};
use crate::service::Service;
use crate::sys::btrfs;
use crate::tree::exclude::{self, Excludes};
use crate::tree::walk::join;

/// So many paths are named.
const NAMED: usize = 5;

/// An obstacle with no other way.
pub fn obstacle(what: impl Into<String>, next: impl Into<String>) -> Obstacle {
    Obstacle { what: what.into(), next: next.into(), in_place_helps: false }
}

/// Everything that can be found out without a snapshot.
pub fn obstacles(subject: &Subject<'_>, classes: &Classes) -> Vec<Obstacle> {
    let root = subject.tree();
    let mut found = of_tree(&root);
    // what lies in a carried directory goes with it
    let goes_away = |path: &PathBuf| path.strip_prefix(&root).is_ok_and(|below| !classes.is_carried(below));
    let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    for outside in subject.outside.iter().map(real).filter(goes_away) {
        let outside = Name::from(outside.as_os_str());
        found.push(obstacle(
            format!("{outside} lies in the tree that would be exchanged"),
            "move it out of the tree, or exclude it and name it in app.keep_on_rollback",
        ));
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
        let what = format!("{shown} is a link to {target}, where nothing is");
        return vec![obstacle(what, "lifeboat restore brings a tree back where there is none")];
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
    let subvolume = btrfs::subvolume(root);
    match fs::metadata(parent) {
        Ok(_) if matches!(&subvolume, Ok(Some(found)) if found.has_children) => found.push(in_place(
            format!("{shown} is a btrfs subvolume with others in it, which a copy of it would not have"),
            "give --in-place",
        )),
        Ok(parent) if parent.dev() != meta.dev() && !matches!(subvolume, Ok(Some(_))) => found.push(
            in_place(format!("{shown} lies on another file system than {parent_shown}"), "give --in-place"),
        ),
        Ok(_) if is_overlay(root) => found.push(in_place(
            format!("{shown} lies on an overlay, where a directory of a lower layer cannot change its name"),
            "give --in-place",
        )),
        Ok(_) => {
            if let Err(error) = probe(parent, root.file_name().unwrap_or_default()) {
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
    // a link on the way leads out of the tree as surely as a path does
    let real = root.canonicalize().unwrap_or_else(|_| root.clone());
    let is_near = |path: &str| {
        let path = plan.path(path);
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        path.starts_with(&root) && parent.is_none_or(|parent| parent.starts_with(&real))
    };
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

/// By which a path of the tree is told to be whose: what the plan says, and whether its databases stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    keep: Vec<String>,
    rebuild: Vec<String>,
    exclude: Vec<String>,
    // paths below the tree of databases that stay, and of what SQLite writes beside them, there or not
    databases: Vec<Name>,
}

impl Rules {
    /// True if databases stay as they are.
    pub fn keep_databases(&self) -> bool {
        !self.databases.is_empty()
    }

    /// Those of a plan.
    pub fn of(plan: &Plan, keep_databases: bool) -> Self {
        let app = &plan.app;
        Self {
            keep: app.keep_on_rollback.clone(),
            rebuild: app.rebuild.clone(),
            exclude: app.exclude.clone(),
            databases: if keep_databases { database_files(plan) } else { Vec::new() },
        }
    }
}

/// Whose a path is that no snapshot has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Live data: it stays.
    Carried,
    /// Programs make it again.
    Dropped,
    /// Nobody speaks of it.
    Unclassified,
}

/// Tells whose a path is.
pub struct Sorter<'r> {
    keep: Excludes,
    rebuild: Excludes,
    exclude: Excludes,
    databases: &'r [Name],
    root: PathBuf,
    left_out: Option<SnapshotsOwn<'r>>,
}

// What a snapshot was told to leave out, whatever the plan says now.
struct SnapshotsOwn<'r> {
    rules: Excludes,
    markers: &'r [Name],
    caches: bool,
    // the tree, below the snapshot's root
    subtree: &'r [u8],
}

impl<'r> Sorter<'r> {
    /// For the tree at `root`.
    ///
    /// # Errors
    /// If a pattern is wrong.
    pub fn new(root: &Path, rules: &'r Rules) -> Result<Self, RollbackError> {
        let build = |patterns: &[String]| {
            let options = exclude::Options { patterns: patterns.to_vec(), ..exclude::Options::default() };
            Excludes::build(root, &options).map_err(|error| RollbackError::Strange(error.to_string()))
        };
        let (keep, rebuild, exclude) = (build(&rules.keep)?, build(&rules.rebuild)?, build(&rules.exclude)?);
        Ok(Self {
            keep,
            rebuild,
            exclude,
            databases: &rules.databases,
            root: root.to_owned(),
            left_out: None,
        })
    }

    /// Knows, too, what the snapshot that the tree goes to was told to leave out.
    ///
    /// # Errors
    /// If a pattern is wrong.
    pub fn with_snapshot(mut self, chosen: &'r Chosen) -> Result<Self, RollbackError> {
        let document = &chosen.snapshot.document;
        let Some(excludes) = &document.excludes else { return Ok(self) };
        let root = Path::new(document.roots[chosen.placement.root].path.as_os_str());
        let options = exclude::Options { patterns: excludes.patterns.clone(), ..exclude::Options::default() };
        let rules = Excludes::build(root, &options).map_err(|e| RollbackError::Strange(e.to_string()))?;
        let subtree = &chosen.placement.subtree;
        let (markers, caches) = (&excludes.markers[..], excludes.caches);
        self.left_out = Some(SnapshotsOwn { rules, markers, caches, subtree });
        Ok(self)
    }

    fn was_left_out(&self, path: &[u8], is_dir: bool) -> bool {
        let Some(left_out) = &self.left_out else { return false };
        let within = if left_out.subtree == ROOT { path.to_vec() } else { join(left_out.subtree, path) };
        if left_out.rules.matches(&within, is_dir) {
            return true;
        }
        if within == ROOT {
            return false;
        }
        let dir = self.root.join(OsStr::from_bytes(path));
        let has = |mark: &Name| fs::symlink_metadata(dir.join(mark.as_os_str())).is_ok();
        is_dir && left_out.markers.iter().any(has)
    }

    fn was_left_out_as_cache(&self, path: &[u8], is_dir: bool) -> bool {
        let caches = self.left_out.as_ref().filter(|left_out| left_out.caches);
        if !is_dir || caches.is_none_or(|left_out| left_out.subtree == ROOT && path == ROOT) {
            return false;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(self.root.join(OsStr::from_bytes(path)), flags, Mode::empty());
        dir.is_ok_and(|dir| exclude::is_cache_dir(dir.as_fd()))
    }

    /// Whose a path below the tree is; `None` if it is the snapshot's. What lies in a directory that is somebody's is too.
    pub fn class(&self, path: &[u8], is_dir: bool) -> Option<Class> {
        if self.keep.matches(path, is_dir) || self.databases.iter().any(|database| database.0 == path) {
            Some(Class::Carried)
        } else if self.rebuild.matches(path, is_dir) {
            Some(Class::Dropped)
        } else {
            let is_nobodys = self.exclude.matches(path, is_dir) || self.was_left_out(path, is_dir);
            // what is marked as a cache says of itself that programs make it again
            let is_dropped = || self.was_left_out_as_cache(path, is_dir).then_some(Class::Dropped);
            if is_nobodys { Some(Class::Unclassified) } else { is_dropped() }
        }
    }
}

/// Which paths of a tree are whose.
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
    /// Looks through the tree at `root`.
    ///
    /// # Errors
    /// If a pattern is wrong.
    pub fn of(root: &Path, rules: &Rules) -> Result<Self, RollbackError> {
        let mut found = Self::default();
        if *rules == Rules::default() {
            return Ok(found);
        }
        let sorter = Sorter::new(root, rules)?;
        let mut walk = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            let Ok(entry) = entry else { continue };
            let Ok(relative) = entry.path().strip_prefix(root) else { continue };
            let (bytes, is_dir) = (relative.as_os_str().as_bytes(), entry.file_type().is_dir());
            let Some(class) = sorter.class(bytes, is_dir) else { continue };
            found.add(class, bytes);
            if is_dir {
                walk.skip_current_dir();
            }
        }
        Ok(found)
    }

    /// Notes a path.
    pub fn add(&mut self, class: Class, path: &[u8]) {
        let list = match class {
            Class::Carried => &mut self.carried,
            Class::Dropped => &mut self.dropped,
            Class::Unclassified => &mut self.unclassified,
        };
        // all that lies in a directory of the snapshot is told by that directory
        if list.last().is_none_or(|last| last.0 != path) {
            list.push(Name(path.to_vec()));
        }
    }

    /// In the order of paths.
    pub fn sort(&mut self) {
        for list in [&mut self.carried, &mut self.dropped, &mut self.unclassified] {
            list.sort_by(|a, b| compare_paths(&a.0, &b.0));
            list.dedup();
        }
    }

    /// Those of these paths of another tree that are live data, and are not in this one.
    pub fn gone(&self, others: Vec<Name>) -> Vec<Name> {
        let is_gone = |path: &Name| !self.is_carried(Path::new(path.as_os_str()));
        others.into_iter().filter(is_gone).collect()
    }

    /// What stays as it is: live data, and the databases that stay, each with all that may come to lie beside it.
    pub fn staying(&self, rules: &Rules) -> Vec<Name> {
        let more = rules.databases.iter().filter(|path| !self.is_carried(Path::new(path.as_os_str())));
        self.carried.iter().chain(more).cloned().collect()
    }

    /// True if a path below the tree is live data.
    pub fn is_carried(&self, below: &Path) -> bool {
        self.carried.iter().any(|path| below.starts_with(path.as_os_str()))
    }
}

// The files of the plan's databases that lie in the tree, and what SQLite writes beside them: where they really are, for
// a link of the tree on the way is not a directory that something could be carried into.
fn database_files(plan: &Plan) -> Vec<Name> {
    let root = plan.root();
    let real_root = root.canonicalize().unwrap_or_else(|_| root.clone());
    let real = |path: PathBuf| {
        let by_parent = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
        path.canonicalize().ok().or_else(by_parent).unwrap_or_else(|| path.clone())
    };
    let below = |path: PathBuf| {
        let found = path.strip_prefix(&real_root).or_else(|_| path.strip_prefix(&root));
        found.ok().map(Path::to_owned)
    };
    let paths = plan.database.iter().filter_map(|database| database.path.as_ref());
    let paths = paths.filter_map(|path| below(real(plan.path(path))));
    let beside = |path: PathBuf| {
        ["", "-wal", "-shm", "-journal"].map(|ending| {
            let mut name = path.clone().into_os_string();
            name.push(ending);
            Name::from(&*name)
        })
    };
    paths.flat_map(beside).collect()
}
