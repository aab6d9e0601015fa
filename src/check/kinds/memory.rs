//! `memory`: in use by the system or a process.

use std::time::Duration;

use super::super::config::Memory;
use super::super::run::Context;
use super::super::value::{Amount, Subject};
use super::super::verdict::Found;
use super::disk::percent;
use crate::base::size;

pub fn look(check: &Memory, limit: Duration, context: &Context) -> Found {
    let (Some(total), Some(available)) =
        (field("/proc/meminfo", "MemTotal:"), field("/proc/meminfo", "MemAvailable:"))
    else {
        return Found::error("/proc/meminfo does not say how much memory there is");
    };
    let used = match &check.memory {
        Subject::System => total.saturating_sub(available),
        subject => match super::subject::find(subject, limit, context) {
            Err(found) => return found,
            Ok(stat) => match field(&format!("/proc/{}/status", stat.member.pid), "VmRSS:") {
                Some(used) => used,
                None => {
                    return Found::error(format!("process {} does not say what it uses", stat.member.pid));
                }
            },
        },
    };
    let seen = format!(
        "{} ({:.1} %) in use, {} available",
        size::bytes(used),
        percent(used, total),
        size::bytes(available)
    );
    let mut wanted = Vec::new();
    let mut wrong = false;
    if let Some(most) = check.max {
        wrong |= used > bytes(most, total);
        wanted.push(format!("at most {} in use", words(most)));
    }
    if let Some(least) = check.min_free {
        wrong |= available < bytes(least, total);
        wanted.push(format!("at least {} available", words(least)));
    }
    let wanted = wanted.join(", ");
    if wrong { Found::fail(format!("{seen}, expected {wanted}")) } else { Found::pass(seen.clone()) }
        .saw(seen)
        .expected(wanted)
}

fn bytes(amount: Amount, total: u64) -> u64 {
    match amount {
        Amount::Percent(share) => (total as f64 * share / 100.0) as u64,
        Amount::Number(bytes) => bytes,
    }
}

fn words(amount: Amount) -> String {
    match amount {
        Amount::Percent(share) => format!("{share} %"),
        Amount::Number(bytes) => size::bytes(bytes),
    }
}

// A line such as `MemTotal:  16384 kB`, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}
