//! What a rollback would do, found out without doing any of it.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::carry::io_error;
use super::choose::{Chosen, choose};
use super::exchange::shares_blocks;
use super::journal::Kept;
use super::linked::Linked;
use super::place::{Classes, Rules, Sorter, far_databases, obstacle, obstacles};
use super::types::{DatabaseFate, Obstacle, Options, Proposal, RollbackError, Subject, Way};
use crate::base::Name;
use crate::base::error::causes;
use crate::base::event::{Observer, Silent};
use crate::base::size;
use crate::catalog::compare::Kind;
use crate::catalog::diff::{Change, Counts};
use crate::catalog::live::{self, LiveError, diff_live_but};
use crate::catalog::paths::{Part, absolute};
use crate::database::{Facts, look};
use crate::format::manifest::ROOT;
use crate::format::snapshot::{Database, Document};
use crate::repo::load::Condemned;
use crate::repo::reader::ChunkReader;
use crate::service::Service;
use crate::snapshot;
use crate::sys::btrfs;
use crate::sys::host::worker_count;
use crate::sys::space::space;
use crate::verify::{self, Depth, Severity};

/// So many changes are listed.
const LISTED: usize = 20;
/// So many paths are named.
const NAMED: usize = 5;
/// What a directory takes, in bytes.
const BLOCK: u64 = 4096;
/// Room that is left free besides what the new tree needs.
const SPARE: u64 = 16 << 20;

