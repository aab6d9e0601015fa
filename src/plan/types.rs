//! The keys of a plan. The comments here are the documentation that `docs/plan.md` shows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::places::Place;
use super::step::Step;
use crate::base::name::shown;
use crate::check::Check;
use crate::check::value::{Amount, CommandLine, Size, Span};

/// How an application comes back, and how one sees that it works
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "lifeboat.toml")]
pub struct Plan {
    /// The application and its files
    pub app: App,
    /// Where snapshots go
    pub repository: Repository,
    /// Which snapshots `lifeboat forget` keeps; the names are those of its flags
    pub retention: Retention,
    /// SQLite databases, saved by their own means together with the files
    pub database: Vec<Database>,
    /// How the application is started and stopped
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// How one sees that it works
    pub check: Vec<Check>,
    /// The rehearsal of a recovery
    pub drill: Drill,
    /// The guarded change
    pub hotfix: Hotfix,
    /// Procedures by name, such as daily, weekly, monthly, quarterly
    pub runbook: BTreeMap<String, Runbook>,
    /// What comes before and after work on the application
    pub maintenance: Maintenance,
    /// Logs that are rotated
    pub rotate: Vec<Rotate>,
    /// Where the application's measurements are
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// When something runs out
    pub capacity: Capacity,
    /// What a security review looks at
    pub security: Security,
    /// Who is told
    pub notify: Vec<Notify>,
    // where it was read
    #[serde(skip)]
    pub(super) file: PathBuf,
    #[serde(skip)]
    pub(super) directory: PathBuf,
    #[serde(skip)]
    pub(super) places: BTreeMap<String, Place>,
}

/// The application and its files
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct App {
    /// What it is called; the name of the plan's directory if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tree to protect, from the plan's directory
    pub root: String,
    /// Paths that no snapshot holds, in the syntax of gitignore
    pub exclude: Vec<String>,
    /// Live data, kept or left out by snapshots, that a rollback carries over as it is
    pub keep_on_rollback: Vec<String>,
    /// Excluded paths that set-up makes again, so that a rollback may drop them
    pub rebuild: Vec<String>,
    /// The user the application runs as; if not given, the owner of its root where root runs Lifeboat, else whoever does
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Default for App {
    fn default() -> Self {
        let none = Vec::new;
        Self {
            name: None,
            root: ".".to_owned(),
            exclude: none(),
            keep_on_rollback: none(),
            rebuild: none(),
            user: None,
        }
    }
}

/// Where snapshots go
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Repository {
    /// The repository, from the plan's directory; --repo and LIFEBOAT_REPOSITORY go before it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Copies of the repository, made by other means: this version copies nothing, `lifeboat status` says how far they lag
    pub replicas: Vec<String>,
}

/// Which snapshots of the tree `lifeboat forget` keeps where it is given neither snapshots nor rules. The last one that
/// passed a drill always is
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The newest so many
    pub keep_last: u32,
    /// One for each of the newest so many hours that have one
    pub keep_hourly: u32,
    /// One for each of the newest so many days that have one
    pub keep_daily: u32,
    /// One for each of the newest so many weeks that have one
    pub keep_weekly: u32,
    /// One for each of the newest so many months that have one
    pub keep_monthly: u32,
    /// One for each of the newest so many years that have one
    pub keep_yearly: u32,
    /// All taken at most so long before the newest
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<Span>,
    /// All with any of these tags
    pub keep_tag: Vec<String>,
}

/// A database, saved by its own means. This version saves those of kind sqlite: with one of another kind in the plan
/// `lifeboat snapshot` needs paths, and `lifeboat validate` warns
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// What it is: sqlite; postgres, mysql and command are read, and not saved by this version
    pub kind: DatabaseKind,
    /// What it is called in records; its path or database if not given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// sqlite: the database's file
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// postgres, mysql: the database's name on the server
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// postgres, mysql: the server; its Unix socket if not given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// postgres, mysql: the server's port
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// postgres, mysql: who signs in
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// postgres, mysql: the file with the password, in the server's own form (.pgpass, my.cnf)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// command: prints the whole database on stdout
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<CommandLine>,
    /// command: reads on stdin what dump printed and makes the database so again
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<CommandLine>,
    /// How long saving or restoring it may take
    #[serde(default = "hour")]
    pub timeout: Span,
}

