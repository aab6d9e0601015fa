//! `validate` and `show-config`: what the plan says, and whether it can be read.

use std::ffi::OsString;

use serde::Serialize;
use serde_json::{Value, json};

use super::snapshot::DUMP;
use crate::base::name::{Name, shown};
use crate::base::{Exit, size};
use crate::cli::command_line;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, safe};
use crate::cli::json::object;
use crate::cli::table::{Kind, Table};
use crate::plan::{self, DatabaseKind, Operation, Plan, PlanError, Problem};
use crate::runbook::arguments;
use crate::snapshot::{Options, Unsaved, unsaved};
use crate::sys::names::user_with_groups;
use crate::tree::exclude;

/// Check that the plan can be read
///
/// Unknown keys, wrong values and names that lead nowhere are told with file, line and column, and so are
/// steps of runbooks whose words no command takes. What this version does not
/// do, and databases that no snapshot would hold, are warnings. Nothing is run.
#[derive(clap::Args)]
pub struct ValidateArgs {
    /// Print the JSON Schema of a plan instead, for editors
    #[arg(long)]
    schema: bool,
}

/// Runs the command.
///
/// # Errors
/// If the plan is wrong.
pub fn run(args: &ValidateArgs, context: &Context) -> Result<Exit, CommandError> {
    if args.schema {
        let text =
            serde_json::to_string_pretty(&plan::schema()).map_err(|e| CommandError::output(e.into()))?;
        context.print(&(text + "\n"))?;
        return Ok(Exit::Done);
    }
    let plan = match context.load_plan().and_then(with_good_steps) {
        Err(PlanError::Wrong { path, problems }) if context.json() => {
            let file = Name::from(path.as_os_str());
            context.document(&object! {"file": file, "valid": false, "problems": as_json(&problems)})?;
            return Ok(Exit::Usage);
        }
        other => other?,
    };
    let file = Name::from(plan.file().as_os_str());
    let Found { missing, warnings } = look(&plan);
    if context.json() {
        context.document(&object! {
            "file": file,
            "valid": true,
            "problems": [] as [(); 0],
            "warnings": as_json(&warnings),
            "not_here": missing,
        })?;
        return Ok(Exit::Done);
    }
    for text in &missing {
        context.warn("not-here", text);
    }
    for warning in &warnings {
        context.warn("plan", &said(warning, &file));
    }
    let count = |number: usize, noun| size::plural(number as u64, noun);
    context.print(&format!(
        "{} is a {} for {}: {}, {}, {}\n",
        file.shown(),
        match warnings.len() + missing.len() {
            0 => "good plan".to_owned(),
            some => format!("plan with {}", count(some, "warning")),
        },
        shown(plan.name().as_bytes()),
        count(plan.check.len(), "check"),
        count(plan.database.len(), "database"),
        count(plan.runbook.len(), "runbook"),
    ))?;
    Ok(Exit::Done)
}

// By the parser that will read them when their runbook is run.
fn with_good_steps(plan: Plan) -> Result<Plan, PlanError> {
    let mut problems = Vec::new();
    let lists = plan.runbook.iter().map(|(name, runbook)| (format!("runbook.{name}.steps"), &runbook.steps));
    let maintenance = [("begin", &plan.maintenance.begin), ("end", &plan.maintenance.end)];
    let maintenance = maintenance.map(|(key, steps)| (format!("maintenance.{key}"), steps));
    for (path, steps) in lists.chain(maintenance) {
        for (i, step) in steps.iter().enumerate() {
            let Operation::Lifeboat(words) = &step.operation else { continue };
            let Err(error) = parsed(&arguments(words)) else { continue };
            let (what, _) = error.split_once("\n\n").unwrap_or((&error, ""));
            let what = what.lines().map(str::trim).collect::<Vec<_>>().join(" ");
            problems.push(Problem {
                place: plan.place(&format!("{path}[{i}]")),
                message: format!(
                    "the step `{}` cannot be run: {what}",
                    shown(step.operation.to_string().as_bytes())
                ),
                hint: Some(format!("lifeboat {} --help lists what there is", words[0])),
            });
        }
    }
    problems.sort_by_key(|problem| problem.place.map(|place| (place.line, place.column)));
    if problems.is_empty() {
        Ok(plan)
    } else {
        Err(PlanError::Wrong { path: plan.file().to_owned(), problems })
    }
}

