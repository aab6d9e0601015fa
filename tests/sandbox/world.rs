//! A host with canaries, somebody who starts a sandbox on it, and what was said.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use lifeboat::sandbox::{Active, Bind, Command, Ended, Recipe};
use serde::Deserialize;
use serde_json::{Value, json};

/// The program under test.
pub const LIFEBOAT: &str = env!("CARGO_BIN_EXE_lifeboat");
/// Python's path: the first one of PATH may lie where only root comes to.
pub const PYTHON: &str = "/usr/bin/python3";
/// An ordinary user with no name and no process of his own on any host.
const ORDINARY: u32 = 54321;
/// Longer than any sandbox of these tests lives on a busy machine.
const HANG: Duration = Duration::from_secs(120);

/// Who starts a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Root,
    Ordinary,
}

/// Whether this is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// As whom this process itself starts a sandbox.
pub fn oneself() -> Who {
    if is_root() { Who::Root } else { Who::Ordinary }
}

/// Whether that is this process's own user.
pub fn is_self(who: Who) -> bool {
    who == oneself()
}

/// Says that something is left out; fails where everything must run.
pub fn skip(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "SKIPPED where nothing may be: {what}");
    eprintln!("SKIPPED: {what}");
}

/// Whether there is a Python.
pub fn have_python() -> bool {
    let found = Path::new(PYTHON).exists();
    if !found {
        skip("there is no /usr/bin/python3");
    }
    found
}

/// Everybody as whom a sandbox can be started here; whom the host refuses one is told, with a look at the refusal.
pub fn people() -> Vec<Who> {
    let all: &[Who] = if is_root() { &[Who::Root, Who::Ordinary] } else { &[Who::Ordinary] };
    all.iter().copied().filter(|&who| usable(who)).collect()
}

/// Whether root can start one here.
pub fn have_root() -> bool {
    if !is_root() {
        skip("this test needs root");
    }
    is_root() && usable(Who::Root)
}

/// Whether somebody can start a sandbox on this host. A refusal must be one that helps: containers
/// refuse as a rule, and there this is what is tested.
fn usable(who: Who) -> bool {
    let world = World::new(who);
    let heard = world.play(&world.recipe(), &[]);
    if heard.status == 0 {
        return true;
    }
    heard.assert_refused();
    eprintln!("SKIPPED as {who:?}, this host allows no sandbox: {:?}; {:?}", heard.failed, heard.fix);
    false
}

/// A place on the host that is seen inside: not below /tmp, /var/tmp, /run or /dev, of which sandboxes have their own.
fn seen_place() -> PathBuf {
    let mut places = ["/srv", "/opt", "/mnt"].map(PathBuf::from).to_vec();
    places.extend([PathBuf::from(env!("CARGO_TARGET_TMPDIR"))]);
    places.extend(std::env::home_dir());
    let usable = |place: &PathBuf| {
        !["/tmp", "/var/tmp", "/run", "/dev"].iter().any(|own| place.starts_with(own))
            && tempfile::tempdir_in(place).is_ok()
    };
    places.into_iter().find(usable).expect("a directory outside /tmp in which this user may write")
}

/// A host's corner: a directory that is seen inside, one for scratch, and the program.
pub struct World {
    pub who: Who,
    /// Seen inside, read-only.
    pub host: tempfile::TempDir,
    scratch: tempfile::TempDir,
    program: PathBuf,
}

impl World {
    pub fn new(who: Who) -> Self {
        let make = |parent: &Path| {
            let dir = tempfile::Builder::new().prefix("lifeboat-sandbox-").tempdir_in(parent).unwrap();
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            dir
        };
        let (host, scratch) = (make(&seen_place()), make(Path::new("/var/tmp")));
        let mut world = Self { who, host, scratch, program: LIFEBOAT.into() };
        world.give(world.scratch.path());
        world.give(world.host.path());
        if who == Who::Ordinary && is_root() {
            // the program may lie where only root comes to
            world.program = world.scratch.path().join("lifeboat");
            if std::fs::hard_link(LIFEBOAT, &world.program).is_err() {
                std::fs::copy(LIFEBOAT, &world.program).unwrap();
            }
        }
        world
    }

    fn give(&self, path: &Path) {
        if self.who == Who::Ordinary && is_root() {
            chown(path, Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
    }

    /// A file or directory of the host, which belongs to whoever starts the sandbox.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.host.path().join(name);
        std::fs::write(&path, content).unwrap();
        self.give(&path);
        path
    }

    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.host.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        self.give(&path);
        path
    }

