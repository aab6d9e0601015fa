//! `hotfix`: a change that is taken back by itself if something is wrong.

mod console;
mod report;
mod unit;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::base::Exit;
use crate::base::name::Name;
use crate::cli::command::drill::hash_of;
use crate::cli::context::{Context, whoami};
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::cli::signals;
use crate::guard::{
    self, Armed, Change, End, GuardError, LOG, Options, Outcome, Request, Resumed, Stage, Want, armed, ask,
    is_watched, last, wait_for_watcher,
};
use crate::plan::Plan;
use crate::repo::Repo;
use crate::repo::keys::WriterKey;
use crate::rollback::Subject;
use crate::state::State;
use crate::sys::process::{Program, Run};

use console::Console;
pub use report::Stand;

/// A watcher hands over, or is there, after so long at most.
const HAND_OVER: Duration = Duration::from_secs(20);
/// A watcher that was told how to end ends within this time: a rollback may take long.
const TO_THE_END: Duration = Duration::from_secs(6 * 3600);

/// Make a change that is taken back by itself if something is wrong
///
/// Takes a snapshot, runs the command, runs the plan's tests, and watches the plan's checks for as long as asked. If the change is
/// bad, the application goes back to the snapshot: files, databases and service together. The exit status is 0 if the change is kept, 30 if it was
/// rolled back, 31 if that failed, and 1 if it was refused and nothing was changed. docs/hotfix.md says what decides.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HotfixArgs {
    #[command(subcommand)]
    step: Option<Part>,
    #[command(flatten)]
    how: HowArgs,
    /// Go on with a change whose watcher is gone, after a reboot or a crash; does nothing if there is none
    #[arg(long, conflicts_with = "command")]
    resume: bool,
    /// The command that changes the application, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The parts of a change by hand, and what else there is.
#[derive(clap::Subcommand)]
enum Part {
    /// Arm a change that is made by hand
    Begin(HowArgs),
    Confirm(ConfirmArgs),
    /// Take an armed change back, now
    Abort,
    /// Say what is armed
    Status,
    Unit(unit::UnitArgs),
}

/// How a change is guarded.
#[derive(clap::Args, Default)]
struct HowArgs {
    /// How long the checks are watched after the change [default: the plan's hotfix.watch]
    #[arg(long, value_name = "TIME", value_parser = time)]
    watch: Option<Duration>,
    /// Roll back unless somebody confirms within this time [default: the plan's hotfix.confirm_within]
    #[arg(long, value_name = "TIME", value_parser = time)]
    confirm_within: Option<Duration>,
    /// How long the application is looked at before the change
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    baseline: Duration,
    /// Stop and start the service after the change
    #[arg(long)]
    restart: bool,
    /// Do it although the same command was rolled back
    #[arg(long)]
    force: bool,
}

/// Keep an armed change; of a change by hand: it is done
///
/// A change by hand is then tested and watched like any other. Any other is kept at once.
#[derive(clap::Args)]
pub struct ConfirmArgs {
    /// A change by hand: how long the checks are watched now [default: as it was begun]
    #[arg(long, value_name = "TIME", value_parser = time)]
    watch: Option<Duration>,
    /// A change by hand: stop and start the service first
    #[arg(long)]
    restart: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "it is no length of time such as 30s, 15m or 1h 30m".to_owned())
}

/// What all parts need.
pub(super) struct Desk {
    /// The plan.
    pub plan: Plan,
    /// What is remembered of its application.
    pub state: State,
    /// The repository.
    pub repo: Repo,
    key: WriterKey,
}

impl Desk {
    /// Opens it all.
    ///
    /// # Errors
    /// If there is no plan, repository or key.
    pub fn open(context: &Context) -> Result<Self, CommandError> {
        let plan = context.plan()?;
        let state = context.state(&plan)?;
        let repo = context.open_repo()?;
        // without a key there is neither snapshot nor record, and so no way back
        let key = context.writer_key(&repo)?;
        Ok(Self { plan, state, repo, key })
    }

