//! `schedule`: timers of the host for the runbooks of a plan.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::run::console::globals;
use crate::base::Exit;
use crate::base::Name;
use crate::cli::context::Context;
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::cli::table::{Kind, Table};
use crate::plan::Plan;
use crate::runbook::timers::{Install, MARK, Timer, Unit, prefix, timers};
use crate::sys::process::{Program, Run};

/// systemd makes this directory where it is at work.
const BOOTED: &str = "/run/systemd/system";

/// Let the host run runbooks when they are due: timers of systemd, or lines for cron
#[derive(clap::Args)]
pub struct ScheduleArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Write a service and a timer for each runbook that says when it is due
    Install(InstallArgs),
    /// Compare what is installed with the plan
    Show(PlaceArgs),
    /// Remove what install has written
    Remove(PlaceArgs),
}

#[derive(clap::Args)]
struct InstallArgs {
    /// Write nothing; print what would be written
    #[arg(long, conflicts_with = "enable")]
    print: bool,
    /// Enable and start the timers; without it they are only written
    #[arg(long)]
    enable: bool,
    /// Print lines for cron, also where systemd is
    #[arg(long, conflicts_with_all = ["print", "enable", "directory"])]
    cron: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(clap::Args)]
struct PlaceArgs {
    /// Where the units lie [default: /etc/systemd/system for root, else those of the user]
    #[arg(long, value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    directory: Option<PathBuf>,
}

impl PlaceArgs {
    fn path(&self) -> Result<PathBuf, CommandError> {
        self.directory.clone().or_else(env::units_dir).ok_or_else(|| {
            CommandError::new(Exit::Failed, "there is no home directory to write units in")
                .next("give --directory DIRECTORY")
        })
    }
}

/// Runs the command.
///
/// # Errors
/// If units cannot be written, read or removed.
pub fn run(args: &ScheduleArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    match &args.action {
        Action::Install(args) => install(args, &plan, context),
        Action::Show(args) => show(&args.path()?, &plan, context),
        Action::Remove(args) => remove(&args.path()?, &plan, context),
    }
}

fn wanted(plan: &Plan, context: &Context) -> Result<Vec<Timer>, CommandError> {
    let program = env::program().map_err(|e| CommandError::of(Exit::Failed, &e))?;
    let mut environment: Vec<(String, OsString)> = Vec::new();
    // a unit of the system has no home directory to find them in
    environment
        .extend(context.key_path().ok().map(|path| (env::WRITER_KEY.to_owned(), path.into_os_string())));
    environment.extend(env::state_dir().map(|path| (env::STATE_DIR.to_owned(), path.into_os_string())));
    let install = Install { program: program.into_os_string(), globals: globals(plan, context), environment };
    timers(plan, &install).map_err(|why| CommandError::usage(why).next("change the plan"))
}

fn install(args: &InstallArgs, plan: &Plan, context: &Context) -> Result<Exit, CommandError> {
    let timers = wanted(plan, context)?;
    if timers.is_empty() {
        return Err(CommandError::usage("no runbook of the plan says when it is due")
            .next("give one a schedule, such as schedule = \"Sun 03:00\", or every"));
    }
    let has_systemd = Path::new(BOOTED).is_dir() || args.place.directory.is_some();
    if args.cron || !has_systemd && !args.print {
        return cron(&timers, context);
    }
    let units: Vec<&Unit> = timers.iter().flat_map(|timer| &timer.units).collect();
    let directory = args.place.path()?;
    if args.print {
        return print(&units, &directory, context);
    }
    for unit in &units {
        write(&directory.join(&unit.name), &unit.text)?;
        context.say(format!("wrote {}", shown(&directory.join(&unit.name))));
    }
    let names: Vec<String> = timers.iter().map(|timer| timer.units[1].name.clone()).collect();
    if args.enable {
        enable(&names, context)?;
    } else {
        let user = if rustix::process::geteuid().is_root() { "" } else { " --user" };
        context.say(format!(
            "nothing is enabled yet; to do so:\n  systemctl{user} daemon-reload\n  systemctl{user} enable --now {}",
            names.join(" ")
        ));
    }
    left_over(&directory, plan, &units, context)?;
    if context.json() {
        let written: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
        let directory = Name::from(directory.as_os_str());
        context.document(&json!({"directory": directory, "written": written, "enabled": if args.enable { names } else { Vec::new() }}))?;
    }
    Ok(Exit::Done)
}

