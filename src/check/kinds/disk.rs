//! `disk`: room on a file system.

use super::super::config::Disk;
use super::super::run::Context;
use super::super::value::Amount;
use super::super::verdict::Found;
use crate::base::size;
use crate::sys::space::space;

pub fn look(check: &Disk, context: &Context) -> Found {
    let path = context.path(&check.disk);
    let room = match space(&path) {
        Ok(room) => room,
        Err(error) => return super::of_io(&path, &error),
    };
    let mut seen = Vec::new();
    let mut wanted = Vec::new();
    let mut short = Vec::new();
    if let Some(least) = check.min_free {
        let share = percent(room.free_bytes, room.total_bytes);
        let text = format!("{share:.1} % ({}) free", size::bytes(room.free_bytes));
        let (is_enough, least) = match least {
            Amount::Percent(least) => (share >= least, format!("{least} % free")),
            Amount::Number(least) => (room.free_bytes >= least, format!("{} free", size::bytes(least))),
        };
        short.extend((!is_enough).then(|| format!("{text}, less than {least}")));
        seen.push(text);
        wanted.push(least);
    }
    // no file system without a limit runs out of files
    if let Some(least) = check.min_inodes.filter(|_| room.total_inodes > 0) {
        let share = percent(room.free_inodes, room.total_inodes);
        let text = format!("{share:.1} % ({}) of the inodes free", size::count(room.free_inodes));
        let (is_enough, least) = match least {
            Amount::Percent(least) => (share >= least, format!("{least} % of the inodes free")),
            Amount::Number(least) => {
                (room.free_inodes >= least, format!("{} inodes free", size::count(least)))
            }
        };
        short.extend((!is_enough).then(|| format!("{text}, less than {least}")));
        seen.push(text);
        wanted.push(least);
    }
    let (seen, wanted) = (seen.join(", "), wanted.join(", "));
    if short.is_empty() { Found::pass(seen.clone()) } else { Found::fail(short.join("; ")) }
        .saw(seen)
        .expected(format!("at least {wanted}"))
}

/// A share in percent; 0 of nothing.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}