    /// The application, for whatever brings it back.
    ///
    /// # Errors
    /// If the plan's file or this program cannot be read.
    pub fn subject(&self, context: &Context) -> Result<Subject<'_>, CommandError> {
        Ok(Subject {
            repo: &self.repo,
            key: &self.key,
            plan: &self.plan,
            state: &self.state,
            plan_sha256: self.plan_hash()?,
            program: env::program().map_err(|error| CommandError::of(Exit::Failed, &error))?,
            sudo_user: env::sudo_user(),
            outside: vec![context.location()?, context.key_path()?],
        })
    }
}

impl Desk {
    // Of the file, or of the plan that stands for it where a change took it away.
    fn plan_hash(&self) -> Result<String, CommandError> {
        hash_of(self.plan.file()).or_else(|error| match armed(&self.state) {
            Ok(Some(found)) => Ok(hex::encode(Sha256::digest(found.plan_text))),
            _ => Err(error),
        })
    }
}

/// Runs the command.
///
/// # Errors
/// If it was refused: nothing was changed.
pub fn run(args: &HotfixArgs, context: &Context) -> Result<Exit, CommandError> {
    if !matches!(args.step, None | Some(Part::Begin(_) | Part::Unit(_))) || args.resume {
        plan_of_armed(context)?;
    }
    match &args.step {
        Some(Part::Begin(how)) => begin(how, context),
        Some(Part::Confirm(args)) => confirm(args, context),
        Some(Part::Abort) => abort(context),
        Some(Part::Status) => report::status(context),
        Some(Part::Unit(args)) => unit::run(args, context),
        None if args.resume => resume(context),
        None if args.command.is_empty() => Err(CommandError::usage("no command is given")
            .next("lifeboat hotfix -- COMMAND; for a change by hand, lifeboat hotfix begin")),
        None => command(args, context),
    }
}

fn command(args: &HotfixArgs, context: &Context) -> Result<Exit, CommandError> {
    let desk = Desk::open(context)?;
    check_command(&args.command)?;
    let words = args.command.iter().map(|word| Name::from(word.as_os_str())).collect();
    let options = options(&args.how, Change::Command(words), &desk.plan)?;
    let stand = Stand::now(&desk.plan);
    let console = Console::new(context, &desk.state)?;
    let observer = context.observer_until(console.stop());
    let outcome = guard::hotfix(&desk.subject(context)?, &options, &console, &*observer).map_err(refused)?;
    context.remember(&desk.repo);
    drop(observer);
    report::outcome(&outcome, &stand, context)
}

// One that cannot run changes nothing, and must cost the application nothing.
fn check_command(command: &[OsString]) -> Result<(), CommandError> {
    let Some(word) = command.first() else { return Ok(()) };
    env::runnable(word, &here()?).map(drop).map_err(|error| {
        let word = Name::from(word.as_os_str()).shown();
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such program",
            _ => "it is no file that this user may execute",
        };
        CommandError::usage(format!("the command {word} cannot be run: {why}; nothing was changed")).next(
            "after -- come a program, by its path or in the PATH, and its arguments; a text for the shell: -- sh -c 'TEXT'",
        )
    })
}

fn here() -> Result<std::path::PathBuf, CommandError> {
    std::env::current_dir().map_err(CommandError::io("could not find out the current directory"))
}

fn options(how: &HowArgs, change: Change, plan: &Plan) -> Result<Options, CommandError> {
    Ok(Options {
        change,
        directory: here()?,
        watch: how.watch.unwrap_or(plan.hotfix.watch.0),
        confirm_within: how.confirm_within.or(plan.hotfix.confirm_within.map(|span| span.0)),
        baseline: how.baseline,
        restart: how.restart,
        force: how.force,
    })
}

fn begin(how: &HowArgs, context: &Context) -> Result<Exit, CommandError> {
    let desk = Desk::open(context)?;
    let options = options(how, Change::ByHand, &desk.plan)?;
    let console = Console::new(context, &desk.state)?;
    let observer = context.observer_until(console.stop());
    let found = guard::begin(&desk.subject(context)?, &options, &console, &*observer).map_err(refused)?;
    context.remember(&desk.repo);
    drop(observer);
    if found.confirm_until.is_some() {
        leave_watcher(&desk, context)?;
    }
    report::begun(&found, context)
}

