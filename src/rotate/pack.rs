//! Packing what was set aside, by gzip: `zcat`, `zgrep` and `zless` read it, which are there wherever logs are read.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use rustix::fs::{OFlags, Timespec, Timestamps, futimens};

use super::place::{Log, Place};
use super::{Options, Outcome, RotateError, name};
use crate::sys::writers::{has_writer, writers};

/// Packs every file that was set aside and that nobody writes to any more.
pub fn pack_all(place: &Place, options: Options<'_>, outcome: &mut Outcome) -> Result<(), RotateError> {
    for (plain, _) in place.rotated().into_iter().filter(|(plain, _)| !plain.ends_with(name::PACKED)) {
        let Ok(file) = place.open(&plain, OFlags::RDONLY) else { continue };
        let metadata = file.metadata().map_err(place.failed("examine", &plain))?;
        if is_written(&file, &metadata) {
            outcome
                .notes
                .push(format!("{} is still written to and is packed later", place.full(&plain).shown()));
            continue;
        }
        let packed = [&plain, name::PACKED].concat();
        if !options.dry_run {
            pack(place, (&plain, file, metadata), &packed, outcome)?;
        }
        outcome.packed.push(place.full(&packed));
    }
    Ok(())
}

fn is_written(file: &File, metadata: &std::fs::Metadata) -> bool {
    has_writer(file.as_fd()).unwrap_or_else(|| !writers(metadata.dev(), metadata.ino()).seen.is_empty())
}

fn pack(
    place: &Place,
    (plain, file, metadata): (&[u8], File, std::fs::Metadata),
    packed: &[u8],
    outcome: &mut Outcome,
) -> Result<(), RotateError> {
    if let Ok(there) = place.open(packed, OFlags::RDONLY) {
        // an earlier run was killed between the new name and the end of the old one
        if !holds_the_same(&there, &file).unwrap_or(false) {
            outcome.notes.push(format!("{} is there already and is another", place.full(packed).shown()));
            return Ok(());
        }
    } else {
        let like = Log { file, metadata };
        let (staged, target) = place.create_like(&like).map_err(place.failed("make a file beside", plain))?;
        let written = write(&like, target).map_err(place.failed("pack", plain));
        let named = written.and_then(|inode| {
            place.rename(&staged, packed).map_err(place.failed("give its name to", packed))?;
            Ok(inode)
        });
        match (named, &mut outcome.moved) {
            (Ok(inode), Some(moved)) if moved.aside == like.metadata.ino() => moved.aside = inode,
            (Ok(_), _) => {}
            (Err(error), _) => {
                let _ = place.remove(&staged);
                return Err(error);
            }
        }
    }
    place.sync().map_err(place.failed("sync the directory of", plain))?;
    place.remove(plain).map_err(place.failed("remove", plain))
}

fn write(like: &Log, target: File) -> io::Result<u64> {
    let mut encoder = GzEncoder::new(&target, Compression::default());
    let mut source = &like.file;
    io::copy(&mut source, &mut encoder)?;
    encoder.finish()?.flush()?;
    let time = Timespec { tv_sec: like.metadata.mtime(), tv_nsec: like.metadata.mtime_nsec() as _ };
    futimens(&target, &Timestamps { last_access: time, last_modification: time })?;
    target.sync_all()?;
    Ok(target.metadata()?.ino())
}

fn holds_the_same(packed: &File, plain: &File) -> io::Result<bool> {
    let mut unpacked = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(BufReader::new(packed)));
    let mut plain = BufReader::with_capacity(1 << 16, plain);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    loop {
        a.clear();
        b.clear();
        unpacked.by_ref().take(1 << 16).read_to_end(&mut a)?;
        plain.by_ref().take(1 << 16).read_to_end(&mut b)?;
        if a != b || a.is_empty() {
            return Ok(a == b);
        }
    }
}
