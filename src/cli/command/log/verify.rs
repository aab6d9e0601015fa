//! `log verify`: every record, every link of the chains, every signature.

use std::collections::BTreeMap;

use serde_json::json;

use crate::base::Exit;
use crate::base::id::RecordId;
use crate::base::name::shown;
use crate::base::size;
use crate::cli::context::Context;
use crate::cli::error::CommandError;
use crate::logbook::{self, Fault, Logbook};
use crate::repo::Repo;
use crate::repo::documents::Snapshot;

/// Check that no record was altered, removed, reordered or put in
///
/// Checks the hash, the signature and the place of every record, and that every record which a snapshot names is
/// there. Whoever holds the writer's key and the repository can write a new chain from any point on; against that, keep
/// the head somewhere else and give it back with --head.
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// A head noted earlier, which must still be there
    #[arg(long = "head", value_name = "HASH")]
    heads: Vec<String>,
}

/// Something wrong, for people and programs.
struct Wrong {
    notice: bool,
    writer: String,
    sequence: Option<u64>,
    object: Option<String>,
    text: String,
}

struct Head {
    writer: String,
    fingerprint: Option<String>,
    records: u64,
    id: RecordId,
    signed: bool,
}

/// Runs the command.
///
/// # Errors
/// If the logbook cannot be read.
pub fn run(args: &VerifyArgs, context: &Context) -> Result<Exit, CommandError> {
    let noted = args.heads.iter().map(|text| noted(text)).collect::<Result<Vec<_>, _>>()?;
    let repo = context.open_repo()?;
    let logbook = logbook::read(&repo)?;
    let snapshots = context.snapshots(&repo)?;
    let mut wrong: Vec<Wrong> = logbook::verify_chain(&logbook).iter().map(of_fault).collect();
    wrong.extend(witnessed(&logbook, &snapshots, &noted));
    // the end of a chain that was cut off: only who has seen it knows
    let cuts = context.older().map(|older| older.records.as_slice()).unwrap_or_default();
    wrong.extend(cuts.iter().map(|cut| Wrong {
        notice: false,
        writer: cut.writer.clone(),
        sequence: Some(cut.sequence),
        object: Some(cut.id.to_hex()),
        text: "it is missing, with all that followed it; this host has seen it".to_owned(),
    }));
    wrong.extend(logbook.strange.iter().map(|key| Wrong {
        notice: true,
        writer: String::new(),
        sequence: None,
        object: Some(key.as_str().to_owned()),
        text: "no record has such a name".to_owned(),
    }));
    let heads = heads(&repo, &logbook)?;
    if context.json() {
        context.document(&answer(&heads, &wrong, &logbook))?;
    } else {
        context.print(&text(&heads, &wrong))?;
    }
    Ok(if wrong.iter().all(|one| one.notice) { Exit::Done } else { Exit::Damage })
}

fn noted(text: &str) -> Result<RecordId, CommandError> {
    RecordId::from_hex(text).map_err(|error| {
        CommandError::usage(format!("{} is no head: {error}", shown(text.as_bytes())))
            .next("give all 64 digits, as lifeboat log verify printed them")
    })
}

fn of_fault(fault: &Fault) -> Wrong {
    Wrong {
        // what a crash or two commands at once leave behind
        notice: fault.kind.is_notice(),
        writer: fault.writer.clone(),
        sequence: Some(fault.sequence),
        object: fault.key.as_ref().map(|key| key.as_str().to_owned()),
        text: fault.kind.meaning().to_owned(),
    }
}

// What the end of a chain cannot show by itself: that there was more of it.
fn witnessed<'a>(
    logbook: &'a Logbook,
    snapshots: &'a [Snapshot],
    noted: &'a [RecordId],
) -> impl Iterator<Item = Wrong> + 'a {
    let named = snapshots.iter().filter_map(|snapshot| {
        let id = snapshot.document.logbook?;
        Some((id, format!("it is missing; snapshot {} names it", snapshot.id.short())))
    });
    let noted = noted.iter().map(|id| (*id, "it is missing; it was the head once".to_owned()));
    let mut all: BTreeMap<RecordId, String> = named.chain(noted).collect();
    all.retain(|id, _| logbook.records.iter().all(|logged| logged.id != *id));
    all.into_iter().map(|(id, text)| Wrong {
        notice: false,
        writer: String::new(),
        sequence: None,
        object: Some(id.to_hex()),
        text,
    })
}

fn heads(repo: &Repo, logbook: &Logbook) -> Result<Vec<Head>, CommandError> {
    let writers = repo.writers()?;
    let mut heads: BTreeMap<&str, Head> = BTreeMap::new();
    for logged in &logbook.records {
        let key = writers.iter().find(|key| key.writer_name() == logged.writer);
        let records = heads.get(logged.writer.as_str()).map_or(0, |head| head.records) + 1;
        let head = Head {
            writer: logged.writer.clone(),
            fingerprint: key.map(|key| key.fingerprint()),
            records,
            id: logged.id,
            signed: logged.fault.is_none(),
        };
        // they come by number: the last one stays
        heads.insert(&logged.writer, head);
    }
    Ok(heads.into_values().collect())
}

fn answer(heads: &[Head], wrong: &[Wrong], logbook: &Logbook) -> serde_json::Value {
    let heads = heads.iter().map(|head| {
        json!({
            "writer": head.writer,
            "fingerprint": head.fingerprint,
            "records": head.records,
            "head": head.id,
            "signature": if head.signed { "good" } else { "bad" },
        })
    });
    let problems = wrong.iter().map(|one| {
        json!({
            "severity": if one.notice { "notice" } else { "damage" },
            "writer": one.writer,
            "sequence": one.sequence,
            "object": one.object,
            "text": one.text,
        })
    });
    json!({
        "whole": wrong.iter().all(|one| one.notice),
        "records": logbook.records.len(),
        "heads": heads.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
    })
}

fn text(heads: &[Head], wrong: &[Wrong]) -> String {
    let mut text = String::new();
    for one in wrong {
        let place = one.sequence.map(|number| format!("record {number} of writer {}", one.writer));
        let object = one.object.as_deref().map(|object| shown(object.as_bytes()));
        let place = match (place, object) {
            (Some(place), Some(object)) => format!("{place} ({object})"),
            (place, object) => place.or(object).unwrap_or_default(),
        };
        let severity = if one.notice { "notice" } else { "DAMAGE" };
        text.push_str(&format!("{severity}: {place}: {}\n", one.text));
    }
    for head in heads {
        let signed = match (&head.fingerprint, head.signed) {
            (Some(fingerprint), true) => format!("signed by {fingerprint}"),
            _ => "its signature or content is not good".to_owned(),
        };
        text.push_str(&format!(
            "writer {}: {}, head {}, {signed}\n",
            head.writer,
            size::plural(head.records, "record"),
            head.id.to_hex(),
        ));
    }
    let damage = wrong.iter().filter(|one| !one.notice).count() as u64;
    text.push_str(&match damage {
        0 => "the logbook is whole\n".to_owned(),
        count => format!("the logbook is not whole: {}\n", size::plural(count, "problem")),
    });
    text
}
