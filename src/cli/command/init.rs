//! `init`: a new repository.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::base::Exit;
use crate::base::name::{Name, shown};
use crate::cli::context::{Context, absolute, whoami};
use crate::cli::env;
use crate::cli::error::CommandError;
use crate::cli::json::object;
use crate::plan;
use crate::repo::keys::WriterKey;
use crate::repo::open;
use crate::store::local::LocalStore;
use crate::store::{Key, Store};

/// Make a repository
///
/// The directory must be empty or not exist. The key that signs this host's snapshots is made too, unless
/// there is one already. With --plan and no repository named, only the plan is written; with --plan a repository that is
/// there already is used as it is. Unless the repository is named by the environment, the plan says where it is.
#[derive(clap::Args)]
pub struct InitArgs {
    /// Also write a first plan for the application in this directory, from what is found there
    #[arg(long, value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    plan: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If there is a repository already, or none can be made.
pub fn run(args: &InitArgs, context: &Context) -> Result<Exit, CommandError> {
    let planned = args.plan.as_deref().map(|directory| first_plan(directory, context)).transpose()?;
    let is_named = context.location_source().is_some()
        || context.load_plan().is_ok_and(|plan| plan.repository.location.is_some());
    if let (Some((path, text)), false) = (&planned, is_named) {
        write_plan(path, text, context)?;
        if context.json() {
            context.document(&object! {"plan": Name::from(path.as_os_str())})?;
        } else {
            context
                .say("no repository was named, so none was made: lifeboat init --repo DIRECTORY makes one");
        }
        return Ok(Exit::Done);
    }
    let location = context.location()?;
    let shown_location = Name::from(location.as_os_str()).shown();
    if LocalStore::open(&location).size(&Key::repository()).is_ok() {
        if let Some((path, text)) = &planned {
            return beside(&location, path, text, context);
        }
        return Err(CommandError::new(Exit::Failed, format!("{shown_location} is a repository already"))
            .next("use it as it is, or name another directory"));
    }
    // the key first: a repository that nobody can write to is of no use
    let key_path = context.key_path()?;
    let key = WriterKey::load_or_create(&key_path, &comment())?;
    let store: Arc<dyn Store> = Arc::new(LocalStore::create(&location)?);
    let config = open::create(&store, key.public(), context.clock())?;
    // what the logbook says of repository.json lets verify notice a change of it
    let repo = context.open_repo()?;
    let digest = crate::verify::config_digest(&repo)?;
    context.record(&repo, &key, "init", json!({ crate::verify::CONFIG_FIELD: digest }));
    drop(repo);
    if let Some((path, text)) = &planned {
        write_plan(path, text, context)?;
    }
    let (fingerprint, key_path) = (key.public().fingerprint(), Name::from(key_path.as_os_str()));
    if context.json() {
        context.document(&object! {
            "id": config.id,
            "location": Name::from(location.as_os_str()),
            "created": config.created,
            "writer": object! {"fingerprint": fingerprint, "key": key_path},
            "plan": planned.as_ref().map(|(path, _)| Name::from(path.as_os_str())),
        })?;
        return Ok(Exit::Done);
    }
    context.print(&format!("{}\n", config.id))?;
    context.say(format!(
        "made repository {} at {shown_location}\n\
         writer key {fingerprint}\n\
         \x20          {}\n\
         Keep that file safe and secret: it signs what this host writes. Reading and restoring need no key.",
        &config.id[..8],
        shown(&key_path.0),
    ));
    Ok(Exit::Done)
}

// The plan for a repository that is there already.
fn beside(location: &Path, path: &Path, text: &str, context: &Context) -> Result<Exit, CommandError> {
    // what cannot be opened is not used
    let repo = context.open_repo()?;
    write_plan(path, text, context)?;
    let location = Name::from(location.as_os_str());
    if context.json() {
        context.document(&object! {
            "id": repo.config().id,
            "location": location,
            "plan": Name::from(path.as_os_str()),
        })?;
    } else {
        context.say(format!("the repository at {} is used as it is", location.shown()));
    }
    Ok(Exit::Done)
}

// Where the repository is, as the plan says it: not where the environment does, which goes before the plan.
fn location_for_plan(directory: &Path, context: &Context) -> Result<Option<String>, CommandError> {
    let is_named = context.location_source().is_some()
        || context.load_plan().is_ok_and(|plan| plan.repository.location.is_some());
    if !is_named {
        return Ok(None);
    }
    let location = context.location()?;
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if location.starts_with(directory) || real(&location).starts_with(real(directory)) {
        let text = format!(
            "the repository {} would lie in the application's tree: whatever takes the tree takes it too",
            Name::from(location.as_os_str()).shown()
        );
        return Err(CommandError::usage(text).next("name a directory outside of the application's"));
    }
    if context.location_source().is_some_and(|(_, source)| source != "--repo") {
        context.say(format!("the plan does not say where the repository is: {} does", env::REPOSITORY));
        return Ok(None);
    }
    // a name that is not UTF-8 cannot stand in a plan
    Ok(location.to_str().map(str::to_owned))
}

// Looked at before anything is made.
fn first_plan(directory: &Path, context: &Context) -> Result<(PathBuf, String), CommandError> {
    let directory = absolute(directory)?;
    let path = directory.join(plan::FILE);
    let shown = |path: &Path| Name::from(path.as_os_str()).shown();
    if !directory.is_dir() {
        let text = format!("{} is not a directory", shown(&directory));
        return Err(CommandError::usage(text).next("name the directory of the application"));
    }
    if path.symlink_metadata().is_ok() {
        let text = format!("{} exists already", shown(&path));
        return Err(
            CommandError::new(Exit::Failed, text).next("leave out --plan; lifeboat validate checks it")
        );
    }
    let location = location_for_plan(&directory, context)?;
    Ok((path, plan::detect(&directory, location.as_deref(), &env::variable)))
}

fn write_plan(path: &Path, text: &str, context: &Context) -> Result<(), CommandError> {
    let shown = Name::from(path.as_os_str()).shown();
    let file = File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    file.map_err(CommandError::io(format!("could not write {shown}")))?;
    context.say(format!("wrote {shown}: look through it"));
    Ok(())
}

/// The comment in a key of this host.
pub fn comment() -> String {
    let (host, user) = whoami();
    format!("{}@{}", user.shown(), host.shown())
}
