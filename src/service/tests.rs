use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::base::event::{Event, Observer, Quiet, Stopper};
use crate::state::State as Memory;
use crate::sys::process_tree::{Member, is_alive, stat};

/// An application of a few lines in a directory of its own.
struct App {
    dir: tempfile::TempDir,
}

impl App {
    fn new() -> Self {
        let app = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(app.path("app")).unwrap();
        app
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("app")
    }

    /// A service of these keys, ready when the file `up` is there.
    fn service(&self, keys: &str) -> Service {
        let text = format!("[service]\nready = [\"up\"]\n{keys}\n[[check]]\nname = \"up\"\nfile = \"up\"\n");
        let plan = Plan::parse(&text, &self.root().join("lifeboat.toml")).unwrap();
        Service::of(&plan).unwrap().remembering(Memory::of(&self.path("state"), &self.root()))
    }

    fn script(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.root().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn member(&self, file: &str) -> Member {
        stat(fs::read_to_string(self.root().join(file)).unwrap().trim().parse().unwrap()).unwrap().member
    }
}

/// A process that is none of the application's business.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("300").current_dir("/").spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Collects what is told.
#[derive(Default)]
struct Told(Mutex<Vec<(&'static str, String)>>);

impl Observer for Told {
    fn event(&self, event: Event<'_>) {
        if let Event::Notice(notice) = event {
            self.0.lock().unwrap().push((notice.code, notice.text.clone()));
        }
    }
}

#[test]
fn a_daemon_that_left_its_parent_is_known_by_its_mark_and_stopped() {
    let app = App::new();
    let service = app
        .service("start = \"(setsid sh -c 'echo $$ >pid; sleep 301 & touch up; wait' >/dev/null 2>&1 &)\"");
    assert_eq!(service.state().state, State::Stopped);
    let started = service.start(&Quiet).unwrap();
    assert!(started.command_took.is_some());
    let daemon = app.member("pid");
    // another run of lifeboat knows it too
    let again = app.service("start = \"true\"");
    let sight = again.state();
    assert!(sight.is_running() && sight.pids().contains(&daemon.pid) && sight.pids().len() == 2, "{sight:?}");
    assert_eq!(again.start(&Quiet).unwrap_err().kind, ServiceErrorKind::Running);
    again.can_stop().unwrap();
    let stopped = again.stop(&Quiet).unwrap();
    assert_eq!((stopped.ended, stopped.killed), (2, 0));
    assert!(!is_alive(daemon));
    assert_eq!(again.state().state, State::Stopped);
    assert_eq!(again.stop(&Quiet).unwrap().ended, 0);
}

#[test]
fn a_server_in_the_foreground_lives_on_by_itself() {
    let app = App::new();
    app.script("serve", "echo $$ >pid; echo serving; touch up; exec sleep 302");
    let service = app.service("start = [\"./serve\"]");
    let started = service.start(&Quiet).unwrap();
    assert_eq!((started.command_took, started.output.as_str()), (None, "serving"));
    let server = app.member("pid");
    assert!(is_alive(server));
    assert_eq!(service.stop(&Quiet).unwrap().ended, 1);
    assert!(!is_alive(server));
}

#[test]
fn one_that_ignores_term_is_killed_with_its_children_and_nobody_else() {
    let app = App::new();
    let mut stranger = Stranger::new();
    app.script("serve", "trap '' TERM; echo $$ >pid; (trap '' TERM; sleep 300) & touch up; sleep 300");
    let service = app.service("start = [\"./serve\"]\npidfile = \"pid\"\nstop_timeout = \"300ms\"");
    service.start(&Quiet).unwrap();
    let told = Told::default();
    let stopped = service.stop(&told).unwrap();
    assert!(stopped.killed >= 2 && stopped.took >= Duration::from_millis(300), "{stopped:?}");
    let told = told.0.into_inner().unwrap();
    assert!(
        told.iter().any(|(code, text)| *code == "service-killed" && text.contains("sleep 300")),
        "{told:?}"
    );
    assert!(stranger.lives());
    assert_eq!(service.state().state, State::Stopped);
}

#[test]
fn one_that_writes_its_pid_file_anew_is_followed() {
    let app = App::new();
    // on TERM it hands over to a successor, which ends by itself a little later
    app.script("successor", "echo $$ >pid.new; mv pid.new pid; sleep 0.5");
    app.script(
        "serve",
        "trap './successor & exit 0' TERM; echo $$ >pid.new; mv pid.new pid; touch up; while :; do sleep 0.05; done",
    );
    app.script("start", "./serve & sleep 0.1; touch up");
    let service = app.service("start = [\"./start\"]\npidfile = \"pid\"");
    service.start(&Quiet).unwrap();
    let first = app.member("pid");
    let stopped = service.stop(&Quiet).unwrap();
    let last: i32 = fs::read_to_string(app.root().join("pid")).unwrap().trim().parse().unwrap();
    assert_ne!(first.pid, last);
    assert!(stat(last).is_none_or(|found| found.is_dead()) && !is_alive(first));
    assert!(stopped.took >= Duration::from_millis(400) && stopped.killed == 0, "{stopped:?}");
}

#[test]
fn a_stale_pid_file_kills_nobody() {
    let app = App::new();
    let mut stranger = Stranger::new();
    let file = app.root().join("pid");
    fs::write(&file, format!("{}\n", stranger.0.id())).unwrap();
    for stop in ["", "stop = \"kill -9 $(cat pid)\"\n"] {
        let service = app.service(&format!("start = \"true\"\n{stop}pidfile = \"pid\""));
        // written when the process was there already: somebody's, not the application's
        fs::File::options().write(true).open(&file).unwrap().set_modified(now()).unwrap();
        let State::Unknown { why } = service.state().state else { panic!("{:?}", service.state()) };
        assert!(why.contains("no sign of being the service") && why.contains("sleep 300"), "{why}");
        let error = service.stop(&Quiet).unwrap_err();
        assert_eq!(error.kind, ServiceErrorKind::Unknown, "{error}");
        assert!(stranger.lives());
        // written long before that process began: the number was given away since
        let before = now() - Duration::from_secs(3600);
        fs::File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
        assert_eq!(service.state().state, State::Stopped);
        assert_eq!(service.stop(&Quiet).unwrap().ended, 0);
        assert!(stranger.lives());
    }
}

fn now() -> std::time::SystemTime {
    crate::base::time::Clock::System.now().0.into()
}

#[test]
fn a_process_of_the_tree_is_believed_from_its_pid_file() {
    let app = App::new();
    // started by hand, not by lifeboat
    let mut hand = Command::new("sh");
    hand.args(["-c", "sleep 303 & echo $! >pid; exec sleep 303"]).current_dir(app.root());
    let mut hand = hand.spawn().unwrap();
    while fs::read_to_string(app.root().join("pid")).unwrap_or_default().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let service = app.service("pidfile = \"pid\"");
    assert!(service.state().is_running());
    assert_eq!(service.can_start().unwrap_err().what, "the plan does not say how the service starts");
    assert_eq!(service.stop(&Quiet).unwrap().ended, 1);
    assert!(hand.try_wait().unwrap().is_none());
    hand.kill().unwrap();
    hand.wait().unwrap();
}

#[test]
fn a_start_that_never_gets_ready_is_taken_back_and_says_what_it_printed() {
    let app = App::new();
    app.script("serve", "echo $$ >pid; (setsid sleep 304 &) ; echo cannot find the database; exec sleep 304");
    let keys = "start = [\"./serve\"]\nready_timeout = \"300ms\"\nstart_timeout = \"300ms\"";
    let error = app.service(keys).start(&Quiet).unwrap_err();
    assert_eq!((error.kind, error.output.as_str()), (ServiceErrorKind::NotReady, "cannot find the database"));
    assert!(error.text.starts_with("the service was not ready in") && error.text.contains("up: "), "{error}");
    assert_eq!(app.service(keys).state().members, []);
    // one that ends, and one that fails
    app.script("serve", "echo bad port; exit 3");
    let error = app.service(keys).start(&Quiet).unwrap_err();
    assert_eq!(error.text, "the service ended before it was ready: the start command exited with 3");
    assert_eq!(error.output, "bad port");
    let error = app.service("start = [\"./none\"]").start(&Quiet).unwrap_err();
    assert_eq!(error.kind, ServiceErrorKind::Command);
    // one whose daemon dies after the start command returned well
    app.script("serve", "(setsid sleep 0.1 &) ; true");
    let error = app.service("start = [\"./serve\"]").start(&Quiet).unwrap_err();
    assert!(error.text.ends_with("none of its processes lives"), "{error}");
}

#[test]
fn a_stop_command_that_returns_at_once_is_waited_for() {
    let app = App::new();
    app.script(
        "serve",
        "trap 'sleep 0.4; exit 0' TERM; echo $$ >pid; touch up; while :; do sleep 0.02; done",
    );
    let keys = "start = [\"./serve\"]\nstop = \"kill $(cat pid); echo told\"";
    let service = app.service(keys);
    service.start(&Quiet).unwrap();
    let server = app.member("pid");
    let stopped = service.stop(&Quiet).unwrap();
    assert!(!is_alive(server) && stopped.took >= Duration::from_millis(350), "{stopped:?}");
    assert_eq!(stopped.output, "told");
    // one that fails: its processes are told directly
    let service = app.service("start = [\"./serve\"]\nstop = \"exit 7\"");
    service.start(&Quiet).unwrap();
    let told = Told::default();
    assert_eq!(service.stop(&told).unwrap().killed, 0);
    assert_eq!(told.0.into_inner().unwrap()[0].0, "service-told");
    assert_eq!(service.state().state, State::Stopped);
}

#[test]
fn an_interrupt_ends_the_waiting() {
    let app = App::new();
    app.script("serve", "echo $$ >pid; exec sleep 305");
    let service = app.service("start = [\"./serve\"]");
    let stopper = Stopper::default();
    stopper.0.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(service.start(&stopper).unwrap_err().kind, ServiceErrorKind::Interrupted);
    assert_eq!(service.state().members, []);
    app.script("serve", "trap '' TERM; touch up; while :; do sleep 0.02; done");
    service.start(&Quiet).unwrap();
    let began = Instant::now();
    assert_eq!(service.stop(&stopper).unwrap_err().kind, ServiceErrorKind::Interrupted);
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(service.state().is_running());
    let quick = app.service("start = [\"./serve\"]\nstop_timeout = \"100ms\"");
    assert!(quick.stop(&Quiet).unwrap().killed > 0);
}

#[test]
fn without_a_word_in_the_plan_its_listener_is_known_by_port_and_tree() {
    let app = App::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!("[service]\nstart = \"true\"\n[[check]]\nname = \"port\"\nport = {port}\n");
    let plan = Plan::parse(&text, &app.root().join("lifeboat.toml")).unwrap();
    let service = Service::of(&plan).unwrap();
    assert_eq!(service.state().state, State::Stopped);
    let serve = |dir: &Path| {
        let code = format!(
            "import socket,time\ns=socket.socket()\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\ns.bind(('127.0.0.1',{port}))\ns.listen()\nopen('{}','w')\ntime.sleep(300)",
            app.path("listens").display()
        );
        let child = Command::new("python3").args(["-c", &code]).current_dir(dir).spawn().unwrap();
        while !app.path("listens").exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        fs::remove_file(app.path("listens")).unwrap();
        Stranger(child)
    };
    let mut other = serve(Path::new("/"));
    let State::Unknown { why } = service.state().state else { panic!("{:?}", service.state()) };
    assert!(why.contains("listens on its port"), "{why}");
    assert!(service.can_stop().is_err());
    assert!(other.lives());
    drop(other);
    let mut own = serve(&app.root());
    assert_eq!(service.state().pids(), [own.0.id() as i32]);
    assert_eq!(service.stop(&Quiet).unwrap().ended, 1);
    assert!(!own.lives());
}

const CHILD: &str = "LIFEBOAT_TEST_UNIT";

// systemd is not the first process of every machine that runs tests: this one obeys a stand-in that really starts and
// stops processes. In a process of its own, as PATH concerns all of one.
#[test]
#[expect(clippy::disallowed_methods, reason = "tells the child from the parent")]
fn a_unit_is_started_and_stopped_through_systemctl() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return obeys_systemctl(Path::new(&dir));
    }
    let app = App::new();
    fs::create_dir(app.path("bin")).unwrap();
    let fake = r#"#!/bin/sh
cd "$(dirname "$0")/../app" || exit 1
case $1 in
show) [ "$4" = gone.service ] && { echo LoadState=not-found; exit; }
  pid=$(cat main 2>/dev/null); kill -0 "${pid:-x}" 2>/dev/null || pid=0
  echo LoadState=loaded; echo MainPID=$pid; echo ControlGroup=
  [ "$pid" = 0 ] && echo ActiveState=inactive || echo ActiveState=active ;;
start) [ -e broken ] && { echo "Job for $3 failed" >&2; exit 1; }
  env -u LIFEBOAT_RUN setsid sh -c 'echo $$ >main; touch up; sleep 306 & wait' >/dev/null 2>&1 &
  until [ -s main ] && kill -0 "$(cat main)"; do sleep 0.02; done ;;
