//! A directory, a home and a repository for one test, and how to run things in it.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The program under test.
pub const LIFEBOAT: &str = env!("CARGO_BIN_EXE_lifeboat");

/// Longer than any command of these tests takes on a busy machine; whatever takes longer hangs.
const HANG: Duration = Duration::from_secs(400);

/// Whether the long versions run.
pub fn long() -> bool {
    std::env::var_os("LIFEBOAT_TEST_LONG").is_some()
}

/// Whether this is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that something is left out; fails where everything must run.
pub fn skip(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "SKIPPED where nothing may be: {what}");
    eprintln!("SKIPPED: {what}");
}

/// Shows what a campaign found.
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Whether all these programs are there; says it where one is not.
pub fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = |name: &&&str| !std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let missing = programs.iter().find(missing);
    if let Some(name) = missing {
        skip(&format!("the program {name} is not there"));
    }
    missing.is_none()
}

/// Whether this is root; says it where not.
pub fn have_root(what: &str) -> bool {
    if !is_root() {
        skip(&format!("{what} needs root"));
    }
    is_root()
}

/// A tool of `tests/tools`.
pub fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(name)
}

/// What a command said and how it ended.
pub struct Done {
    /// The exit status; 128 and the signal's number where one ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    fn of(output: &Output) -> Self {
        let status = output.status;
        Self {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(127)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts how it ended.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", tail(&self.stdout), tail(&self.stderr));
        self
    }

    /// Asserts that it ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }
}

/// The end of a long text.
pub fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(4000);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// Runs a command; one that hangs is killed and fails the test.
#[track_caller]
pub fn run(command: &mut Command) -> Done {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    finish(child, HANG)
}

/// Waits for a child, for so long at most.
#[track_caller]
pub fn finish(child: std::process::Child, at_most: Duration) -> Done {
    let pid = rustix::process::Pid::from_child(&child);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(at_most) {
        Ok(output) => Done::of(&output.unwrap()),
        Err(_) => {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            panic!("a command did not end within {at_most:?}");
        }
    }
}

/// A Python tool of `tests/tools`.
#[track_caller]
pub fn python<S: AsRef<OsStr>>(name: &str, args: &[S]) -> Done {
    run(Command::new("python3").arg(tool(name)).args(args))
}

/// Makes a fidelity tree.
#[track_caller]
pub fn make_tree(dir: &Path, kinds: &str) {
    make_tree_as(None, dir, kinds);
}

/// Makes a fidelity tree as this user.
#[track_caller]
pub fn make_tree_as(user: Option<u32>, dir: &Path, kinds: &str) {
    let mut command = command_as("python3", user);
    run(command.arg(tool("maketree.py")).args(["--kinds", kinds]).arg(dir)).ok();
}

/// Asserts that two trees are the same in everything that Linux keeps, sockets excluded: no program can
/// give them back. `ignore` is what the file system at hand cannot hold.
#[track_caller]
pub fn assert_same(a: &Path, b: &Path, ignore: &str) {
    let mut command = Command::new("python3");
    command.arg(tool("comparetrees.py")).arg("--exclude-sockets");
    if !ignore.is_empty() {
        command.args(["--ignore", ignore]);
    }
    run(command.arg(a).arg(b)).ok();
}

/// A program, run by this user (as root only) or by oneself.
pub fn command_as(program: &str, user: Option<u32>) -> Command {
    let Some(user) = user else { return Command::new(program) };
    // what comes first on the path may lie where only root comes to
    let program = if program == "python3" { "/usr/bin/python3" } else { program };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={user}")]).args(["--clear-groups", program]);
    command
}

/// A directory with a home of its own and an empty repository.
pub struct TestEnv {
    dir: tempfile::TempDir,
    user: Option<u32>,
}

impl TestEnv {
    /// One on the usual place for temporary files.
    pub fn new() -> Self {
        Self::at(&std::env::temp_dir())
    }

    /// One below a directory.
    pub fn at(parent: &Path) -> Self {
        let env = Self {
            dir: tempfile::Builder::new().prefix("lifeboat-it-").tempdir_in(parent).unwrap(),
            user: None,
        };
        env.lifeboat(&["init", "-q"]).ok();
        env
    }

    /// One that an ordinary user owns: nobody where this is root, else oneself.
    pub fn of_a_user() -> Self {
        let user = is_root().then_some(65534);
        let dir = tempfile::Builder::new().prefix("lifeboat-it-").tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), user, user).unwrap();
        // the program may lie where only root comes to
        std::fs::copy(LIFEBOAT, dir.path().join("program")).unwrap();
        let env = Self { dir, user };
        env.lifeboat(&["init", "-q"]).ok();
        env
    }

    /// Who runs the program, where it is not this process's user.
    pub fn user(&self) -> Option<u32> {
        self.user
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    /// The program with its arguments, in this environment.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let program = if self.user.is_some() { self.path("program") } else { PathBuf::from(LIFEBOAT) };
        let mut command = command_as(program.to_str().unwrap(), self.user);
        self.set(&mut command);
        command.args(args);
        command
    }

    /// Gives a command this environment.
    pub fn set(&self, command: &mut Command) {
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LIFEBOAT_"))
        {
            command.env_remove(name);
        }
        command
            .env("HOME", self.path("home"))
            .env("XDG_CONFIG_HOME", self.path("home/config"))
            .env("XDG_CACHE_HOME", self.path("home/cache"))
            .env("LIFEBOAT_WRITER_KEY", self.path("home/writer_ed25519"))
            .env("LIFEBOAT_CACHE_DIR", self.path("home/lifeboat-cache"))
            .env("LIFEBOAT_STATE_DIR", self.path("state"))
            .env("LIFEBOAT_REPOSITORY", self.repo());
    }

    /// Runs the program.
    #[track_caller]
    pub fn lifeboat<S: AsRef<OsStr>>(&self, args: &[S]) -> Done {
        let done = run(&mut self.command(args));
        assert!(done.code != 101 && !done.stderr.contains("panicked"), "a panic: {}", tail(&done.stderr));
        done
    }

    /// Takes a snapshot of a directory that can be read as a whole. Its id.
    #[track_caller]
    pub fn snapshot(&self, dir: &Path) -> String {
        let done = self.lifeboat(&[OsStr::new("snapshot"), "-q".as_ref(), dir.as_ref()]).ok();
        done.stdout.lines().last().expect("the id").trim().to_owned()
    }

    /// Restores what the newest snapshot has of a directory straight into a target.
    #[track_caller]
    pub fn restore(&self, dir: &Path, target: &Path, options: &[&str]) -> Done {
        let mut what = std::ffi::OsString::from("latest:");
        what.push(dir);
        let mut args =
            vec![OsStr::new("restore"), "-q".as_ref(), &what, "--target".as_ref(), target.as_ref()];
        args.extend(options.iter().map(OsStr::new));
        self.lifeboat(&args)
    }
}