impl Database {
    /// What it is called, safe for a terminal.
    pub fn shown_name(&self) -> String {
        let name = self.name.as_ref().or(self.path.as_ref()).or(self.database.as_ref());
        name.map_or_else(|| "a database".to_owned(), |name| shown(name.as_bytes()))
    }
}

/// What a database is
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// A file of SQLite.
    Sqlite,
    /// A database on a PostgreSQL server.
    Postgres,
    /// A database on a MySQL or MariaDB server.
    Mysql,
    /// Anything with a command to dump and one to restore.
    Command,
}

fn hour() -> Span {
    Span::seconds(3600)
}

/// How the application is started and stopped: by commands, a systemd unit, or a PID file
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// The command that starts it; it may go on running, or return and leave the service behind
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<CommandLine>,
    /// The command that stops it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<CommandLine>,
    /// The systemd unit, in place of commands
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The file with its PID, by which one sees that it has ended
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pidfile: Option<String>,
    /// Checks by name that all pass when it is ready; the required http and port checks if not given
    pub ready: Vec<String>,
    /// How long the start command may take
    pub start_timeout: Span,
    /// How long it may take to stop, until it is killed
    pub stop_timeout: Span,
    /// How long it may take to be ready
    pub ready_timeout: Span,
    /// It is ready when its checks passed so often in a row
    pub ready_count: u32,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            start: None,
            stop: None,
            unit: None,
            pidfile: None,
            ready: Vec::new(),
            start_timeout: Span::seconds(60),
            stop_timeout: Span::seconds(30),
            ready_timeout: Span::seconds(60),
            ready_count: 3,
        }
    }
}

/// The rehearsal of a recovery
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drill {
    /// Commands that make the restored copy able to run, one after the other
    pub setup: Vec<CommandLine>,
    /// The application's own tests
    pub tests: Vec<CommandLine>,
    /// The command that serves and does not return; `service.start` if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<CommandLine>,
    /// Checks by name that all pass when the server is ready; `service.ready` if not given
    pub ready: Vec<String>,
    /// Checks by name that are run after the tests; all of the plan if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<String>>,
    /// The command that stops the server; it is sent TERM if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<CommandLine>,
    /// Variables of the environment, which holds nothing else but PATH, HOME and LANG
    pub environment: BTreeMap<String, String>,
    /// A file of more variables, lines of NAME=value
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_file: Option<String>,
    /// none: no network but its own loopback; setup: the host's network for the set-up commands only
    pub network: Network,
    /// Paths outside the tree that it may write; they start empty and are thrown away
    pub writable: Vec<String>,
    /// Paths of the system that it must not see
    pub hide: Vec<String>,
    /// What it may use
    pub limits: Limits,
    /// What a recovery must reach
    pub objectives: Objectives,
    /// A missed objective fails the drill, or is only told
    pub on_objective_missed: OnMiss,
    /// A drill is due this long after the last one
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_every: Option<Span>,
    /// How long each set-up command may take
    pub setup_timeout: Span,
    /// How long each test command may take
    pub test_timeout: Span,
    /// How long the server may take to be ready
    pub ready_timeout: Span,
    /// How long the server may take to stop, until it is killed
    pub stop_timeout: Span,
    /// The server is ready when its checks passed so often in a row
    pub ready_count: u32,
}