stop) kill -- -"$(cat main)"; while kill -0 "$(cat main)" 2>/dev/null; do sleep 0.02; done; rm -f main up ;;
esac
"#;
    app.script("../bin/systemctl", fake.split_once('\n').unwrap().1);
    let path = format!("{}:{}", app.path("bin").display(), std::env::var("PATH").unwrap());
    let name = "service::tests::a_unit_is_started_and_stopped_through_systemctl";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, app.dir.path())
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

fn obeys_systemctl(dir: &Path) {
    let of = |unit: &str| {
        let text = format!(
            "[service]\nunit = \"{unit}\"\nready = [\"up\"]\n[[check]]\nname = \"up\"\nfile = \"up\"\n"
        );
        Service::of(&Plan::parse(&text, &dir.join("app/lifeboat.toml")).unwrap()).unwrap()
    };
    let gone = of("gone.service").can_stop().unwrap_err();
    assert!(gone.what.contains("gone.service") && gone.what.contains("not-found"), "{gone}");
    let service = of("aura.service");
    service.can_start().unwrap();
    assert_eq!(service.state().state, State::Stopped);
    let started = service.start(&Quiet).unwrap();
    let sight = service.state();
    assert!(sight.is_running() && sight.main == started.main && sight.members.len() == 2, "{sight:?}");
    assert_eq!(service.stop(&Quiet).unwrap().ended, 2);
    assert_eq!(service.state().state, State::Stopped);
    fs::write(dir.join("app/broken"), "").unwrap();
    let error = service.start(&Quiet).unwrap_err();
    assert_eq!(error.kind, ServiceErrorKind::Command);
    assert!(error.output.contains("Job for aura.service failed"), "{}", error.output);
}
