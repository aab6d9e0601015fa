//! `doctor`: is everything there that a backup and a recovery need?

use std::borrow::Cow;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::base::Exit;
use crate::base::name::Name;
use crate::base::size;
use crate::cli::context::{Context, absolute};
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::repo::keys::WriterKey;
use crate::repo::{Repo, RepoError};
use crate::sandbox::{self, Level};
use crate::store::{Lock, LockMode, conformance};
use crate::sys::attributes::{Handle, set_xattr};
use crate::sys::host;
use crate::sys::space::{Keeps, file_system, space};

/// How far a clock may be wrong before that is worth a word.
const SLACK: Duration = Duration::from_secs(300);
/// Fewer open files than this do not do for deep trees.
const FILES: u64 = 4096;

/// Check the repository's place, the keys, the tools and the limits of this host
///
/// Writes a few small objects and deletes them again, and starts a sandbox with nothing in it: what a drill needs. For the stored data itself there is lifeboat verify.
#[derive(clap::Args)]
pub struct DoctorArgs {
    /// Where a restore would go: is asked for extended attributes and room
    #[arg(long, value_name = "DIRECTORY", default_value = ".", value_hint = clap::ValueHint::DirPath)]
    target: PathBuf,
}

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Pass,
    /// It works, but somebody should know.
    Warn,
    /// It does not do.
    Fail,
    /// Could not be found out.
    Error,
}

/// One check. Fields are added, never renamed.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    text: String,
    fix: Cow<'static, str>,
}

impl Check {
    fn new(
        name: &'static str,
        verdict: Verdict,
        text: impl Into<String>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        let fix = if verdict == Verdict::Pass { "".into() } else { fix.into() };
        Self { name, verdict, text: text.into(), fix }
    }

    fn unknown(name: &'static str, error: impl std::fmt::Display) -> Self {
        Self::new(name, Verdict::Error, error.to_string(), "")
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    verdict: Verdict,
    checks: &'a [Check],
}

/// Runs the command.
///
/// # Errors
/// If there is no repository to look at.
pub fn run(args: &DoctorArgs, context: &Context) -> Result<Exit, CommandError> {
    let location = context.location()?;
    let repo = context.open_repo()?;
    let mut checks = vec![
        repository(&repo, &location),
        private(&location),
        durable(&location),
        promises(&repo),
        locks(&repo),
        room("space", &location),
        inodes(&location),
        key(context, &repo),
        clock(context, &repo)?,
    ];
    checks.extend(TOOLS.iter().map(tool));
    checks.push(open_files());
    checks.push(temporary());
    checks.push(isolation());
    let target = absolute(&args.target)?;
    checks.push(attributes(&target));
    checks.push(room("target space", &target));
    show(&checks, context)
}

fn show(checks: &[Check], context: &Context) -> Result<Exit, CommandError> {
    let worst = [Verdict::Fail, Verdict::Error, Verdict::Warn]
        .into_iter()
        .find(|verdict| checks.iter().any(|check| check.verdict == *verdict))
        .unwrap_or(Verdict::Pass);
    if context.json() {
        context.document(&Answer { verdict: worst, checks })?;
    } else {
        let mut table = Table::new(&[
            ("check", Kind::Word),
            ("", Kind::Word),
            ("found", Kind::Text),
            ("fix", Kind::Text),
        ]);
        for check in checks {
            table.row([check.name, word(check.verdict), &check.text, &check.fix]);
        }
        context.print(&table.render(context.width()))?;
    }
    Ok(if matches!(worst, Verdict::Fail | Verdict::Error) { Exit::Failed } else { Exit::Done })
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Warn => "WARN",
        Verdict::Fail => "FAIL",
        Verdict::Error => "error",
    }
}

fn repository(repo: &Repo, location: &Path) -> Check {
    let (config, shown) = (repo.config(), Name::from(location.as_os_str()).shown());
    let text = format!("{} at {shown}, format {}", &config.id[..8], config.version);
    Check::new("repository", Verdict::Pass, text, "")
}

fn private(location: &Path) -> Check {
    const NAME: &str = "permissions";
    match location.metadata() {
        Ok(found) => {
            let mode = found.permissions().mode() & 0o777;
            let verdict = if mode & 0o077 == 0 { Verdict::Pass } else { Verdict::Fail };
            Check::new(NAME, verdict, format!("mode {mode:o}"), "chmod 700 the repository's directory")
        }
        Err(error) => Check::unknown(NAME, error),
    }
}