// For a deadline somebody must be there when it is over.
fn leave_watcher(desk: &Desk, context: &Context) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::of(Exit::Failed, &error)
            .next("it is armed, and nobody watches: lifeboat hotfix --resume, or lifeboat hotfix abort")
    };
    let mut words = vec![env::program().map_err(failed)?.into_os_string()];
    words.extend(context.same_again(&desk.plan)?);
    words.extend(["hotfix".into(), "--resume".into()]);
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(desk.state.path(LOG));
    let run = Run { leave: true, output: Some(log.map_err(failed)?), ..Run::new(Program::Argv(words)) };
    run.start().map_err(failed)?.release();
    let began = std::time::Instant::now();
    while !is_watched(&desk.state).map_err(state_failed)? {
        if began.elapsed() > HAND_OVER {
            return Err(failed(std::io::Error::other("the watcher in the background does not come up")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

// A change may break the plan, or take it away. What is armed holds the one that it began with.
fn plan_of_armed(context: &Context) -> Result<(), CommandError> {
    let Err(error) = context.load_plan() else { return Ok(()) };
    let file = context.plan_file()?;
    let armed =
        context.states().iter().find_map(|state| armed(state).ok().flatten().filter(|a| a.plan_file == file));
    let Some(armed) = armed else { return Ok(()) };
    context.use_plan(Plan::parse(&armed.plan_text, &file)?);
    context.warn("plan-unusable", &format!("{error}; the plan that the hotfix began with is used"));
    Ok(())
}

fn me() -> String {
    env::sudo_user().unwrap_or_else(|| whoami().1.shown())
}

/// `confirm`: keeps it, or goes on with a change by hand.
///
/// # Errors
/// If nothing is armed.
pub fn confirm(args: &ConfirmArgs, context: &Context) -> Result<Exit, CommandError> {
    plan_of_armed(context)?;
    let desk = Desk::open(context)?;
    let found = armed_one(&desk.state)?;
    if found.stage != Stage::Open {
        return tell(&desk, &found, Want::Keep, context);
    }
    hand_over(&desk.state, &found)?;
    let stand = Stand::now(&desk.plan);
    let console = Console::new(context, &desk.state)?;
    let observer = context.observer_until(console.stop());
    let how = (args.watch, args.restart);
    let outcome = guard::settle(&desk.subject(context)?, how, &console, &*observer).map_err(refused)?;
    context.remember(&desk.repo);
    drop(observer);
    report::outcome(&outcome, &stand, context)
}

fn abort(context: &Context) -> Result<Exit, CommandError> {
    let desk = Desk::open(context)?;
    let found = armed_one(&desk.state)?;
    tell(&desk, &found, Want::RollBack, context)
}

/// True if a word on the change that is armed goes to a process that watches it, and that process sees it to its end.
/// Whoever confirms a change by hand takes it over.
pub fn watcher_ends_it(state: &State, confirms: bool) -> bool {
    let found = armed(state).ok().flatten();
    let takes_over = |found: &Armed| confirms && found.stage == Stage::Open;
    found.is_some_and(|found| !takes_over(&found)) && is_watched(state).unwrap_or(false)
}

fn armed_one(state: &State) -> Result<Armed, CommandError> {
    armed(state).map_err(state_failed)?.ok_or_else(|| refused(GuardError::NotArmed))
}

// Asks a watcher in the background to let go.
fn hand_over(state: &State, found: &Armed) -> Result<(), CommandError> {
    if !is_watched(state).map_err(state_failed)? {
        return Ok(());
    }
    ask(state, &Request { run_id: found.run_id.clone(), want: Want::HandOver, by: me() })
        .map_err(state_failed)?;
    if wait_for_watcher(state, HAND_OVER).map_err(refused)? {
        Ok(())
    } else {
        Err(refused(GuardError::Watched))
    }
}

// Gives the watcher somebody's word and waits for the end, or does it where there is none.
fn tell(desk: &Desk, found: &Armed, want: Want, context: &Context) -> Result<Exit, CommandError> {
    if is_watched(&desk.state).map_err(state_failed)? {
        let request = Request { run_id: found.run_id.clone(), want, by: me() };
        ask(&desk.state, &request).map_err(state_failed)?;
        context.say("the watcher was told; it ends now");
        wait_for_watcher(&desk.state, TO_THE_END).map_err(refused)?;
        let ended = last(&desk.state).map_err(state_failed)?.filter(|last| last.run_id == found.run_id);
        if let Some(ended) = ended {
            return report::last(&ended, context);
        }
        // it died before it heard
    }
    let stand = Stand::now(&desk.plan);
    let console = Console::new(context, &desk.state)?;
    let observer = context.observer_until(console.stop());
    let subject = desk.subject(context)?;
    let outcome = guard::decide(&subject, (want, &me()), &console, &*observer).map_err(refused)?;
    drop(observer);
    report::outcome(&outcome, &stand, context)
}

fn resume(context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let state = context.state(&plan)?;
    if armed(&state).map_err(state_failed)?.is_none() {
        return report::nothing(context);
    }
    let desk = Desk::open(context)?;
    let stand = Stand::now(&desk.plan);
    let console = Console::new(context, &desk.state)?;
    let observer = context.observer_until(console.stop());
    let resumed = guard::resume(&desk.subject(context)?, &console, &*observer).map_err(refused)?;
    context.remember(&desk.repo);
    drop(observer);
    match resumed {
        Resumed::Nothing => report::nothing(context),
        Resumed::Watched(found) => report::armed(&found, true, context),
        Resumed::Waits(found) => report::armed(&found, false, context),
        Resumed::Ended(outcome) => report::outcome(&outcome, &stand, context),
    }
}

fn state_failed(error: crate::state::StateError) -> CommandError {
    CommandError::of(Exit::Failed, &error)
        .next("LIFEBOAT_STATE_DIR names the directory of what is remembered")
}

/// What a change that was refused says.
fn refused(error: GuardError) -> CommandError {
    let (exit, next) = match &error {
        GuardError::Armed(_) => (
            Exit::Failed,
            "lifeboat hotfix status, confirm or abort; --resume if its watcher is gone".to_owned(),
        ),
        GuardError::NotArmed => {
            (Exit::Failed, "lifeboat log show --kind hotfix lists those that were".to_owned())
        }
        GuardError::NotByHand(_) => (Exit::Failed, "lifeboat hotfix --resume, confirm or abort".to_owned()),
        GuardError::Watched => (Exit::Failed, "lifeboat hotfix status, confirm or abort".to_owned()),
        GuardError::Blind => {
            (Exit::Usage, "write a [[check]] into the plan; docs/checks.md has one of each kind".to_owned())
        }
        GuardError::Unwell(_) => (
            Exit::Failed,
            "lifeboat health shows all checks; hotfix.checks names those that are watched".to_owned(),
        ),
        GuardError::Unjudged(_) => (Exit::Inconclusive, "lifeboat health shows all checks".to_owned()),
        GuardError::NoWayBack(obstacles) => {
            (Exit::Failed, obstacles.first().map(|obstacle| obstacle.next.clone()).unwrap_or_default())
        }
        GuardError::NotWhole { .. } => {
            (Exit::Failed, "exclude what cannot be read, or run as a user that can read it; mend what the plan says of databases".to_owned())
        }
        GuardError::Flapping { .. } => (Exit::Failed, "mend the change, or --force".to_owned()),
        GuardError::Interrupted => (Exit::Interrupted, String::new()),
        GuardError::Plan(_) => (Exit::Usage, String::new()),
        GuardError::Repo(_) | GuardError::Snapshot(_) | GuardError::Rollback(_) | GuardError::State(_) => {
            (Exit::Failed, String::new())
        }
    };
    let error = match error {
        GuardError::Repo(error) => return error.into(),
        other => CommandError::of(exit, &other),
    };
    if next.is_empty() { error } else { error.next(next) }
}

/// The exit status that an end gives the command.
fn exit_of(outcome: &Outcome) -> Exit {
    match outcome.end {
        End::Disarmed => Exit::Failed,
        end => end.exit(),
    }
}

fn hear() -> Result<signals::Heard, CommandError> {
    signals::hear().map_err(CommandError::io("could not listen for signals"))
}
