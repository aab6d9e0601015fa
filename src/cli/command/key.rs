//! `key`: who may write.

use serde_json::json;

use super::init::comment;
use crate::base::Exit;
use crate::base::name::Name;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::cli::json::object;
use crate::cli::table::{Kind, Table};
use crate::repo::keys::WriterKey;
use crate::store::{Key, Published};

/// List the writers' keys, or let this host write
#[derive(clap::Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the keys whose snapshots the repository believes
    List,
    /// Let this host write: put its public key into the repository, making a key where there is none
    Add,
}

/// Runs the command.
///
/// # Errors
/// If the keys cannot be read or written.
pub fn run(args: &KeyArgs, context: &Context) -> Result<Exit, CommandError> {
    match args.action {
        Action::List => list(context),
        Action::Add => add(context),
    }
}

fn list(context: &Context) -> Result<Exit, CommandError> {
    let writers = context.open_repo()?.writers()?;
    // a host that only reads has no key
    let mine = context.key_path().ok().and_then(|path| WriterKey::load(&path).ok());
    let is_mine = |hash: &str| mine.as_ref().is_some_and(|key| key.public().file_hash() == hash);
    if context.json() {
        let keys: Vec<_> = writers
            .iter()
            .map(|key| json!({"writer": key.writer_name(), "fingerprint": key.fingerprint(), "mine": is_mine(&key.file_hash())}))
            .collect();
        context.document(&json!({"keys": keys}))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[("writer", Kind::Word), ("fingerprint", Kind::Word), ("", Kind::Text)]);
    for key in &writers {
        let mark = if is_mine(&key.file_hash()) { "this host" } else { "" };
        table.row([key.writer_name(), key.fingerprint(), mark.to_owned()]);
    }
    context.print(&table.render(context.width()))?;
    Ok(Exit::Done)
}

fn add(context: &Context) -> Result<Exit, CommandError> {
    let repo = context.open_repo()?;
    let path = context.key_path()?;
    let key = WriterKey::load_or_create(&path, &comment())?;
    let public = key.public();
    let published = repo.store().create(&Key::writer(&public.file_hash()), public.file_bytes())?;
    repo.store().sync()?;
    let added = published == Published::Created;
    if added {
        let body = json!({"added": public.writer_name(), "fingerprint": public.fingerprint()});
        context.record(&repo, &key, "key", body);
    }
    if context.json() {
        let path = Name::from(path.as_os_str());
        context.document(&object! {
            "added": added,
            "writer": public.writer_name(),
            "fingerprint": public.fingerprint(),
            "key": path,
        })?;
        return Ok(Exit::Done);
    }
    context.print(&format!("{}\n", public.fingerprint()))?;
    let shown = Name::from(path.as_os_str()).shown();
    context.say(if added {
        format!("added; the key is in {shown}: keep it safe and secret")
    } else {
        "the repository has this key already".to_owned()
    });
    Ok(Exit::Done)
}
