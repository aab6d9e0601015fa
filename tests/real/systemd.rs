//! A service that systemd keeps, under a real systemd: rolled back, taken back, and a host that goes down in the middle of a hotfix.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::env::{Done, TestEnv, have, have_root, run, skip, tool};

/// How long a boot, or what comes after one, may take.
const PATIENCE: Duration = Duration::from_secs(60);

const UNIT: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sh DIR/server.sh\n[Install]\nWantedBy=multi-user.target\n";
const PLAN: &str = r#"[app]
name = "kept"
exclude = ["state/"]
keep_on_rollback = ["state/"]
[service]
unit = "kept.service"
ready = ["serves"]
ready_count = 1
ready_timeout = "10s"
[[check]]
name = "serves"
command = "test \"$(cat state/serves)\" = \"$(cat version)\""
[hotfix]
checks = ["serves"]
"#;
const SERVER: &str = "cd \"$(dirname \"$0\")\"\n(trap '' HUP; sleep 4000) &\ncp version state/serves\necho $$ >>state/starts\nwait\n";

/// A host: its system manager, which can go down and come up again.
struct Host {
    units: PathBuf,
    manager: Option<Child>,
}

impl Host {
    fn boot(units: &Path) -> Self {
        let mut host = Self { units: units.to_owned(), manager: None };
        host.up();
        host
    }

    fn up(&mut self) {
        let mut command = Command::new(tool("boot_systemd.sh"));
        let child = command.arg(&self.units).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.manager = Some(child.spawn().unwrap());
        wait("systemd is up", || {
            self.first().is_some()
                && self.run(&["systemctl", "is-active", "-q", "multi-user.target"]).code == 0
        });
    }

    /// The power fails.
    fn down(&mut self) {
        if let Some(mut manager) = self.manager.take() {
            let group = fs::read_to_string(format!("/proc/{}/cgroup", manager.id())).unwrap_or_default();
            let _ = manager.kill();
            let _ = manager.wait();
            let all = run(Command::new("findmnt").args(["-n", "-t", "cgroup2", "-o", "TARGET"])).stdout;
            let group = group.lines().find_map(|line| line.strip_prefix("0::/")).map(str::to_owned);
            if let (Some(all), Some(group)) =
                (all.lines().next(), group.filter(|g| g.starts_with("lifeboat-test-")))
            {
                let script = format!("sleep 0.3; find {all}/{group} -depth -type d -exec rmdir {{}} +");
                run(Command::new("sh").args(["-c", &script]));
            }
        }
    }

    // Its first process, as the host around it sees it.
    fn first(&self) -> Option<String> {
        let outer = self.manager.as_ref()?.id();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
        let first = children.split_whitespace().next()?.to_owned();
        let name = fs::read_to_string(format!("/proc/{first}/comm")).ok()?;
        (name.trim() == "systemd").then_some(first)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first().unwrap(), "-m", "-p", "-C", "-i", "--"]).args(words);
        command.env("SYSTEMD_UNIT_PATH", "/etc/systemd/system");
        command
    }

    fn run(&self, words: &[&str]) -> Done {
        run(&mut self.command(words))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.down();
    }
}