fn durable(location: &Path) -> Check {
    const NAME: &str = "durability";
    match file_system(location) {
        Ok((name, keeps)) => {
            let (verdict, fix) = match keeps {
                Keeps::Disk => (Verdict::Pass, ""),
                Keeps::Memory => {
                    (Verdict::Fail, "move the repository to a disk: memory is lost with the power")
                }
                Keeps::Remote => (Verdict::Warn, "make sure that the server syncs before it answers"),
                Keeps::Unknown => (Verdict::Warn, "make sure that a sync reaches a disk there"),
            };
            Check::new(NAME, verdict, name, fix)
        }
        Err(error) => Check::unknown(NAME, error),
    }
}

fn promises(repo: &Repo) -> Check {
    const NAME: &str = "store";
    match conformance::check(repo.store()) {
        Ok(()) => Check::new(NAME, Verdict::Pass, "whole objects, never replaced, listed at once", ""),
        Err(broken) => Check::new(NAME, Verdict::Fail, broken, "move the repository to another file system"),
    }
}

fn locks(repo: &Repo) -> Check {
    const NAME: &str = "locks";
    match repo.store().lock(LockMode::Shared) {
        Ok(Lock::Held(_)) if !repo.store().locks_reach_everybody() => {
            let fix = "nothing: prune goes in steps here; another host or mount may not see this one's locks";
            Check::new(NAME, Verdict::Warn, "work, perhaps for this mount only", fix)
        }
        Ok(Lock::Held(_)) => Check::new(NAME, Verdict::Pass, "work", ""),
        Ok(Lock::Busy) => {
            Check::new(NAME, Verdict::Warn, "a prune is at work", "look again when it has ended")
        }
        Ok(Lock::Unsupported) => {
            let fix = "never prune while a snapshot runs, or use a file system that has locks";
            Check::new(NAME, Verdict::Warn, "not supported here", fix)
        }
        Err(error) => Check::unknown(NAME, error),
    }
}

fn room(name: &'static str, path: &Path) -> Check {
    match space(path) {
        Ok(found) => {
            let share = found.free_bytes as f64 / found.total_bytes.max(1) as f64;
            let verdict = match () {
                () if share < 0.02 => Verdict::Fail,
                () if share < 0.10 => Verdict::Warn,
                () => Verdict::Pass,
            };
            let text =
                format!("{} free of {}", size::bytes(found.free_bytes), size::bytes(found.total_bytes));
            Check::new(name, verdict, text, "free some space; lifeboat prune removes forgotten snapshots")
        }
        Err(error) => Check::unknown(name, error),
    }
}

fn inodes(location: &Path) -> Check {
    const NAME: &str = "inodes";
    match space(location) {
        Ok(found) if found.total_inodes == 0 => Check::new(NAME, Verdict::Pass, "no limit", ""),
        Ok(found) => {
            let share = found.free_inodes as f64 / found.total_inodes as f64;
            let verdict = if share < 0.05 { Verdict::Warn } else { Verdict::Pass };
            let text =
                format!("{} free of {}", size::count(found.free_inodes), size::count(found.total_inodes));
            Check::new(NAME, verdict, text, "remove files, or make the file system with more inodes")
        }
        Err(error) => Check::unknown(NAME, error),
    }
}

fn key(context: &Context, repo: &Repo) -> Check {
    const NAME: &str = "writer key";
    let path = match context.key_path() {
        Ok(path) => path,
        Err(error) => return Check::unknown(NAME, error.message()),
    };
    let shown = Name::from(path.as_os_str()).shown();
    let key = match WriterKey::load(&path) {
        Ok(key) => key,
        Err(RepoError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let fix = "lifeboat key add, if this host is to write; reading needs no key";
            return Check::new(NAME, Verdict::Warn, format!("{shown} does not exist"), fix);
        }
        Err(error) => {
            return Check::new(NAME, Verdict::Fail, error.to_string(), "bring back a copy of the key");
        }
    };
    if path.metadata().is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
        return Check::new(
            NAME,
            Verdict::Fail,
            format!("others may read {shown}"),
            "chmod 600 the key's file",
        );
    }
    match repo.writers() {
        Ok(writers) if writers.iter().any(|w| w.file_hash() == key.public().file_hash()) => {
            Check::new(NAME, Verdict::Pass, shown, "")
        }
        Ok(_) => {
            let text = format!("the repository does not know {shown}");
            Check::new(NAME, Verdict::Warn, text, "lifeboat key add, if this host is to write")
        }
        Err(error) => Check::unknown(NAME, error),
    }
}