// What the parser says if it does not take these words.
fn parsed(words: &[OsString]) -> Result<(), String> {
    let line = std::iter::once(OsString::from("lifeboat")).chain(words.iter().cloned());
    match command_line().try_get_matches_from(line) {
        Ok(_) => Ok(()),
        // help and version are words that it takes
        Err(error) if !error.use_stderr() => Ok(()),
        Err(error) => Err(safe(error.render().to_string().trim_start_matches("error: "))),
    }
}

fn as_json(problems: &[Problem]) -> Vec<Value> {
    let one = |p: &Problem| {
        let (line, column) = (p.place.map(|at| at.line), p.place.map(|at| at.column));
        json!({"line": line, "column": column, "message": p.message, "hint": p.hint})
    };
    problems.iter().map(one).collect()
}

fn said(warning: &Problem, file: &Name) -> String {
    let place = warning.place.map(|at| format!(":{}:{}", at.line, at.column)).unwrap_or_default();
    let hint = warning.hint.as_ref().map(|hint| format!("\n  next: {hint}")).unwrap_or_default();
    format!("{}{place}: {}{hint}", file.shown(), warning.message)
}

/// What a plan that can be read does not do.
#[derive(Default)]
struct Found {
    /// What it names and this host has not: no fault of the plan, which may be written for another.
    missing: Vec<String>,
    /// What it asks for and will not get.
    warnings: Vec<Problem>,
}

fn look(plan: &Plan) -> Found {
    let mut found = Found::default();
    let root = plan.root();
    if !root.is_dir() {
        found
            .missing
            .push(format!("app.root: {} is no directory of this host", Name::from(root.as_os_str()).shown()));
    }
    if let Some(user) = plan.app.user.as_deref().filter(|user| user_with_groups(user).is_none()) {
        found.missing.push(format!("app.user: this host knows no user {}", shown(user.as_bytes())));
    }
    databases(plan, &mut found);
    if !plan.repository.replicas.is_empty() {
        found.warnings.push(Problem {
            place: plan.place("repository.replicas"),
            message:
                "this version does not copy snapshots to replicas: it only compares them, in lifeboat status"
                    .to_owned(),
            hint: Some("copy the repository after each snapshot by other means, such as rsync -a".to_owned()),
        });
    }
    found
}

// A snapshot by this plan would not hold them, or be refused.
fn databases(plan: &Plan, found: &mut Found) {
    let patterns = plan.app.exclude.clone();
    let excludes = exclude::Options { patterns, ..exclude::Options::default() };
    let options = Options { roots: vec![plan.root()], excludes, ..Options::default() };
    for (i, database) in plan.database.iter().enumerate() {
        let warning = |key: &str, message: String, hint: &str| Problem {
            place: plan.place(&format!("database[{i}].{key}")),
            message,
            hint: Some(hint.to_owned()),
        };
        if database.kind != DatabaseKind::Sqlite {
            let message = format!("this version cannot save {}", database.shown_name());
            let message =
                format!("{message}, and takes no snapshot by this plan: it saves files and SQLite databases");
            found.warnings.push(warning("kind", message, DUMP));
            continue;
        }
        let Some(path) = &database.path else { continue };
        let (whole, named) = (plan.path(path), shown(path.as_bytes()));
        match unsaved(&whole, &options) {
            Ok(None) => {}
            Ok(Some(why @ (Unsaved::Missing | Unsaved::Unreadable(_)))) => {
                let whole = Name::from(whole.as_os_str()).shown();
                found.missing.push(format!("database[{i}].path: {whole}: {why}"));
            }
            // of a tree that is not here nothing can be said
            Ok(Some(Unsaved::Outside)) if !plan.root().is_dir() => {}
            Ok(Some(why)) => {
                let message = format!("no snapshot will hold the database {named}: {why}");
                found.warnings.push(warning("path", message, why.next()));
            }
            Err(error) => found.warnings.push(Problem {
                place: plan.place("app.exclude"),
                message: error.to_string(),
                hint: Some(error.next().to_owned()),
            }),
        }
    }
}

