//! Copy, then empty: the writer keeps its file and notices nothing.
//!
//! What was copied is taken out of the file's beginning (`COLLAPSE_RANGE`: ext4, xfs) or, where a writer does not append,
//! made a hole there (`PUNCH_HOLE`); what is written meanwhile stays. Blocks are taken whole, so what is left of the last
//! line that was copied is overwritten by blanks. Where neither is possible the file is cut to nothing directly after a
//! last look at its end; the time between is measured and told.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::Instant;

use rustix::fs::{FallocateFlags, OFlags, Timespec, Timestamps, fallocate, fstatvfs, futimens};

use super::place::{Log, Place};
use super::{Moved, Outcome, RotateError, Way};
use crate::sys::writers::writers;

const BUFFER: usize = 1 << 20;

pub fn rotate(place: &Place, log: &Log, name: &[u8], outcome: &mut Outcome) -> Result<(), RotateError> {
    let failed = |act| place.failed(act, &place.name);
    let start = log.start();
    let (aside_name, aside, is_new) = match unfinished(place, log) {
        Some((name, file)) => (name, file, false),
        None => {
            let (staged, file) = place.create_like(log).map_err(failed("make a file beside"))?;
            (staged, file, true)
        }
    };
    let done = empty(place, log, start, (&aside_name, &aside, is_new.then_some(name)), outcome);
    if done.is_err() && is_new {
        // as it was; what has its name already holds lines and stays
        let _ = place.remove(&aside_name);
    }
    if !is_new {
        outcome.set_aside = Some(place.full(&aside_name));
        outcome.notes.push("a rotation that was cut short is finished".to_owned());
    }
    done
}

// What an earlier run copied and did not take out of the log: the newest file set aside, if the log begins with all
// that it holds.
pub fn unfinished(place: &Place, log: &Log) -> Option<(Vec<u8>, File)> {
    let start = log.start();
    let (name, _) = place.rotated().pop()?;
    let file = place.open(&name, OFlags::RDWR).ok()?;
    let size = file.metadata().ok()?.len();
    if name.ends_with(super::name::PACKED) || size == 0 || size > log.len() - start {
        return None;
    }
    let (mut a, mut b) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut at = 0;
    while at < size {
        let now = (size - at).min(BUFFER as u64) as usize;
        file.read_exact_at(&mut a[..now], at).ok()?;
        log.file.read_exact_at(&mut b[..now], start + at).ok()?;
        if a[..now] != b[..now] {
            return None;
        }
        at += now as u64;
    }
    Some((name, file))
}

fn empty(
    place: &Place,
    log: &Log,
    start: u64,
    (staged, aside, name): (&[u8], &File, Option<&[u8]>),
    outcome: &mut Outcome,
) -> Result<(), RotateError> {
    let failed = |act| place.failed(act, &place.name);
    let who = writers(log.metadata.dev(), log.metadata.ino());
    let me = std::process::id().cast_signed();
    let seeks = who.seen.iter().find(|writer| !writer.appends && writer.pid != me);
    let mut copied = start + aside.metadata().map_err(failed("examine"))?.len();
    copy_to(log, aside, start, &mut copied, log.len()).map_err(failed("copy"))?;
    // whole lines; one that is being written is waited for by the next rotation
    let block = fstatvfs(&log.file).map_or(4096, |fs| fs.f_bsize.max(1));
    let whole = end_of_line(log, start, copied).map_err(failed("read"))?;
    if whole > start && (whole < copied) {
        aside.set_len(whole - start).map_err(failed("cut the copy of"))?;
        copied = whole;
    }
    let modified = &log.metadata;
    let time = Timespec { tv_sec: modified.mtime(), tv_nsec: modified.mtime_nsec() as _ };
    let _ = futimens(aside, &Timestamps { last_access: time, last_modification: time });
    aside.sync_all().map_err(failed("sync the copy of"))?;
    if let Some(name) = name {
        place.rename(staged, name).map_err(place.failed("give its name to", name))?;
    }
    place.sync().map_err(failed("sync the directory of"))?;

    let aside_inode = aside.metadata().map_err(failed("examine"))?.ino();
    let mut moved = Moved {
        log: place.path.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&place.name)),
        inode: log.metadata.ino(),
        from: start,
        to: copied,
        taken: 0,
        aside: aside_inode,
    };
    let way = if let Some(writer) = seeks {
        outcome.notes.push(format!(
            "process {} does not append: the file keeps its length, with a hole that takes no room",
            writer.pid
        ));
        punch(log, copied).map(|()| Way::Punched)
    } else {
        collapse(log, copied, block).map(|taken| {
            moved.taken = taken;
            Way::Collapsed
        })
    };
    outcome.way = Some(match way {
        Ok(way) => way,
        Err(_) => {
            let began = Instant::now();
            let mut end = log.len();
            while copied < end {
                copy_to(log, aside, start, &mut copied, end).map_err(failed("copy"))?;
                end = log.len();
            }
            rustix::fs::ftruncate(&log.file, 0).map_err(|error| failed("empty")(error.into()))?;
            // the last look is a part of this; shorter than all of it
            outcome.window = began.elapsed().as_secs_f64();
            aside.sync_all().map_err(failed("sync the copy of"))?;
            moved.to = copied;
            moved.taken = copied;
            outcome.notes.push(
                "the log could only be cut here: a line written in that moment would be lost; \
                 method = \"rename\" has no such moment"
                    .to_owned(),
            );
            Way::Truncated
        }
    });
    outcome.moved = Some(moved);
    Ok(())
}

fn copy_to(log: &Log, aside: &File, start: u64, copied: &mut u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    while *copied < end {
        let now = (end - *copied).min(BUFFER as u64) as usize;
        let count = log.file.read_at(&mut buffer[..now], *copied)?;
        if count == 0 {
            break;
        }
        aside.write_all_at(&buffer[..count], *copied - start)?;
        *copied += count as u64;
    }
    Ok(())
}

// The end of the last whole line before `end`; `end` where there is none within a megabyte.
fn end_of_line(log: &Log, start: u64, end: u64) -> io::Result<u64> {
    let count = (end - start).min(BUFFER as u64);
    let mut buffer = vec![0; count as usize];
    log.file.read_exact_at(&mut buffer, end - count)?;
    Ok(memchr::memrchr(b'\n', &buffer).map_or(end, |at| end - count + at as u64 + 1))
}

fn punch(log: &Log, to: u64) -> rustix::io::Result<()> {
    fallocate(&log.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, to)
}

// Returns how many bytes were taken out. What is left of them is blanked before: should this be killed between, the
// blanks are in the log's middle, and their lines are in the copy.
fn collapse(log: &Log, to: u64, block: u64) -> rustix::io::Result<u64> {
    let mut taken = to / block * block;
    // the end itself cannot be taken out
    if taken == log.len() {
        taken -= block.min(taken);
    }
    let blank = |from: u64, to: u64| -> io::Result<()> {
        let Some(last) = (to - from).checked_sub(1) else { return Ok(()) };
        let mut blanks = vec![b' '; last as usize];
        blanks.push(b'\n');
        log.file.write_all_at(&blanks, from)
    };
    if taken == 0 {
        // nothing to take: too small a log is cut
        return Err(rustix::io::Errno::OPNOTSUPP);
    }
    fallocate(&log.file, FallocateFlags::COLLAPSE_RANGE, 0, taken)?;
    blank(0, to - taken)
        .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))?;
    Ok(taken)
}
