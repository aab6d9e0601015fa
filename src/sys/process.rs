//! Runs commands: in a process group of their own, with a time limit, ended with all that they started,
//! their output kept bounded.
//!
//! A command's tree is the process group it leads, the descendants of its leader, and every process that
//! carries its mark in the environment, which also finds a daemon that left group and parent. What empties
//! its environment as well escapes; only a PID namespace holds that. Processes are signalled by descriptor,
//! so a PID that was given to somebody else is never hit.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Gid, Pid, Signal, Uid, WaitId, WaitIdOptions, waitid};

use super::process_tree::signal_all;
pub use super::process_tree::{Member, tree};

/// Who a command runs as: user, group, further groups.
pub type User = (u32, u32, Vec<u32>);

/// The variable that marks what a run started.
pub const MARK: &str = "LIFEBOAT_RUN";
/// What is kept of the beginning and of the end of an output, unless a run says otherwise.
pub const KEEP: usize = 64 << 10;
/// How long a tree that was sent TERM has before it is killed, unless a run says otherwise.
pub const GRACE: Duration = Duration::from_secs(2);
// readers look this often whether they are still wanted
const PATIENCE: Duration = Duration::from_millis(50);

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program and its arguments.
    Argv(Vec<OsString>),
    /// A text for `sh -c`.
    Shell(OsString),
}

/// A run that has not begun.
#[derive(Debug)]
pub struct Run {
    /// What to run.
    pub program: Program,
    /// Where; the current directory if `None`.
    pub directory: Option<PathBuf>,
    /// True: the environment holds only what `environment` says.
    pub clear: bool,
    /// Variables that are set.
    pub environment: Vec<(OsString, OsString)>,
    /// What it reads on stdin; an empty one reads nothing.
    pub stdin: Vec<u8>,
    /// After so long it is ended.
    pub limit: Option<Duration>,
    /// How long its tree has after TERM before it is killed.
    pub grace: Duration,
    /// So many bytes are kept of the beginning and of the end of each output.
    pub keep: usize,
    /// True: stderr goes where stdout goes, so that the order of lines is kept.
    pub merge: bool,
    /// True: what it leaves behind lives on when it ends well. Its output goes to a file then, as a pipe
    /// that nobody reads would kill a daemon, and it leads a session of its own, so that no terminal takes it along.
    pub leave: bool,
    /// With `leave`: the file for its output, of both kinds; one without a name if `None`.
    pub output: Option<File>,
    /// Who it runs as, which only root may say.
    pub user: Option<User>,
    /// What marks its tree; a new mark if `None`.
    pub mark: Option<OsString>,
}

impl Run {
    /// With nothing on stdin, the environment of this process, no limit.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            directory: None,
            clear: false,
            environment: Vec::new(),
            stdin: Vec::new(),
            limit: None,
            grace: GRACE,
            keep: KEEP,
            merge: false,
            leave: false,
            output: None,
            user: None,
            mark: None,
        }
    }

    /// Runs it to its end. `interrupted` is asked often; true ends the run.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(self, interrupted: &dyn Fn() -> bool) -> io::Result<Ended> {
        self.start()?.wait(interrupted)
    }

    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(self) -> io::Result<Running> {
        let mark = self.mark.clone().unwrap_or_else(new_mark);
        let mut command = self.command(&mark)?;
        let mut files = None;
        let merge = self.merge || self.output.is_some();
        if self.leave {
            let out = self.output.as_ref().map_or_else(tempfile::tempfile, File::try_clone)?;
            let err = tempfile::tempfile()?;
            command.stdout(out.try_clone()?);
            command.stderr(if merge { out.try_clone()? } else { err.try_clone()? });
            files = Some((out, err));
        }
        let mut readers = Vec::new();
        let done = Arc::new(AtomicBool::new(false));
        let kept =
            [Arc::new(Mutex::new(Output::new(self.keep))), Arc::new(Mutex::new(Output::new(self.keep)))];
        let mut pipes = Vec::new();
        if files.is_none() {
            let (out, out_end) = io::pipe()?;
            let (err, err_end) = io::pipe()?;
            command.stderr(if merge { out_end.try_clone()? } else { err_end });
            command.stdout(out_end);
            pipes = vec![out, err];
        }
        let began = Instant::now();
        let mut child = command.spawn()?;
        drop(command); // it holds the writing ends
        for (pipe, kept) in pipes.into_iter().zip(&kept) {
            let (kept, done) = (Arc::clone(kept), Arc::clone(&done));
            readers.push(thread::spawn(move || collect(pipe, &kept, &done)));
        }
        if let Some(mut pipe) = child.stdin.take() {
            let input = self.stdin;
            // not waited for: who reads nothing would hold it until its end
            thread::spawn(move || pipe.write_all(&input));
        }
        let pid = Pid::from_child(&child);
        Ok(Running {
            child,
            pid,
            mark,
            began,
            limit: self.limit,
            grace: self.grace,
            leave: self.leave,
            keep: self.keep,
            merge,
            readers,
            done,
            kept,
            files,
            ended: false,
        })
    }

    fn command(&self, mark: &OsStr) -> io::Result<Command> {
        let mut command = match &self.program {
            Program::Argv(words) => {
                let (program, arguments) =
                    words.split_first().ok_or_else(|| io::Error::other("there is no command"))?;
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            Program::Shell(text) => {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(text);
                command
            }
        };
        if self.clear {
            command.env_clear();
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).env(MARK, mark);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        if !self.leave {
            // a session has a group of its own
            command.process_group(0);
        }
        if self.leave || self.user.is_some() {
            before_exec(&mut command, self.leave, self.user.as_ref());
        }
        Ok(command)
    }
}

