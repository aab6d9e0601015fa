//! The battery: attempts to reach the host from inside. None may succeed, and those that are harmless on a host must
//! succeed there, or they would prove nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use lifeboat::sandbox::{Command, Level, Recipe};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{PYTHON, Who, World, have_python, is_root, people};

const PROBES: &str = include_str!("probes.py");
const CANARY: &str = include_str!("canary.py");

#[derive(Debug, Deserialize)]
struct Attempt {
    name: String,
    seen: Option<String>,
    why: String,
}

/// The host's process with everything that must not be reached.
struct Canary {
    process: Child,
    output: BufReader<ChildStdout>,
    mark: String,
    about: Value,
}

impl Canary {
    fn start(world: &World) -> Self {
        let mark = format!("canary-of-{}", world.host.path().file_name().unwrap().display());
        let directory = world.directory("canary");
        let mut process = world.as_person(PYTHON);
        process.args(["-c", CANARY]).arg(&directory).arg(&mark);
        let mut process = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        Self { process, output, mark, about: serde_json::from_str(&line).unwrap() }
    }

    /// How often somebody came so far.
    fn came(&mut self) -> u64 {
        // what was sent last is on its way
        std::thread::sleep(Duration::from_millis(200));
        self.process.stdin.as_mut().unwrap().write_all(b"?").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// What the probes are told, and the recipe that hides what they look for.
fn scene(world: &World, canary: &Canary) -> (Value, Recipe, Vec<tempfile::NamedTempFile>) {
    let (app, recipe) = world.restored();
    let file = world.file("production.txt", "production");
    let hidden = world.directory("hidden");
    std::fs::write(hidden.join("key"), "a secret").unwrap();
    std::fs::set_permissions(hidden.join("key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let single = world.file("hidden.txt", "a secret");
    let foreign = world.file("foreign.txt", "of somebody else");
    std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut set_user = None;
    if is_root() {
        chown(&foreign, Some(54322), Some(54322)).unwrap();
        let copy = world.host.path().join("set-user-id");
        std::fs::copy("/usr/bin/id", &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
        set_user = Some(copy);
    }
    let temporary: Vec<_> = ["/tmp", "/var/tmp"]
        .map(|place| {
            let file = tempfile::Builder::new().prefix("lifeboat-canary-").tempfile_in(place).unwrap();
            std::fs::write(file.path(), "of the host").unwrap();
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
            file
        })
        .into();
    let temporary_paths: Vec<PathBuf> = temporary.iter().map(|file| file.path().to_owned()).collect();
    let mut told = json!({
        "root": world.who == Who::Root,
        "directory": world.host.path(),
        "file": file,
        "app": app,
        "hidden": [hidden.join("key"), single],
        "foreign": is_root().then_some(foreign),
        "set_user": set_user,
        "temporary": temporary_paths,
        "secret": hex("hunter2"),
        "mark": hex(&canary.mark),
    });
    let about = canary.about.as_object().unwrap().clone();
    told.as_object_mut().unwrap().extend(about);
    let recipe = Recipe { hide: vec![hidden, single], ..recipe };
    (told, recipe, temporary)
}

fn attempts(output: &str) -> Vec<Attempt> {
    output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn nothing_gets_out() {
    if !have_python() {
        return;
    }
    for who in people() {
        let world = World::new(who);
        let mut canary = Canary::start(&world);
        let (told, recipe, _temporary) = scene(&world, &canary);

        // a descriptor that somebody forgot to close
        let forgotten = std::fs::File::open(world.host.path()).unwrap();
        rustix::io::fcntl_setfd(&forgotten, rustix::io::FdFlags::empty()).unwrap();

        let mut outside = world.as_person(PYTHON);
        outside
            .args(["-c", PROBES, "outside"])
            .env("PROBES", told.to_string())
            .env("SANDBOX_TEST_SECRET", "hunter2");
        let outside = outside.stdin(Stdio::null()).output().unwrap();
        let controls = attempts(&String::from_utf8_lossy(&outside.stdout));
        let blind: Vec<_> = controls.iter().filter(|attempt| attempt.seen.is_none()).collect();
        assert!(blind.is_empty(), "as {who:?}, these find nothing even outside: {blind:#?}");
        assert!(controls.len() >= 20, "{controls:#?}\n{}", String::from_utf8_lossy(&outside.stderr));

        let before = canary.came();
        assert!(before >= 5, "the canary notices: {before}");
        let command = Command::new([PYTHON, "-c", PROBES, "inside"]).env("PROBES", told.to_string());
        let heard = world.play(&recipe, &[command]);
        assert_eq!(canary.came(), before, "as {who:?}, somebody came to the canary");
        let (ended, out, err) = heard.only();
        assert!(ended.success(), "as {who:?}: {ended:?}\n{out}\n{err}");
        assert_eq!(heard.active().level, Level::Full, "{:?}", heard.active());
        let tried = attempts(out);
        let escaped: Vec<_> = tried.iter().filter(|attempt| attempt.seen.is_some()).collect();
        assert!(escaped.is_empty(), "as {who:?}: {escaped:#?}");
        assert!(tried.len() >= 50, "{} attempts", tried.len());
        for attempt in &tried {
            println!("{who:?} {}: {}", attempt.name, attempt.why);
        }
        drop(forgotten);
    }
}
