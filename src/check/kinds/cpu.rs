//! `cpu`: use of the processors over a while.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::super::config::Cpu;
use super::super::run::Context;
use super::super::value::{Amount, Subject};
use super::super::verdict::Found;
use super::disk::percent;
use crate::sys::process_tree::stat;

// USER_HZ: what the kernel counts by towards programs, on every processor Rust runs on.
const TICKS_A_SECOND: f64 = 100.0;

pub fn look(check: &Cpu, limit: Duration, context: &Context) -> Found {
    let Amount::Percent(most) = check.max else { return Found::error("use of the processors is a share") };
    // what is left of the time is for finding the process
    let over = check.over.0.min(limit).max(Duration::from_millis(10));
    let used = match &check.cpu {
        Subject::System => system(over),
        subject => match super::subject::find(subject, limit, context) {
            Err(found) => return found,
            Ok(before) => {
                let began = Instant::now();
                sleep(over);
                match stat(before.member.pid).filter(|after| after.member == before.member) {
                    None => return Found::fail(format!("process {} ended meanwhile", before.member.pid)),
                    Some(after) => {
                        let ticks = after.ticks.saturating_sub(before.ticks) as f64;
                        Some(ticks * 100.0 / TICKS_A_SECOND / began.elapsed().as_secs_f64())
                    }
                }
            }
        },
    };
    let Some(used) = used else { return Found::error("/proc/stat does not say how busy the processors are") };
    let seen = format!("{used:.1} % in use");
    let expected = format!("at most {most} %");
    if used > most { Found::fail(format!("{seen}, expected {expected}")) } else { Found::pass(seen.clone()) }
        .saw(seen)
        .expected(expected)
}

fn system(over: Duration) -> Option<f64> {
    let (busy, all) = times()?;
    sleep(over);
    let (busy_after, all_after) = times()?;
    Some(percent(busy_after.saturating_sub(busy), all_after.saturating_sub(all)))
}

// Busy and all ticks of all processors: proc(5), the line `cpu` of /proc/stat.
fn times() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    // guest time is counted in user time already
    let fields: Vec<u64> =
        line.split_ascii_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
    let all = fields.iter().sum::<u64>();
    let idle = fields.get(3)? + fields.get(4)?;
    Some((all.saturating_sub(idle), all))
}