impl Default for Drill {
    fn default() -> Self {
        Self {
            setup: Vec::new(),
            tests: Vec::new(),
            server: None,
            ready: Vec::new(),
            checks: None,
            stop: None,
            environment: BTreeMap::new(),
            env_file: None,
            network: Network::None,
            writable: Vec::new(),
            hide: Vec::new(),
            limits: Limits::default(),
            objectives: Objectives::default(),
            on_objective_missed: OnMiss::Fail,
            drill_every: None,
            setup_timeout: Span::seconds(600),
            test_timeout: Span::seconds(600),
            ready_timeout: Span::seconds(60),
            stop_timeout: Span::seconds(30),
            ready_count: 3,
        }
    }
}

/// The network of a drill
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Its own loopback, nothing else.
    #[default]
    None,
    /// The host's network for the set-up commands only.
    Setup,
}

/// What a missed objective does
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMiss {
    /// The drill ends with 21.
    #[default]
    Fail,
    /// It is told.
    Warn,
}

/// What a drill may use
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Time for the whole drill
    pub time: Span,
    /// Memory, all its processes together; no limit if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Processes and threads at a time
    pub processes: u32,
    /// Bytes that it may write; no limit but the room there is if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Span::seconds(3600), memory: None, processes: 1024, disk: None }
    }
}

/// What a recovery must reach
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Objectives {
    /// Recovery time objective: the longest from the decision to a service that is ready
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto: Option<Span>,
    /// Recovery point objective: the most that may be lost, as the age of the snapshot
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpo: Option<Span>,
}

/// The guarded change
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hotfix {
    /// Commands that must end well after the change
    pub verify: Vec<CommandLine>,
    /// Checks by name that are watched; all required ones if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<String>>,
    /// How long the checks are watched after the change
    pub watch: Span,
    /// Time between two rounds of checks
    pub interval: Span,
    /// So many failed rounds in a row are a failed change
    pub failure_limit: u32,
    /// Somebody must confirm within this time, or it is rolled back; nobody need if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<Span>,
    /// What happens where it cannot be judged: rollback or keep
    pub on_inconclusive: OnInconclusive,
    /// How long each command may take
    pub command_timeout: Span,
    /// What else fails a change while it is watched
    pub thresholds: Thresholds,
}

impl Default for Hotfix {
    fn default() -> Self {
        Self {
            verify: Vec::new(),
            checks: None,
            watch: Span::seconds(900),
            interval: Span::seconds(10),
            failure_limit: 2,
            confirm_within: None,
            on_inconclusive: OnInconclusive::Rollback,
            command_timeout: Span::seconds(600),
            thresholds: Thresholds::default(),
        }
    }
}

/// What happens where a change cannot be judged
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnInconclusive {
    /// It is rolled back.
    #[default]
    Rollback,
    /// It is kept.
    Keep,
}

/// Limits that a change must not pass while it is watched
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// The longest that an http check may take
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Span>,
    /// The most of all processors in use
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Amount>,
    /// The most of the memory in use
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Amount>,
    /// The most forbidden lines that log checks may find, all together
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<u64>,
}

/// A procedure: steps, one after the other
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Runbook {
    /// What it is for, in a line
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What is done
    pub steps: Vec<Step>,
    /// When it is due, as systemd's OnCalendar has it: `daily`, `Sun 03:00`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// It is due this long after its last run began; from the schedule if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// What a failed step does, unless it says so itself: stop, continue or rollback
    pub on_failure: OnFailure,
    /// How long a step may take, unless it says so itself; 1 hour if not given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// What a failed step does
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The steps after it are not done.
    #[default]
    Stop,
    /// It is recorded, and the next step follows.
    Continue,
    /// The application goes back to the last snapshot before the runbook.
    Rollback,
}

/// What comes before and after work on the application
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Maintenance {
    /// Steps of `maintenance begin`, after its own
    pub begin: Vec<Step>,
    /// Steps of `maintenance end`, before its own
    pub end: Vec<Step>,
    /// How long the checks are watched at the end
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<Span>,
    /// What a failed step does: stop, continue or rollback
    pub on_failure: OnFailure,
    /// Configuration files whose content is recorded at the beginning, as globs
    pub configuration: Vec<String>,
}