// Makes the child the leader of a session, and somebody else.
#[expect(unsafe_code, reason = "what a child does before it becomes the command")]
fn before_exec(command: &mut Command, session: bool, user: Option<&User>) {
    let user = user.map(|(uid, gid, groups)| {
        let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        (Uid::from_raw(*uid), Gid::from_raw(*gid), groups)
    });
    let change = move || {
        if session {
            rustix::process::setsid()?;
        }
        if let Some((uid, gid, groups)) = &user {
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
            rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls only; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(change) };
}

/// Ends all that carries a mark, with what descends from it: TERM, and KILL for what is left after `grace`. How many there
/// were.
pub fn end_marked(mark: &OsStr, grace: Duration) -> usize {
    let look = || {
        let all = super::process_tree::all();
        let seeds = super::process_tree::marked(&all, mark).map(|member| member.pid).collect();
        super::process_tree::with_descendants(&all, seeds)
    };
    end_all(&look, grace)
}

/// Ends what `look` finds, until it finds nothing: TERM, and KILL after `grace`. How many there were.
pub fn end_all(look: &dyn Fn() -> Vec<Member>, grace: Duration) -> usize {
    let found = look();
    signal_all(&found, Signal::TERM);
    let began = Instant::now();
    while began.elapsed() < grace && !look().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    // what is killed may have forked a moment before
    for _ in 0..200 {
        let rest = look();
        if rest.is_empty() {
            break;
        }
        signal_all(&rest, Signal::KILL);
        thread::sleep(Duration::from_millis(5));
    }
    found.len()
}

/// A mark that nothing else on this machine carries.
pub fn new_mark() -> OsString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let boot = super::clock::since_boot().as_nanos();
    OsString::from(format!("{}-{boot}-{count}", std::process::id()))
}

fn collect(mut pipe: io::PipeReader, kept: &Mutex<Output>, done: &AtomicBool) {
    let mut buffer = [0; 16 << 10];
    let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE.subsec_nanos().into() };
    loop {
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&patience)) {
            // somebody who escaped may hold the pipe for ever
            Ok(0) if done.load(Ordering::Relaxed) => return,
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        match pipe.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => kept.lock().unwrap_or_else(PoisonError::into_inner).add(&buffer[..count]),
        }
    }
}

/// An output: its beginning and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    keep: usize,
    /// How many bytes there were in all.
    pub bytes: u64,
}

