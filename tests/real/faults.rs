//! Faults, injected one by one into the running sample application: whoever looks names each that is its matter, and
//! nothing else.
//!
//! The table has a row for each fault: how it is done, how it is mended, and what each look must then name that it did
//! not name before. Another look is a function like [`health`] and a column of the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use chrono::TimeDelta;
use lifeboat::base::Name;
use lifeboat::base::time::Clock;
use lifeboat::logbook::{self, Act};
use lifeboat::repo::Repo;
use lifeboat::repo::keys::WriterKey;
use lifeboat::store::local::LocalStore;

use crate::env::{TestEnv, have, is_root, run, say, skip};
use crate::runbooks::sample::Aura;

/// A fault.
struct Fault {
    name: &'static str,
    inject: fn(&mut Site<'_>),
    mend: fn(&mut Site<'_>),
    /// The checks of the plan that `health` then names and did not name before.
    health: &'static [&'static str],
    /// The lines that `status` then names and did not name before.
    status: &'static [&'static str],
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "the server is down",
        inject: |site| site.script("stop_aura.sh"),
        mend: |site| site.script("start_aura.sh"),
        health: &["an answer from the database", "front end", "health", "memory of the server"],
        status: &["health"],
    },
    Fault {
        name: "the JSON of /health is wrong",
        inject: |site| {
            site.script("stop_aura.sh");
            site.serve("import health; real = health.report; health.report = lambda: real() | {'status': 'degraded'}");
        },
        mend: |site| site.serve_as_before(),
        health: &["health"],
        status: &["health"],
    },
    Fault {
        name: "an error in the log",
        inject: |site| site.log("2026-01-01T00:00:00Z ERROR the cache is gone\n"),
        // it is told once
        mend: |_| {},
        health: &["errors in the log"],
        status: &["health"],
    },
    Fault {
        name: "the disk is full",
        inject: |site| site.fill(),
        mend: |site| fs::remove_file(site.aura.path("logs/filling")).unwrap(),
        health: &["a fifth of the disk is free", "disk"],
        status: &["disk", "health"],
    },
    Fault {
        name: "the server uses too much memory",
        inject: |site| {
            site.script("stop_aura.sh");
            site.serve("much = bytearray(b'x') * (200 << 20)");
        },
        mend: |site| site.serve_as_before(),
        health: &["memory of the server"],
        status: &["health"],
    },
    Fault {
        name: "a critical file is gone",
        inject: |site| site.rename("backend/benchmark.py", "run/benchmark.py"),
        mend: |site| site.rename("run/benchmark.py", "backend/benchmark.py"),
        health: &["critical files", "integration"],
        status: &["health"],
    },
    // what follows is not the application's: health looks at nothing of it
    Fault {
        name: "the newest snapshot is too old",
        inject: |site| site.aura.replace("rpo = \"24h\"", "rpo = \"1ms\""),
        mend: |site| site.aura.replace("rpo = \"1ms\"", "rpo = \"24h\""),
        health: &[],
        status: &["snapshot"],
    },
    Fault {
        name: "the last drill failed",
        inject: |site| {
            site.keep_repository();
            site.aura.replace("tests = [\"./run_tests.sh\"", "tests = [\"false\", \"./run_tests.sh\"");
            let done = site.aura.app.lifeboat(&["drill", "-q"]);
            site.aura.replace("tests = [\"false\", ", "tests = [");
            done.exits(20);
        },
        mend: |site| site.repository_as_before(),
        health: &[],
        status: &["drill"],
    },
    Fault {
        name: "the logbook is broken",
        inject: |site| {
            site.keep_repository();
            let first = site.records().into_iter().next().unwrap();
            fs::write(first, "{}").unwrap();
            site.aura.app.lifeboat(&["log", "verify"]).exits(40);
        },
        mend: |site| site.repository_as_before(),
        health: &[],
        status: &["logbook"],
    },
    Fault {
        name: "the clock was moved",
        inject: |site| {
            site.keep_repository();
            site.act_in_the_future();
        },
        mend: |site| site.repository_as_before(),
        health: &[],
        status: &["clock"],
    },
];

/// The sample application with all that faults need.
struct Site<'e> {
    env: &'e TestEnv,
    aura: Aura<'e>,
    server: Option<Child>,
    image: bool,
}