/// For a way to a snapshot.
pub fn to_snapshot(
    subject: &Subject<'_>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Proposal, RollbackError> {
    let chosen = choose(subject, options.goal)?;
    let rules = Rules::of(subject.plan, options.keep_databases);
    let mut listed = Vec::new();
    let mut list = |change: &Change<'_>| {
        if listed.len() < LISTED {
            let path = Name(absolute(change.root, change.path));
            listed.push(format!("{}  {path}", change.kind.letter()));
        }
    };
    // one waits for the disk and the other computes; only one of them shows how far it is
    let (compared, verified) = std::thread::scope(|scope| {
        let verified = scope.spawn(|| unsound(subject, &chosen, options, &Silent(observer)));
        let compared = compare(subject, &chosen, &rules, observer, &mut list);
        (compared, verified.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let Compared { outcome: compared, classes, gone } = compared?;
    let mut stops = obstacles(subject, &classes);
    if options.way == Way::InPlace {
        stops.retain(|stop| !stop.in_place_helps);
    }
    if !options.keep_databases {
        stops.extend(far_databases(subject.plan));
    }
    stops.extend(verified?);
    let root = subject.tree();
    let statistics = &chosen.snapshot.document.statistics;
    let fetched = compared.bytes;
    let parent = root.parent().unwrap_or(&root);
    let reflink = options.way == Way::Exchange && shares_blocks(parent);
    let is_copied = options.way == Way::Exchange && btrfs::is_subvolume(&root);
    // what does not change gets a second name, or comes with the copy of a subvolume; a directory takes a block
    let (directories, changes) = (statistics.directories, compared.counts.total());
    let (room, inodes) = match options.way {
        Way::Exchange if !is_copied => {
            (fetched + directories * BLOCK, changes + directories + statistics.others)
        }
        _ => (fetched, changes),
    };
    stops.extend(no_room(parent, room, inodes));
    let databases = databases(subject, &chosen, options, &mut stops);
    let mut notes = chosen.notes.clone();
    notes.extend(stays_gone(&gone));
    if subject.plan.root().is_symlink() {
        let link = Name::from(subject.plan.root().as_os_str());
        notes
            .push(format!("{link} is a link: the directory it leads to is brought back, and the link stays"));
    }
    if is_copied {
        notes.push("the tree is a btrfs subvolume: the new one begins as a copy of it".to_owned());
    }
    if Service::of(subject.plan).is_none() {
        notes.push("the plan has no [service]: nothing is stopped and nothing is started".to_owned());
    }
    if !options.safety {
        notes.push("no safety snapshot is taken: what is live now is kept only beside the tree".to_owned());
    }
    if options.way == Way::InPlace {
        notes.push(
            "in place is not atomic: until it is done, the tree is neither the old one nor the new one"
                .to_owned(),
        );
    }
    if compared.unreadable > 0 {
        notes.push(format!(
            "{} entries could not be compared: they are in no list here, and go to the state of the snapshot all the same",
            size::count(compared.unreadable)
        ));
    }
    if chosen.snapshot.forgotten {
        notes.push("this snapshot was forgotten; the next prune may remove it".to_owned());
    }
    Ok(Proposal {
        root: Name::from(root.as_os_str()),
        is_undo: false,
        snapshot: Some(chosen.snapshot.id),
        taken: Some(chosen.snapshot.document.started),
        drilled: chosen.drilled,
        chosen: chosen.why.clone(),
        way: options.way,
        changes: compared.counts,
        listed,
        carried: classes.carried,
        gone,
        dropped: classes.dropped,
        keep_databases: options.keep_databases,
        databases,
        entries: statistics.files,
        bytes: statistics.bytes,
        fetched,
        room,
        reflink,
        last_took: chosen.last_took,
        notes,
        obstacles: stops,
        undoes: None,
        goes_to: Some(chosen),
    })
}

/// For the way forward again.
pub fn undo(subject: &Subject<'_>, options: &Options) -> Result<Proposal, RollbackError> {
    let kept = Kept::read(subject.state)?.ok_or_else(|| {
        RollbackError::NothingToUndo("there is no rollback to undo: no earlier tree is kept".to_owned())
    })?;
    let root = subject.tree();
    let keep_databases = options.keep_databases || kept.keeps_databases;
    let classes = Classes::of(&root, &Rules::of(subject.plan, keep_databases))?;
    let mut stops = obstacles(subject, &classes);
    if Path::new(kept.path.as_os_str()).parent() != root.parent() {
        stops.push(obstacle(
            format!("{} does not lie beside the tree", kept.path),
            "the application was moved since; move the earlier tree beside it",
        ));
    } else if !kept.root.0.is_empty() && kept.root != Name::from(root.as_os_str()) {
        stops.push(obstacle(
            format!(
                "{} was put aside for {}, and the application is at {} now",
                kept.path,
                kept.root,
                Name::from(root.as_os_str())
            ),
            "lead the link back, or drop the earlier tree with lifeboat undo --drop",
        ));
    }
    let others = Classes::of(Path::new(kept.path.as_os_str()), &Rules::of(subject.plan, keep_databases))?;
    let gone = classes.gone(others.carried);
    let mut notes: Vec<_> = stays_gone(&gone).into_iter().collect();
    match spoiled(subject, &kept, &classes) {
        Ok(0) => {}
        Ok(count) => notes.push(format!(
            "{count} files that both trees have were written to since: the earlier tree gets them back from the snapshot"
        )),
        Err(error) => stops.push(obstacle(
            format!(
                "files that both trees have were written to since, and the earlier tree cannot get its own: {}",
                causes(&error)
            ),
            "lifeboat rollback @before-rollback goes to the snapshot that was taken before the rollback",
        )),
    }
    Ok(Proposal {
        root: Name::from(root.as_os_str()),
        is_undo: true,
        snapshot: kept.snapshot,
        taken: Some(kept.at),
        drilled: None,
        chosen: format!("the tree that the rollback {} put aside", kept.run_id),
        way: Way::Exchange,
        changes: Counts::default(),
        listed: Vec::new(),
        carried: classes.carried,
        gone,
        dropped: Vec::new(),
        keep_databases,
        databases: Vec::new(),
        entries: 0,
        bytes: 0,
        fetched: 0,
        room: 0,
        reflink: false,
        last_took: None,
        notes,
        obstacles: stops,
        undoes: Some(kept.run_id),
        goes_to: None,
    })
}

// How many files of the tree that was put aside are not as they were then.
fn spoiled(subject: &Subject<'_>, kept: &Kept, classes: &Classes) -> Result<usize, RollbackError> {
    let Some(run_id) = &kept.linked else { return Ok(0) };
    let linked = Linked::read(subject.state, run_id)?;
    let trees = (Path::new(kept.path.as_os_str()), &*subject.tree());
    let spoiled = linked.spoiled(subject, trees, &classes.carried)?;
    Ok(spoiled.map_or(0, |spoiled| spoiled.paths.len()))
}

// A snapshot that does not verify, or that is not whole.
fn unsound(
    subject: &Subject<'_>,
    chosen: &Chosen,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Vec<Obstacle>, RollbackError> {
    let id = chosen.snapshot.id;
    let mut found = Vec::new();
    let document = &chosen.snapshot.document;
    let unsaved = document.unsaved().filter(|_| !options.keep_databases);
    found.extend(unsaved.map(|problem| {
        obstacle(
            format!("the snapshot {} does not hold the database {} of the plan", id.short(), problem.path),
            "give --keep-databases to leave databases as they are, or choose another snapshot",
        )
    }));
    if !document.holds_its_roots() {
        found.push(obstacle(
            format!(
                "the snapshot {} is not whole: {} could not be read and {} may be torn",
                id.short(),
                document.unread(),
                document.statistics.torn
            ),
            "choose another snapshot; lifeboat show names what is missing",
        ));
    }
    let options = verify::Options {
        depth: Depth::Structure,
        snapshots: Some(vec![id]),
        workers: worker_count(),
        ..verify::Options::default()
    };
    let report = verify::verify(subject.repo, &options, observer)?;
    let bad = report
        .problems
        .iter()
        .find(|problem| problem.severity() == Severity::DataLoss && problem.snapshots().contains(&id));
    if let Some(problem) = bad {
        found.push(obstacle(
            format!("the snapshot {} does not verify: {}", id.short(), problem.text()),
            "choose another snapshot; lifeboat verify --deep says which are whole",
        ));
    }
    Ok(found)
}

/// What the living tree has and the snapshot has not, absolute, what lies in a directory before it.
///
/// # Errors
/// If it cannot be found out.
pub fn extra(
    subject: &Subject<'_>,
    chosen: &Chosen,
    rules: &Rules,
    observer: &dyn Observer,
) -> Result<Vec<Name>, RollbackError> {
    let mut found = Vec::new();
    compare(subject, chosen, rules, observer, &mut |change| {
        if change.kind == Kind::Added {
            found.push(Name(absolute(change.root, change.path)));
        }
    })?;
    found.sort_by(|a, b| b.0.cmp(&a.0));
    Ok(found)
}

// That live data does not come back which somebody removed.
fn stays_gone(gone: &[Name]) -> Option<String> {
    let shown: Vec<String> = gone.iter().take(NAMED).map(Name::shown).collect();
    let more = gone.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = format!("live data that is not there any more stays gone: {}{more}", shown.join(", "));
    (!gone.is_empty()).then_some(text)
}

/// What a comparison of the living tree with the snapshot found.
struct Compared {
    outcome: live::Outcome,
    classes: Classes,
    // live data that only the snapshot has
    gone: Vec<Name>,
}

// From the snapshot to what is there now, without live data and what no snapshot holds: that is told by whose it is.
fn compare(
    subject: &Subject<'_>,
    chosen: &Chosen,
    rules: &Rules,
    observer: &dyn Observer,
    found: &mut dyn FnMut(&Change<'_>),
) -> Result<Compared, RollbackError> {
    let loaded = subject.repo.load(Condemned::Use)?;
    let mut chunks = ChunkReader::new(subject.repo.store(), &loaded.index, 4)?;
    let root = &chosen.snapshot.document.roots[chosen.placement.root];
    let parts = [Part { root, top: chosen.placement.subtree.clone() }];
    let logged_before = snapshot::trusted_before(chosen.snapshot.document.started);
    let options = live::Options { threads: worker_count(), logged_before, ..live::Options::default() };
    let tree = subject.plan.root();
    // a tree that is there and that nobody can look into is no tree without changes
    if let Err(source) = std::fs::read_dir(&tree)
        && source.kind() != std::io::ErrorKind::NotFound
    {
        return Err(io_error("read", &tree)(source));
    }
    let sorter = Sorter::new(&tree, rules)?.with_snapshot(chosen)?;
    let (classes, saved) = (Mutex::new(Classes::default()), Mutex::new(Classes::default()));
    // paths are those of the snapshot's root, which may lie above the tree
    let below = |path: &[u8]| match &chosen.placement.subtree[..] {
        ROOT => Some(path.to_vec()),
        top => Some(path.strip_prefix(top)?.strip_prefix(b"/")?.to_vec()),
    };
    let leave_out = |path: &[u8], is_dir: bool, of: live::Of| {
        let Some(below) = below(path) else { return false };
        let class = sorter.class(&below, is_dir);
        let side = if of == live::Of::Tree { &classes } else { &saved };
        if let Some(class) = class {
            side.lock().unwrap_or_else(PoisonError::into_inner).add(class, &below);
        }
        class.is_some()
    };
    let mut each = |change: &Change<'_>| {
        found(change);
        Ok(())
    };
    let outcome = diff_live_but(&mut chunks, &parts, &options, &leave_out, &mut each, observer);
    let outcome = outcome.map_err(|error| match error {
        LiveError::Repo(error) => RollbackError::Repo(error),
        other => RollbackError::Strange(other.to_string()),
    })?;
    let [classes, saved] = [classes, saved].map(|classes| {
        let mut classes = classes.into_inner().unwrap_or_else(PoisonError::into_inner);
        classes.sort();
        classes
    });
    let gone = classes.gone(saved.carried);
    Ok(Compared { outcome, classes, gone })
}

fn no_room(parent: &Path, bytes: u64, entries: u64) -> Option<Obstacle> {
    let free = space(parent).ok()?;
    let next = "free some room, or give --in-place, which needs only what differs";
    let shown = Name::from(parent.as_os_str());
    if free.free_bytes < bytes.saturating_add(SPARE) {
        let (have, want) = (size::bytes(free.free_bytes), size::bytes(bytes.saturating_add(SPARE)));
        let what = format!("the new tree needs {want} in {shown}, and {have} are free");
        return Some(Obstacle { what, next: next.to_owned(), in_place_helps: true });
    }
    if free.total_inodes > 0 && free.free_inodes < entries {
        let what =
            format!("the new tree needs {entries} inodes in {shown}, and {} are free", free.free_inodes);
        return Some(Obstacle { what, next: next.to_owned(), in_place_helps: true });
    }
    None
}

fn databases(
    subject: &Subject<'_>,
    chosen: &Chosen,
    options: &Options,
    stops: &mut Vec<Obstacle>,
) -> Vec<DatabaseFate> {
    let mut found = Vec::new();
    for database in &chosen.snapshot.document.databases {
        let path = database.path.clone();
        if !Path::new(path.as_os_str()).starts_with(subject.plan.root()) {
            continue;
        }
        let Ok(live) = look(Path::new(path.as_os_str())) else { continue };
        let saved = Facts {
            schema: database.schema.clone(),
            user_version: database.user_version,
            tables: database.tables.clone(),
            uncounted: database.uncounted,
        };
        let differences = saved.differences(&live);
        let is_planned = subject.plan.database.iter().any(|planned| {
            planned.path.as_ref().is_some_and(|p| subject.plan.path(p).as_os_str() == path.as_os_str())
        });
        let kept = options.keep_databases && is_planned;
        if kept && (saved.schema != live.schema || saved.user_version != live.user_version) {
            stops.push(obstacle(
                format!("the database {path} has another schema than the application of the snapshot knows"),
                "leave out --keep-databases, so that the database goes back too",
            ));
        }
        found.push(DatabaseFate { path, kept, differences });
    }
    found
}

/// The databases of the tree whose schema is another than the snapshot's.
pub fn other_schemas(subject: &Subject<'_>, document: &Document) -> Vec<Name> {
    let root = subject.plan.root();
    let is_other = |saved: &&Database| {
        let path = Path::new(saved.path.as_os_str());
        path.starts_with(&root)
            && look(path)
                .is_ok_and(|live| saved.schema != live.schema || saved.user_version != live.user_version)
    };
    document.databases.iter().filter(is_other).map(|saved| saved.path.clone()).collect()
}
