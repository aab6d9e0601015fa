//! Pages of a file that programs have mapped into their memory.

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Has the system begin to write a file's changed pages back, so that the next write to one of them through a mapping is noticed
/// and changes the file's times: only the first write to a clean page does (`mmap(2)`, NOTES). File systems in memory never
/// write back, and are not helped.
pub fn begin_write_back(file: BorrowedFd<'_>) {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: no memory of this process is involved; a length of 0 means up to the end of the file.
    #[allow(unsafe_code, reason = "rustix has not this call")]
    unsafe {
        // what cannot be written back now is told to whoever wrote it
        libc::sync_file_range(file.as_raw_fd(), 0, 0, flags);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    // A program that writes a letter through its mapping for each line that it is given.
    const WRITER: &str = "import mmap, sys\nfile = open(sys.argv[1], 'r+b')\nmemory = mmap.mmap(file.fileno(), 0)\n\
        for line in sys.stdin:\n    memory[0:1] = line[:1].encode()\n    print('done', flush=True)";

    // found by review: the second of two writes to one page left no trace in the file's times
    #[test]
    fn a_write_through_a_mapping_shows_once_more() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("mapped");
        fs::write(&path, [b'0'; 4096]).unwrap();
        let mut writer = Command::new("python3")
            .arg("-c")
            .arg(WRITER)
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(writer.stdout.take().unwrap());
        let mut orders = writer.stdin.take().unwrap();
        let mut write = |letter: &str| {
            writeln!(orders, "{letter}").unwrap();
            answers.read_line(&mut String::new()).unwrap();
            let found = fs::metadata(&path).unwrap();
            // longer than a tick of the clock that stamps files
            std::thread::sleep(Duration::from_millis(30));
            (found.mtime(), found.mtime_nsec())
        };
        let first = write("1");
        begin_write_back(fs::File::open(&path).unwrap().as_fd());
        let second = write("2");
        drop(orders);
        writer.wait().unwrap();
        let kind = rustix::fs::statfs(&path).unwrap().f_type;
        const IN_MEMORY: [rustix::fs::FsWord; 2] = [0x0102_1994, 0x8584_58f6]; // tmpfs, ramfs
        if IN_MEMORY.contains(&kind) {
            // the sources lie where nothing is ever written back
            return;
        }
        assert_ne!(first, second);
    }
}
