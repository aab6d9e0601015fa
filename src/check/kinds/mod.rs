//! One kind of check a file: look once, say what was found.

pub mod command;
pub mod cpu;
pub mod disk;
pub mod file;
pub mod http;
pub mod json;
pub mod log;
pub mod memory;
pub mod port;
pub mod process;
pub mod sql;
mod subject;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::base::Name;
use crate::check::verdict::Found;

/// A document is not larger than this.
pub(super) const LARGEST: u64 = 16 << 20;

/// A path as it is told.
fn shown(path: &Path) -> String {
    Name::from(path.as_os_str()).shown()
}

/// Reads a file that must be there and not be huge.
fn read(path: &Path) -> Result<Vec<u8>, Found> {
    let mut bytes = Vec::new();
    let open = rustix::fs::open(
        path,
        // a fifo would hold the opening up
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let result =
        open.map_err(io::Error::from).and_then(|fd| File::from(fd).take(LARGEST + 1).read_to_end(&mut bytes));
    match result {
        Ok(_) if bytes.len() as u64 > LARGEST => {
            Err(Found::error(format!("{} is larger than {} MiB", shown(path), LARGEST >> 20)))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(of_io(path, &error)),
    }
}

/// A file that is not there is wrong; one that cannot be read is not judged.
fn of_io(path: &Path, error: &io::Error) -> Found {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Found::fail(format!("{} does not exist", shown(path)))
        }
        _ => Found::error(format!("{} cannot be read: {error}", shown(path))),
    }
}