#[track_caller]
fn wait(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// An application whose service is a unit.
struct Kept {
    env: TestEnv,
    dir: PathBuf,
    host: Host,
}

impl Kept {
    fn new() -> Option<Self> {
        if !have_root("a system manager") || !have(&["unshare", "nsenter", "systemctl", "findmnt"]) {
            return None;
        }
        if run(Command::new("findmnt").args(["-t", "cgroup2"])).code != 0 {
            skip("there is no cgroup2 hierarchy, which systemd needs");
            return None;
        }
        let env = TestEnv::new();
        let (dir, units) = (env.path("kept"), env.path("units"));
        fs::create_dir_all(dir.join("state")).unwrap();
        fs::create_dir(&units).unwrap();
        for (name, text) in [("lifeboat.toml", PLAN), ("server.sh", SERVER), ("version", "one")] {
            fs::write(dir.join(name), text).unwrap();
        }
        fs::write(units.join("kept.service"), UNIT.replace("DIR", dir.to_str().unwrap())).unwrap();
        let host = Host::boot(&units);
        host.run(&["systemctl", "enable", "--now", "-q", "kept.service"]).ok();
        let kept = Self { env, dir, host };
        wait("the service serves", || kept.serves() == "one");
        kept.lifeboat(&["snapshot", "-q"]).ok();
        Some(kept)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command(&[crate::env::LIFEBOAT]);
        self.env.set(&mut command);
        command.env("LIFEBOAT_STATE_DIR", self.env.path("lifeboat-state"));
        command.arg("-c").arg(self.dir.join("lifeboat.toml")).args(args);
        command
    }

    #[track_caller]
    fn lifeboat(&self, args: &[&str]) -> Done {
        run(&mut self.command(args))
    }

    fn serves(&self) -> String {
        fs::read_to_string(self.dir.join("state/serves")).unwrap_or_default()
    }

    fn main_pid(&self) -> String {
        self.host.run(&["systemctl", "show", "-P", "MainPID", "kept.service"]).ok().stdout.trim().to_owned()
    }

    fn is_active(&self) -> bool {
        self.host.run(&["systemctl", "is-active", "-q", "kept.service"]).code == 0
    }

    fn armed(&self) -> Value {
        let status = self.lifeboat(&["hotfix", "status", "--json"]).ok();
        serde_json::from_str::<Value>(&status.stdout).unwrap()["armed"].clone()
    }
}

#[test]
fn a_unit_is_stopped_with_all_its_processes_and_started_again() {
    let Some(kept) = Kept::new() else { return };
    let before = kept.main_pid();
    fs::write(kept.dir.join("version"), "two").unwrap();
    kept.host.run(&["systemctl", "restart", "kept.service"]).ok();
    wait("the new version serves", || kept.serves() == "two");
    let second = kept.main_pid();
    assert_ne!(before, second);
    kept.lifeboat(&["rollback", "-q"]).ok();
    assert!(kept.is_active());
    assert_eq!((kept.serves().as_str(), kept.main_pid() == second), ("one", false));
    // of the child that did not end by itself, one is there: that of the service that runs
    let pids = kept.host.run(&["systemctl", "show", "-P", "TasksCurrent", "kept.service"]).ok().stdout;
    assert!(["2", "[not set]"].contains(&pids.trim()), "{pids}");
    kept.lifeboat(&["undo", "-q"]).ok();
    assert_eq!(kept.serves(), "two");

    // a snapshot whose service cannot start: back again by itself
    fs::write(kept.dir.join("server.sh"), "exit 3\n").unwrap();
    fs::write(kept.dir.join("version"), "three").unwrap();
    kept.lifeboat(&["snapshot", "-q", "--tag", "bad"]).ok();
    fs::write(kept.dir.join("server.sh"), SERVER).unwrap();
    fs::write(kept.dir.join("version"), "two").unwrap();
    let done = kept.lifeboat(&["rollback", "@bad"]).exits(30);
    assert!(done.stdout.contains("TAKEN BACK"), "{}", done.stdout);
    assert!(kept.is_active());
    assert_eq!(fs::read_to_string(kept.dir.join("server.sh")).unwrap(), SERVER);
}

#[test]
fn a_host_that_goes_down_in_a_hotfix_finds_it_taken_back_when_it_is_up_again() {
    let Some(mut kept) = Kept::new() else { return };
    let path = kept.lifeboat(&["hotfix", "unit", "--install"]).ok().stdout;
    assert_eq!(path, "/etc/systemd/system/lifeboat-hotfix-kept.service\n");
    let change = format!("cd '{}'; echo two >version; systemctl restart kept.service", kept.dir.display());
    let how =
        ["hotfix", "--baseline", "0s", "--watch", "10m", "--confirm-within", "5s", "--", "sh", "-c", &change];
    let mut command = kept.command(&how);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait("it is watched", || kept.armed()["stage"] == "watching");
    wait("the change serves", || kept.serves() == "two\n");
    kept.host.down();
    let _ = child.wait();
    assert_eq!(fs::read_to_string(kept.dir.join("version")).unwrap(), "two\n");

    // nobody confirmed it: the unit takes it back
    kept.host.up();
    wait("it is taken back", || kept.armed().is_null());
    assert_eq!(fs::read_to_string(kept.dir.join("version")).unwrap(), "one");
    wait("the service serves", || kept.is_active() && kept.serves() == "one");
    let log = kept.lifeboat(&["log", "show", "--kind", "hotfix", "--json"]).ok();
    let log: Value = serde_json::from_str(&log.stdout).unwrap();
    let last = log["records"].as_array().unwrap().last().unwrap();
    assert_eq!(last["body"]["verdict"], "fail", "{last}");
    kept.lifeboat(&["log", "verify"]).ok();
    // and a boot without anything armed does nothing
    let unit = ["systemctl", "show", "-P", "ConditionResult", "lifeboat-hotfix-kept.service"];
    kept.host.down();
    kept.host.up();
    assert_eq!(kept.host.run(&unit).ok().stdout, "no\n");
}