impl Output {
    fn new(keep: usize) -> Self {
        Self { keep, ..Self::default() }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = (self.keep - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        let rest = &bytes[room..];
        let rest = &rest[rest.len().saturating_sub(self.keep)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.keep);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// True if some of its middle was dropped.
    pub fn is_cut(&self) -> bool {
        self.bytes > (self.head.len() + self.tail.len()) as u64
    }

    /// What was kept, with a line in place of what was dropped.
    pub fn text(&self) -> Vec<u8> {
        let mut text = self.head.clone();
        if self.is_cut() {
            let dropped = self.bytes - (self.head.len() + self.tail.len()) as u64;
            text.extend_from_slice(format!("\n[{dropped} bytes left out]\n").as_bytes());
        }
        text.extend(&self.tail);
        text
    }

    /// The last so many lines of what was kept.
    pub fn last_lines(&self, count: usize) -> Vec<u8> {
        let text = self.text();
        let body = text.strip_suffix(b"\n").unwrap_or(&text);
        let start = memchr::memrchr_iter(b'\n', body).nth(count.saturating_sub(1)).map_or(0, |at| at + 1);
        body[start..].to_vec()
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit status; `None` if a signal ended it.
    pub exit: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// True if it took longer than its limit.
    pub timed_out: bool,
    /// True if somebody wanted an end.
    pub interrupted: bool,
    /// How long it took.
    pub took: Duration,
    /// What it printed on stdout (with `merge`, on both).
    pub stdout: Output,
    /// What it printed on stderr.
    pub stderr: Output,
    /// Processes that it left behind and that were ended.
    pub left: usize,
}

impl Ended {
    /// True if it exited with 0 in time.
    pub fn is_success(&self) -> bool {
        self.exit == Some(0) && !self.timed_out && !self.interrupted
    }

    /// How it ended, in words: `exited with 1`, `was ended by signal 9`, `took longer than 5.0 s`.
    pub fn how(&self) -> String {
        let took = crate::base::size::duration(self.took);
        match (self.exit, self.signal) {
            _ if self.interrupted => "was interrupted".to_owned(),
            _ if self.timed_out => format!("did not end in time and was stopped after {took}"),
            (Some(status), _) => format!("exited with {status}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended in an unknown way".to_owned(),
        }
    }
}

/// A run that has begun. Dropped, it takes the command and all that it started with it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
    mark: OsString,
    began: Instant,
    limit: Option<Duration>,
    grace: Duration,
    leave: bool,
    keep: usize,
    merge: bool,
    readers: Vec<JoinHandle<()>>,
    done: Arc<AtomicBool>,
    kept: [Arc<Mutex<Output>>; 2],
    files: Option<(File, File)>,
    ended: bool,
}

impl Running {
    /// The leader's PID, which is also its process group.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// True if the leader has ended. It is not reaped, so that its PID stays its own.
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // an error: it is nobody's child any more
        self.ended || !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// What its tree carries.
    pub fn mark(&self) -> &OsStr {
        &self.mark
    }

    /// Lets it go on by itself, for ever: it is neither ended nor waited for. Only of one that was started with `leave`,
    /// as the output of others goes to pipes that nobody reads any more.
    pub fn release(mut self) {
        self.ended = self.leave;
        if self.leave {
            super::process_tree::released(self.pid());
        }
    }

    /// What it printed on stdout until now (with `merge`, on both).
    pub fn stdout(&self) -> Output {
        self.output(0)
    }

    /// What it printed on stderr until now.
    pub fn stderr(&self) -> Output {
        self.output(1)
    }

    /// Waits for the end, or makes it when the time is over or `interrupted` says so.
    ///
    /// # Errors
    /// If the system cannot say how it ended.
    pub fn wait(self, interrupted: &dyn Fn() -> bool) -> io::Result<Ended> {
        let mut pause = Duration::from_millis(1);
        let (mut timed_out, mut stopped) = (false, false);
        while !self.has_ended() {
            timed_out = self.limit.is_some_and(|limit| self.began.elapsed() >= limit);
            stopped = !timed_out && interrupted();
            if timed_out || stopped {
                break;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        self.finish(timed_out, stopped)
    }

    /// Ends it and all that it started: TERM, and KILL for what is left after the time of grace.
    ///
    /// # Errors
    /// If the system cannot say how it ended.
    pub fn stop(self) -> io::Result<Ended> {
        self.finish(false, false)
    }

    fn finish(mut self, timed_out: bool, interrupted: bool) -> io::Result<Ended> {
        let took = self.began.elapsed();
        let is_over = self.has_ended();
        let left = if is_over && self.leave { 0 } else { self.end_tree(is_over) };
        let status = self.reap()?;
        let (stdout, stderr) = (self.output(0), self.output(1));
        Ok(Ended {
            exit: status.code(),
            signal: status.signal(),
            timed_out,
            interrupted,
            took,
            stdout,
            stderr,
            left: if is_over { left } else { 0 },
        })
    }

    // Returns how many there were, the leader left out.
    fn end_tree(&self, is_over: bool) -> usize {
        let members = || tree(self.pid(), &self.mark);
        if is_over && members().is_empty() {
            return 0;
        }
        end_all(&members, self.grace)
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait();
        self.ended = true;
        self.done.store(true, Ordering::Relaxed);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        status
    }

    fn output(&self, which: usize) -> Output {
        let Some((out, err)) = &self.files else {
            return self.kept[which].lock().unwrap_or_else(PoisonError::into_inner).clone();
        };
        if which == 1 && self.merge {
            return Output::new(self.keep);
        }
        // an output that cannot be read is an empty one: how the command ended matters more
        read_file(if which == 0 { out } else { err }, self.keep).unwrap_or_else(|_| Output::new(self.keep))
    }
}

fn read_file(file: &File, keep: usize) -> io::Result<Output> {
    use std::os::unix::fs::FileExt as _;
    let mut output = Output::new(keep);
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    let end = file.metadata()?.len();
    while at < end {
        let count = file.read_at(&mut buffer, at)?;
        if count == 0 {
            break;
        }
        output.add(&buffer[..count]);
        at += count as u64;
    }
    Ok(output)
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.end_tree(false);
        let _ = self.reap();
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