fn print(units: &[&Unit], directory: &Path, context: &Context) -> Result<Exit, CommandError> {
    if context.json() {
        let units: Vec<_> = units.iter().map(|unit| json!({"name": unit.name, "text": unit.text})).collect();
        context.document(&json!({"directory": Name::from(directory.as_os_str()), "units": units}))?;
    } else {
        let text: String = units
            .iter()
            .map(|unit| format!("==> {} <==\n{}\n", shown(&directory.join(&unit.name)), unit.text))
            .collect();
        context.print(&text)?;
    }
    Ok(Exit::Done)
}

fn cron(timers: &[Timer], context: &Context) -> Result<Exit, CommandError> {
    if context.json() {
        let lines: Vec<_> = timers.iter().map(|t| json!({"runbook": t.runbook, "line": t.cron})).collect();
        context.document(&json!({ "cron": lines }))?;
    } else {
        context.say("add these lines with crontab -e (systemd is not at work here, or cron was asked for):");
        context.print(&timers.iter().map(|timer| format!("{}\n", timer.cron)).collect::<String>())?;
    }
    Ok(Exit::Done)
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    let failed = |error: io::Error| {
        CommandError::new(Exit::Failed, format!("could not write {}: {error}", shown(path)))
            .next("run as root, or give --directory DIRECTORY")
    };
    match fs::read_to_string(path) {
        Ok(old) if !old.starts_with(MARK) => {
            let text = format!("{} is there, and lifeboat did not write it", shown(path));
            return Err(CommandError::new(Exit::Failed, text).next("move it away first"));
        }
        _ => {}
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(failed)?;
    let staged = path.with_extension("lifeboat-new");
    fs::write(&staged, text).and_then(|()| fs::rename(&staged, path)).map_err(failed)
}

fn systemctl(words: &[&str], context: &Context) -> Result<(), CommandError> {
    let mut line = vec![OsString::from("systemctl")];
    if !rustix::process::geteuid().is_root() {
        line.push("--user".into());
    }
    line.extend(words.iter().map(OsString::from));
    let said = line.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    context.say(&said);
    let run = Run { limit: Some(Duration::from_secs(60)), merge: true, ..Run::new(Program::Argv(line)) };
    match run.run(&|| false) {
        Ok(ended) if ended.is_success() => Ok(()),
        Ok(ended) => {
            let why = String::from_utf8_lossy(&ended.stdout.last_lines(3)).trim().to_owned();
            Err(CommandError::new(Exit::Failed, format!("{said} {}: {why}", ended.how()))
                .next("the units are written; enable them by hand when systemd is at work"))
        }
        Err(error) => Err(CommandError::new(Exit::Failed, format!("{said} could not be started: {error}"))
            .next("the units are written; enable them by hand when systemd is at work")),
    }
}

fn enable(names: &[String], context: &Context) -> Result<(), CommandError> {
    systemctl(&["daemon-reload"], context)?;
    let mut words = vec!["enable", "--now"];
    words.extend(names.iter().map(String::as_str));
    systemctl(&words, context)
}

// Units of this application that lifeboat wrote, whatever the plan says now.
fn installed(directory: &Path, plan: &Plan) -> Result<Vec<Unit>, CommandError> {
    let failed = |error: io::Error| {
        CommandError::new(Exit::Failed, format!("could not read {}: {error}", shown(directory)))
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let prefix = prefix(plan);
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_ours = name.starts_with(&prefix) && (name.ends_with(".service") || name.ends_with(".timer"));
        if !is_ours {
            continue;
        }
        let text = fs::read_to_string(entry.path()).map_err(failed)?;
        if text.starts_with(MARK) && of_this_plan(&text, plan) {
            found.push(Unit { name, text });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

// `aura` and `aura-test` begin alike, so the plan is what tells their services apart; a timer goes with its service.
fn of_this_plan(text: &str, plan: &Plan) -> bool {
    let is_timer = !text.contains("\n[Service]\n");
    let directory = plan.directory().to_string_lossy().replace('%', "%%");
    is_timer || text.contains(&format!("\nWorkingDirectory={directory}\n"))
}

fn left_over(directory: &Path, plan: &Plan, units: &[&Unit], context: &Context) -> Result<(), CommandError> {
    for old in services_and_their_timers(installed(directory, plan)?) {
        if !units.iter().any(|unit| unit.name == old.name) {
            context.warn(
                "unit-left-over",
                &format!("{} is of no runbook of the plan any more; lifeboat schedule remove, then install, takes it away", old.name),
            );
        }
    }
    Ok(())
}

// A timer without a service of this plan is of another plan whose name begins alike.
fn services_and_their_timers(units: Vec<Unit>) -> Vec<Unit> {
    let services: Vec<String> =
        units.iter().filter_map(|unit| unit.name.strip_suffix(".service").map(str::to_owned)).collect();
    let is_ours = |unit: &Unit| {
        unit.name.strip_suffix(".timer").is_none_or(|base| services.iter().any(|service| service == base))
    };
    units.into_iter().filter(is_ours).collect()
}

#[derive(Serialize)]
struct Row {
    unit: String,
    state: &'static str,
}

fn show(directory: &Path, plan: &Plan, context: &Context) -> Result<Exit, CommandError> {
    let timers = wanted(plan, context)?;
    let found = services_and_their_timers(installed(directory, plan)?);
    let mut rows = Vec::new();
    for unit in timers.iter().flat_map(|timer| &timer.units) {
        let state = match found.iter().find(|other| other.name == unit.name) {
            None => "not installed",
            Some(other) if other.text == unit.text => "installed",
            Some(_) => "differs from the plan",
        };
        rows.push(Row { unit: unit.name.clone(), state });
    }
    for old in found.iter().filter(|old| !rows.iter().any(|row| row.unit == old.name)).collect::<Vec<_>>() {
        rows.push(Row { unit: old.name.clone(), state: "of no runbook any more" });
    }
    if context.json() {
        context.document(&json!({"directory": Name::from(directory.as_os_str()), "units": rows}))?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        context.say("no runbook of the plan says when it is due");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[("unit", Kind::Text), ("state", Kind::Word)]);
    rows.iter().for_each(|row| table.row([row.unit.as_str(), row.state]));
    context.print(&table.render(context.width()))?;
    context.say(format!("in {}", shown(directory)));
    Ok(Exit::Done)
}

fn remove(directory: &Path, plan: &Plan, context: &Context) -> Result<Exit, CommandError> {
    let found = services_and_their_timers(installed(directory, plan)?);
    let has_systemd = Path::new(BOOTED).is_dir();
    let timers: Vec<&str> =
        found.iter().map(|unit| unit.name.as_str()).filter(|name| name.ends_with(".timer")).collect();
    if has_systemd && !timers.is_empty() {
        let mut words = vec!["disable", "--now"];
        words.extend(&timers);
        if let Err(error) = systemctl(&words, context) {
            context.warn("not-disabled", error.message());
        }
    }
    for unit in &found {
        let path = directory.join(&unit.name);
        fs::remove_file(&path).map_err(|error| {
            CommandError::new(Exit::Failed, format!("could not remove {}: {error}", shown(&path)))
        })?;
        context.say(format!("removed {}", shown(&path)));
    }
    if has_systemd
        && !found.is_empty()
        && let Err(error) = systemctl(&["daemon-reload"], context)
    {
        context.warn("not-reloaded", error.message());
    }
    if context.json() {
        let removed: Vec<&str> = found.iter().map(|unit| unit.name.as_str()).collect();
        context.document(&json!({ "removed": removed }))?;
    } else if found.is_empty() {
        context.say(format!("lifeboat has written no unit of this application in {}", shown(directory)));
    }
    Ok(Exit::Done)
}

fn shown(path: &Path) -> String {
    Name::from(path.as_os_str()).shown()
}