/// A log that is rotated
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// The log, or a pattern for several
    pub log: String,
    /// It is rotated when it is larger
    #[serde(default = "ten_mb")]
    pub size: Size,
    /// It is rotated when it is older, whatever its size
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// Rotated files are kept so long
    #[serde(default = "month")]
    pub keep: Span,
    /// At most so many rotated files are kept
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_count: Option<u32>,
    /// Rotated files are compressed
    #[serde(default = "yes")]
    pub compress: bool,
    /// copytruncate: copy, then empty the file; rename: rename, then tell the writer
    #[serde(default)]
    pub method: RotateMethod,
    /// rename: the command that makes the application open its log anew
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reopen: Option<CommandLine>,
    /// rename: the PID file of the process that is sent `signal`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidfile: Option<String>,
    /// rename: the signal that makes it open its log anew
    #[serde(default = "hup")]
    pub signal: String,
}

/// How a log is rotated
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RotateMethod {
    /// Copied, then emptied: the writer notices nothing.
    #[default]
    Copytruncate,
    /// Renamed, then the writer is told.
    Rename,
}

fn ten_mb() -> Size {
    Size(10_000_000)
}

fn month() -> Span {
    Span::seconds(30 * 86400)
}

fn yes() -> bool {
    true
}

fn hup() -> String {
    "HUP".to_owned()
}

/// Where the application's measurements are: a file of JSON lines
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// The file
    pub file: String,
    /// The field with the time of a line: RFC 3339, or seconds since 1970
    #[serde(default = "timestamp")]
    pub time: String,
    /// What is measured, and the field (a path such as `cpu.percent`) that holds it
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
}

fn timestamp() -> String {
    "timestamp".to_owned()
}

/// When something runs out
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Capacity {
    /// Spans of time before now that are looked at
    pub windows: Vec<Span>,
    /// What is measured, and the number above which it is warned
    pub warn: BTreeMap<String, f64>,
    /// It is warned when disk, memory or repository runs out within this time
    pub horizon: Span,
}

impl Default for Capacity {
    fn default() -> Self {
        let day = 86400;
        let windows = vec![Span::seconds(day), Span::seconds(7 * day), Span::seconds(90 * day)];
        Self { windows, warn: BTreeMap::new(), horizon: Span::seconds(90 * day) }
    }
}

/// What a security review looks at
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// Tools that name packages with known holes: pip, npm, cargo, or a command; those that fit if empty
    pub audit: Vec<String>,
    /// Access logs whose 401, 403 and 500 are counted
    pub access_log: Vec<String>,
    /// Paths whose wide permissions, or secrets, are meant so, in the syntax of gitignore
    pub allow: Vec<String>,
    /// Regular expressions of secrets that must not lie in the tree, besides the known ones
    pub secrets: Vec<String>,
}

/// Who is told
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// A URL that is sent a JSON document
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// The file with that URL, where it is a secret
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_file: Option<String>,
    /// The form of the document: json, or slack
    pub format: NotifyFormat,
    /// A URL that is asked for at start (`/start`), success and failure (`/fail`), as healthchecks have it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<String>,
    /// A command that reads the JSON document on stdin
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandLine>,
    /// What is told: any of start, success, failure; if empty a ping tells all three, others a failure and its end
    pub on: Vec<NotifyOn>,
    /// Which operations are told of, such as snapshot, run, or `run weekly` for one runbook; all if empty
    pub operations: Vec<String>,
}

/// The form of a notification
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotifyFormat {
    /// Lifeboat's own document.
    #[default]
    Json,
    /// As Slack and those like it read it.
    Slack,
}

/// What is told
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotifyOn {
    /// An operation begins.
    Start,
    /// It ended well.
    Success,
    /// It did not.
    Failure,
}