// A clock that is behind what is stored already is wrong; order does not depend on it, retention does.
fn clock(context: &Context, repo: &Repo) -> Result<Check, CommandError> {
    let now = context.clock().now();
    let snapshots = context.snapshots(repo)?;
    let newest = snapshots.iter().map(|s| s.document.finished).chain([repo.config().created]).max();
    let ahead = newest.map(|newest| newest.since(now)).unwrap_or_default();
    let verdict = if ahead > SLACK { Verdict::Warn } else { Verdict::Pass };
    let text = match verdict {
        Verdict::Pass => format!("{} UTC", now.shown()),
        _ => format!("{} UTC, {} behind the newest snapshot", now.shown(), size::duration(ahead)),
    };
    let fix = "set the clock of this host, or find the host whose clock is ahead";
    Ok(Check::new("clock", verdict, text, fix))
}

/// Programs that a recovery without Lifeboat needs.
const TOOLS: &[(&str, &str)] = &[
    ("zstd", "install it: recovery without lifeboat decodes packs with it"),
    ("python3", "install it: recover.py in the repository needs it"),
    ("ssh-keygen", "install it: signatures are checked with it, without lifeboat"),
];

fn tool(&(name, fix): &(&'static str, &'static str)) -> Check {
    match env::find_program(name) {
        Some(path) => Check::new(name, Verdict::Pass, Name::from(path.as_os_str()).shown(), ""),
        None => Check::new(name, Verdict::Warn, "not in PATH", fix),
    }
}

fn open_files() -> Check {
    let limit = host::open_files();
    let verdict = if limit.is_none_or(|limit| limit >= FILES) { Verdict::Pass } else { Verdict::Warn };
    let text = limit.map_or_else(|| "no limit".to_owned(), |limit| format!("at most {}", size::count(limit)));
    Check::new(
        "open files",
        verdict,
        text,
        "raise the limit (ulimit -Hn 65536): deep trees need a file a level",
    )
}

// Databases are copied there, and drills put their copies there.
fn temporary() -> Check {
    const NAME: &str = "temporary files";
    let place = host::large_temporary();
    let shown = Name::from(place.as_os_str()).shown();
    let usual = host::LARGE_TEMPORARY;
    match tempfile::tempfile_in(&place) {
        Ok(_) if place == Path::new(usual) => Check::new(NAME, Verdict::Pass, shown, ""),
        Ok(_) => Check::new(
            NAME,
            Verdict::Warn,
            format!("{shown}, as nothing can be written in {usual}"),
            format!("let this user write in {usual}, or see that {shown} has room for what is copied there"),
        ),
        Err(error) => Check::new(
            NAME,
            Verdict::Fail,
            format!("nothing can be written in {shown}: {error}"),
            format!("let this user write in {usual}, or name another directory by TMPDIR"),
        ),
    }
}

// A drill needs a place apart from production; whether this host allows one is found out by making one.
fn isolation() -> Check {
    const NAME: &str = "sandbox";
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Check::unknown(NAME, error),
    };
    let probe = sandbox::probe(&program);
    let Some(active) = probe.active else {
        return Check::new(NAME, Verdict::Warn, format!("no drills here: {}", probe.reason), probe.fix);
    };
    let text = format!("as {}: {}", probe.who, active.mechanisms.join(", "));
    if active.level == Level::Full && probe.reason.is_empty() {
        return Check::new(NAME, Verdict::Pass, text, "");
    }
    Check::new(NAME, Verdict::Warn, format!("{text}; but {}", probe.reason), probe.fix)
}

fn attributes(target: &Path) -> Check {
    const NAME: &str = "attributes";
    let tried = tempfile::Builder::new()
        .prefix(".lifeboat-doctor-")
        .tempfile_in(target)
        .map(|file| set_xattr(Handle::Open(file.as_file().as_fd()), b"user.lifeboat", b"1"));
    let shown = Name::from(target.as_os_str()).shown();
    match tried {
        Ok(Ok(())) => Check::new(NAME, Verdict::Pass, format!("{shown} keeps extended attributes"), ""),
        Ok(Err(error)) => {
            let text = format!("{shown} keeps no extended attributes: {error}");
            Check::new(NAME, Verdict::Warn, text, "restore to another file system, if the source has any")
        }
        Err(error) => {
            let text = format!("nothing can be written in {shown}: {error}");
            Check::new(NAME, Verdict::Warn, text, "name the place of a restore with --target")
        }
    }
}