impl Site<'_> {
    fn script(&mut self, name: &str) {
        run(&mut Command::new(self.aura.path(name))).ok();
    }

    /// Starts another server of the same application: one that does this first.
    fn serve(&mut self, first: &str) {
        let text = format!(
            "import sys; sys.path.insert(0, 'backend'); {first}; import server; sys.exit(server.main())"
        );
        let log = fs::OpenOptions::new().append(true).open(self.aura.path("logs/aura.log")).unwrap();
        let child = Command::new("python3")
            .args(["-B", "-c", &text])
            .current_dir(self.aura.path(""))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        fs::write(self.aura.path("run/aura.pid"), child.id().to_string()).unwrap();
        self.server = Some(child);
        // it answers, well or not
        for _ in 0..400 {
            if self.aura.app.lifeboat(&["health", "-q", "front end"]).code == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the other server does not answer");
    }

    fn serve_as_before(&mut self) {
        if let Some(mut child) = self.server.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        fs::remove_file(self.aura.path("run/aura.pid")).unwrap();
        self.script("start_aura.sh");
    }

    fn log(&self, line: &str) {
        use std::io::Write as _;
        let mut log = fs::OpenOptions::new().append(true).open(self.aura.path("logs/aura.log")).unwrap();
        log.write_all(line.as_bytes()).unwrap();
    }

    // All but 20 MiB of the image, which is less than a twentieth.
    fn fill(&self) {
        let stat = rustix::fs::statvfs(self.aura.path("logs")).unwrap();
        let bytes = (stat.f_bavail * stat.f_frsize).saturating_sub(20 << 20);
        let file = fs::File::create(self.aura.path("logs/filling")).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.aura.path(from), self.aura.path(to)).unwrap();
    }

    // A logbook is append-only: what was written to it goes away with the whole repository only, and with what the host
    // has seen of it, which would notice.
    fn keep_repository(&self) {
        for name in ["repo", "state"] {
            let kept = self.env.path(&format!("{name}.kept"));
            run(Command::new("cp").arg("-a").arg(self.env.path(name)).arg(kept)).ok();
        }
    }

    fn repository_as_before(&mut self) {
        for name in ["repo", "state"] {
            fs::remove_dir_all(self.env.path(name)).unwrap();
            fs::rename(self.env.path(&format!("{name}.kept")), self.env.path(name)).unwrap();
        }
    }

    fn records(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = walkdir::WalkDir::new(self.env.repo().join("records"))
            .into_iter()
            .map(|entry| entry.unwrap().into_path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
            .collect();
        found.sort();
        found
    }

    fn act_in_the_future(&self) {
        let ahead = Clock::Fixed(Clock::System.now().0 + TimeDelta::hours(3));
        let repo = Repo::open(Arc::new(LocalStore::open(self.env.repo())), ahead).unwrap();
        let key = WriterKey::load(&self.env.path("home/writer_ed25519")).unwrap();
        let (kind, body) = ("restore".to_owned(), serde_json::json!({}));
        let act = Act { kind, host: Name::from("h"), user: Name::from("u"), body };
        logbook::append(&repo, &key, act).unwrap();
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.server.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The checks that `lifeboat health` does not pass, but those of the busy machine the test runs on.
fn health(site: &Site<'_>) -> BTreeSet<String> {
    let (answer, code) = site.aura.app.json(&["health"]);
    let checks = answer["checks"].as_array().unwrap();
    let is_red = |check: &&serde_json::Value| check["outcome"] != "pass";
    let name = |check: &serde_json::Value| check["name"].as_str().unwrap().to_owned();
    let is_required = |check: &&serde_json::Value| check["required"] == true;
    assert_eq!(code == 0, !checks.iter().filter(is_required).any(|check| is_red(&check)), "{answer:#}");
    checks.iter().filter(is_red).map(name).filter(|name| !name.starts_with("processors")).collect()
}

/// The lines of `lifeboat status` that say that something is wrong.
fn status(site: &Site<'_>) -> BTreeSet<String> {
    let (answer, _) = site.aura.app.json(&["status"]);
    let lines = answer["lines"].as_array().unwrap();
    let is_red =
        |line: &&serde_json::Value| !["pass", "not-judged"].contains(&line["verdict"].as_str().unwrap());
    lines.iter().filter(is_red).map(|line| line["name"].as_str().unwrap().to_owned()).collect()
}

/// A file system of its own for the application, so that it can be filled.
struct Image<'p> {
    point: &'p Path,
}

impl<'p> Image<'p> {
    fn mount(image: &Path, point: &'p Path) -> Option<Self> {
        if !is_root() || !have(&["mount"]) {
            skip("a full disk needs root");
            return None;
        }
        fs::File::create(image).unwrap().set_len(700 << 20).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").args(["-m", "0"]).arg(image)).ok();
        fs::create_dir(point).unwrap();
        let done = run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(point));
        if done.code != 0 {
            skip(&format!("an image cannot be mounted here: {}", done.stderr.trim()));
            return None;
        }
        // an installation wants an empty directory
        fs::remove_dir(point.join("lost+found")).unwrap();
        Some(Self { point })
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.point).status();
    }
}

#[test]
fn each_fault_is_named_and_nothing_else() {
    if !have(&["python3", "sh", "cp"]) {
        return;
    }
    let env = TestEnv::new();
    let (image, point) = (env.path("image"), env.path("aura"));
    // dropped last: the application lives on it
    let image = Image::mount(&image, &point);
    let aura = Aura::start(&env);
    aura.replace(
        "[runbook.daily]",
        "[[check]]\nname = \"memory of the server\"\nmemory = \"run/aura.pid\"\nmax = \"150M\"\n\n[runbook.daily]",
    );
    // whose process does not live in a rehearsal
    aura.replace("[drill]\n", "[drill]\nchecks = [\"health\", \"rows\", \"integration\"]\n");
    let mut site = Site { env: &env, aura, server: None, image: image.is_some() };
    // so that status has a good drill and a good verification to lose
    let drill = site.aura.app.lifeboat(&["drill", "-q"]).code;
    site.aura.app.lifeboat(&["verify", "-q", "--read-data"]).ok();
    let sound = [health(&site), status(&site)];
    assert!(sound[0].is_empty() || !site.image, "the sound application is red: {sound:?}");
    let mut wrong = Vec::new();
    for fault in FAULTS {
        if fault.name == "the disk is full" && !site.image
            || fault.name == "the last drill failed" && drill != 0
        {
            skip(&format!("{}: this host has no way to it", fault.name));
            continue;
        }
        (fault.inject)(&mut site);
        let found = [health(&site), status(&site)];
        let looks = [("health", fault.health), ("status", fault.status)];
        for (((look, expected), found), sound) in looks.iter().zip(&found).zip(&sound) {
            let named: Vec<&String> = found.difference(sound).collect();
            say(&format!("{}: {look} named {named:?}", fault.name));
            if named != *expected {
                wrong.push(format!("{}: {look} names {named:?}, and not {expected:?}", fault.name));
            }
        }
        (fault.mend)(&mut site);
        let after = [health(&site), status(&site)];
        if after != sound {
            wrong.push(format!("{}: mended, and still named: {after:?}", fault.name));
        }
    }
    drop(site);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