/// Show every setting and where it comes from
///
/// Where a setting can be given in several ways, a flag goes before a variable of the environment, and that
/// before the plan. Values that are secrets are not shown.
#[derive(clap::Args)]
pub struct ShowConfigArgs {}

/// A setting. Fields are added, never renamed.
#[derive(Serialize)]
struct Setting {
    key: String,
    value: Value,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

/// Runs the command.
///
/// # Errors
/// If the plan is wrong, or there is none.
pub fn show_config(_: &ShowConfigArgs, context: &Context) -> Result<Exit, CommandError> {
    let plan = context.plan()?;
    let settings = settings(&plan, context)?;
    if context.json() {
        context.document(&object! {"file": Name::from(plan.file().as_os_str()), "settings": settings})?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[("key", Kind::Text), ("value", Kind::Text), ("from", Kind::Text)]);
    for setting in &settings {
        let value = match &setting.value {
            Value::Null => "-".to_owned(),
            other => shown(other.to_string().as_bytes()).replace("\\\\", "\\"),
        };
        let from = match setting.line {
            Some(line) => format!("{}:{line}", setting.source),
            None => setting.source.clone(),
        };
        table.row([&shown(setting.key.as_bytes()), &value, &from]);
    }
    context.print(&table.render(context.width()))?;
    Ok(Exit::Done)
}

fn settings(plan: &Plan, context: &Context) -> Result<Vec<Setting>, CommandError> {
    let file = plan.file().file_name().map(|name| Name::from(name).shown()).unwrap_or_default();
    let whole = serde_json::to_value(plan).map_err(|e| CommandError::output(e.into()))?;
    let mut leaves = Vec::new();
    walk(&whole, String::new(), &mut leaves);
    let mut found: Vec<Setting> = leaves
        .into_iter()
        .map(|(key, value)| {
            let place = plan.origin(&key);
            let source = if place.is_some() { file.clone() } else { "default".to_owned() };
            let value = if is_secret(&key) { "(not shown)".into() } else { value };
            Setting { key, value, source, line: place.map(|place| place.line) }
        })
        .collect();
    if let Some((location, source)) = context.location_source() {
        found.retain(|setting| setting.key != "repository.location");
        let value = Value::String(Name::from(location).shown());
        let setting =
            Setting { key: "repository.location".to_owned(), value, source: source.to_owned(), line: None };
        let at =
            found.iter().position(|setting| setting.key.starts_with("repository")).unwrap_or(found.len());
        found.insert(at, setting);
    }
    Ok(found)
}

fn walk(value: &Value, path: String, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(value, path, found);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for (i, value) in list.iter().enumerate() {
                walk(value, format!("{path}[{i}]"), found);
            }
        }
        Value::Object(_) if path.is_empty() => {}
        leaf => found.push((path, leaf.clone())),
    }
}

// URLs of webhooks carry their key, and so do some variables and headers.
fn is_secret(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or_default();
    if key.starts_with("notify[") {
        return matches!(last, "webhook" | "ping");
    }
    let upper = last.to_ascii_uppercase();
    let is_named = ["PASS", "SECRET", "TOKEN", "KEY", "AUTH", "COOKIE", "CREDENTIAL"]
        .iter()
        .any(|word| upper.contains(word));
    is_named && (key.contains("environment.") || key.contains("headers."))
}
