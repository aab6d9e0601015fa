//! A place of its own for each test: home, key, repository, tree.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// An environment that is removed with the test.
pub struct TestEnv {
    dir: tempfile::TempDir,
}

/// How a run ended.
pub struct Run {
    /// The exit status.
    pub code: i32,
    /// Results.
    pub stdout: String,
    /// Narration, warnings and errors.
    pub stderr: String,
    /// Results as bytes.
    pub raw: Vec<u8>,
}

impl TestEnv {
    /// Without a repository.
    pub fn empty() -> Self {
        let env = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(env.path("home")).unwrap();
        env
    }

    /// With an empty repository.
    pub fn new() -> Self {
        let env = Self::empty();
        env.ok(["init"]);
        env
    }

    /// With a repository and a small tree at `tree`, of which nothing has been saved.
    pub fn with_tree() -> Self {
        let env = Self::new();
        for (path, content) in [("tree/a/one", "one\n"), ("tree/a/two", "two\n"), ("tree/b.conf", "x = 1\n")]
        {
            env.write(path, content);
        }
        symlink("a/one", env.path("tree/link")).unwrap();
        env
    }

    /// A path in the environment.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(relative)
    }

    /// A path in the environment as an argument.
    pub fn arg(&self, relative: &str) -> String {
        self.path(relative).to_str().unwrap().to_owned()
    }

    /// Writes a file and the directories above it.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The command, with nothing of the outside environment but the way to programs.
    #[expect(clippy::disallowed_methods, reason = "hands the way to programs on")]
    pub fn command(&self) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
        command.env_clear().current_dir(self.path("")).env("COLUMNS", "120").env("HOME", self.path("home"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("LIFEBOAT_REPOSITORY", self.path("repo"))
            .env("LIFEBOAT_STATE_DIR", self.path("state"))
            .env("LIFEBOAT_WRITER_KEY", self.path("keys/writer"));
        command
    }

    /// Runs it.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        Run::from(self.command().args(args).output().unwrap())
    }

    /// Runs what must end with status 0, and returns what it printed.
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    }

    /// Runs what must end with status 0, with `--json`, and returns the document.
    pub fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let mut all: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        all.push("--json".into());
        serde_json::from_str(&self.ok(all)).unwrap()
    }

    /// Takes a snapshot of the tree and returns its id.
    pub fn snapshot(&self, more: &[&str]) -> String {
        let tree = self.arg("tree");
        self.ok(["snapshot", &tree].iter().chain(more)).trim().to_owned()
    }

    /// The text without the environment's own path.
    pub fn hide(&self, text: impl AsRef<str>) -> String {
        text.as_ref().replace(self.arg("").trim_end_matches('/'), "[DIR]")
    }
}

/// Replaces what differs from run to run: ids, times, durations, and the width of columns with paths.
pub const FILTERS: [(&str, &str); 9] = [
    (r"\b[0-9a-f]{64}\b", "[ID]"),
    (r"SHA256:[A-Za-z0-9+/]{43}", "[FINGERPRINT]"),
    (r"\b[0-9a-f]{16}\b", "[WRITER]"),
    (r"\b[0-9a-f]{8}\b", "[SHORT]"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+Z?|Z)?", "[TIME]"),
    (r"\b\d+\.\d+ s\b", "[TOOK]"),
    (r"\b\d+\.\d [KMG]iB\b", "[SIZE]"),
    (r"-{20,}", "[LINE]"),
    (r" {4,}", "  "),
];

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            raw: output.stdout,
        }
    }
}

/// Compares a text with an inline snapshot, after the filters of the environment.
macro_rules! check {
    ($env:expr, $text:expr, @$expected:literal) => {
        insta::with_settings!({ filters => crate::env::FILTERS }, {
            insta::assert_snapshot!($env.hide($text), @$expected);
        })
    };
}
pub(crate) use check;