    /// The restored copy with one file, and the recipe that puts it over production's path.
    pub fn restored(&self) -> (PathBuf, Recipe) {
        let app = self.directory("app");
        std::fs::write(app.join("who"), "production").unwrap();
        self.give(&app.join("who"));
        let tree = self.scratch.path().join("tree");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("who"), "restored").unwrap();
        self.give(&tree);
        self.give(&tree.join("who"));
        let bind = Bind { source: tree, target: app.clone(), writable: true };
        let recipe = Recipe { binds: vec![bind], directory: app.clone(), ..self.recipe() };
        (app, recipe)
    }

    /// A recipe with nothing but a scratch directory and a PATH.
    pub fn recipe(&self) -> Recipe {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let scratch = self.scratch.path().join(format!("scratch-{next}"));
        std::fs::create_dir(&scratch).unwrap();
        self.give(&scratch);
        let environment: Vec<(OsString, OsString)> =
            vec![("PATH".into(), "/usr/bin:/bin:/usr/sbin:/sbin".into())];
        Recipe { environment, ..Recipe::new(&self.program, scratch) }
    }

    /// The program, where this world's person can start it.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A program as this world's person starts it.
    pub fn as_person(&self, program: impl AsRef<OsStr>) -> Process {
        self.by_way_of(&[], program)
    }

    /// The same by way of another program: its name and arguments.
    pub fn by_way_of(&self, way: &[&str], program: impl AsRef<OsStr>) -> Process {
        let mut words: Vec<OsString> = way.iter().map(OsString::from).collect();
        if self.who == Who::Ordinary && is_root() {
            let user = format!("setpriv --reuid={ORDINARY} --regid={ORDINARY} --clear-groups");
            words.extend(user.split(' ').map(OsString::from));
        }
        words.push(program.as_ref().to_owned());
        let mut process = Process::new(&words[0]);
        process.args(&words[1..]).env("SANDBOX_TEST_SECRET", "hunter2").current_dir("/");
        process
    }

    /// The program, which will read a script.
    pub fn process(&self) -> Process {
        self.process_by(&[])
    }

    /// The same by way of another program.
    pub fn process_by(&self, way: &[&str]) -> Process {
        let mut process = self.by_way_of(way, &self.program);
        process.args(["__sandbox", "run"]);
        process
    }

    /// Runs commands in one sandbox of this recipe.
    #[track_caller]
    pub fn play(&self, recipe: &Recipe, commands: &[Command]) -> Heard {
        self.play_by(self.process(), recipe, commands)
    }

    /// The same, the program started in another way.
    #[track_caller]
    pub fn play_by(&self, process: Process, recipe: &Recipe, commands: &[Command]) -> Heard {
        finish(begin(process, &json!({ "recipe": recipe, "commands": commands })))
    }

    /// Runs one shell line and gives its output; it must succeed.
    #[track_caller]
    pub fn shell(&self, recipe: &Recipe, line: &str) -> String {
        let heard = self.play(recipe, &[Command::shell(line)]);
        let (ended, out, err) = heard.only();
        assert!(ended.success(), "{line} as {:?}: {ended:?}\n{out}\n{err}", self.who);
        out.clone()
    }
}

/// Starts it and hands it the script.
pub fn begin(mut process: Process, script: &Value) -> Child {
    let mut child =
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.to_string().as_bytes()).unwrap();
    child
}

/// Waits for its end; one that hangs is killed and fails the test.
#[track_caller]
pub fn finish(child: Child) -> Heard {
    let pid = rustix::process::Pid::from_child(&child);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(HANG) else {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        panic!("the sandbox did not end within {HANG:?}");
    };
    let output = output.unwrap();
    let mut heard = Heard { status: output.status.code().unwrap_or(-1), ..Heard::default() };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")) {
            Line::Active(active) => heard.active = Some(*active),
            Line::Started { milliseconds } => heard.milliseconds = milliseconds,
            Line::Ended { ended, out, err } => heard.ended.push((ended, out, err)),
            Line::Failed { error, fix } => (heard.failed, heard.fix) = (error, fix),
            Line::Closed { left } => heard.left = Some(left),
        }
    }
    heard
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Active(Box<Active>),
    Started { milliseconds: f64 },
    Ended { ended: Ended, out: String, err: String },
    Failed { error: String, fix: String },
    Closed { left: u64 },
}

/// What the program said.
#[derive(Debug, Default)]
pub struct Heard {
    pub status: i32,
    pub active: Option<Active>,
    pub milliseconds: f64,
    pub ended: Vec<(Ended, String, String)>,
    pub failed: String,
    pub fix: String,
    pub left: Option<u64>,
}

impl Heard {
    /// The only command's end and output.
    #[track_caller]
    pub fn only(&self) -> &(Ended, String, String) {
        assert_eq!((self.ended.len(), self.left), (1, Some(0)), "{self:?}");
        &self.ended[0]
    }

    #[track_caller]
    pub fn active(&self) -> &Active {
        self.active.as_ref().unwrap_or_else(|| panic!("{self:?}"))
    }

    /// Asserts that the host said no, and that the program says how it would say yes.
    #[track_caller]
    pub fn assert_refused(&self) {
        assert_eq!(self.status, 22, "{self:?}");
        assert!(self.active.is_none() && self.ended.is_empty(), "nothing ran: {self:?}");
        let known = ["--privileged", "sysctl -w ", "apparmor_parser", "CONFIG_USER_NS", "Linux 5.12"];
        assert!(known.iter().any(|word| self.fix.contains(word)), "{self:?}");
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes of the host with this text in their command line.
pub fn processes_with(mark: &str) -> BTreeMap<i32, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(mark) {
            found.insert(pid, line);
        }
    }
    found
}
