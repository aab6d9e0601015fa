//! Whatever happens, nothing is left: no process, no mount, no place of a mount.

use std::time::Duration;

use lifeboat::sandbox::{Command, Sandbox, SandboxError};
use serde_json::json;

use crate::world::{PYTHON, Who, World, begin, have_python, people, processes_with, until};

// A daemon as daemons are: forked twice, a session of its own, deaf to signals.
const DAEMON: &str = "import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        null = os.open('/dev/null', os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        while True:
            time.sleep(1)
time.sleep(0.2)";

fn daemon(mark: &str) -> Command {
    Command::new([PYTHON, "-c", DAEMON, mark])
}

fn mark(world: &World) -> String {
    format!("daemon-of-{}", world.host.path().file_name().unwrap().display())
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn daemons_end_with_the_sandbox() {
    if !have_python() {
        return;
    }
    for who in people() {
        let (world, before) = (World::new(who), mounts());
        let mark = mark(&world);
        let count = format!("grep -la '[d]aemon{}' /proc/[0-9]*/cmdline | wc -l", &mark["daemon".len()..]);
        // those that only start others may take a moment to end
        let line = format!(
            "for i in 1 2 3 4 5 6 7 8 9; do n=$({count}); test $n -le 2 && break; sleep 0.3; done; echo $n"
        );
        let see = Command::shell(line);
        let heard = world.play(&world.recipe(), &[daemon(&mark), daemon(&mark), see]);
        assert_eq!(heard.ended[2].1, "2\n", "as {who:?}, both lived on beside the next command: {heard:?}");
        assert_eq!(heard.left, Some(0), "as {who:?}");
        assert!(processes_with(&mark).is_empty(), "as {who:?}: {:?}", processes_with(&mark));
        assert_eq!(mounts(), before, "no mount on the host");
    }
}

#[test]
fn everything_ends_with_a_caller_that_is_killed() {
    if !have_python() {
        return;
    }
    for who in people() {
        let (world, before) = (World::new(who), mounts());
        let mark = mark(&world);
        let recipe = world.recipe();
        let script = json!({ "recipe": recipe, "commands": [daemon(&mark), Command::shell("sleep 600")] });
        let mut caller = begin(world.process(), &script);
        // the daemon, and the caller's own script is no argument of anybody
        until("the daemon runs", || processes_with(&mark).values().any(|line| !line.contains("__sandbox")));
        caller.kill().unwrap();
        caller.wait().unwrap();
        until("all have ended", || processes_with(&mark).is_empty() && helpers(&world).is_empty());
        assert_eq!(mounts(), before);
        // the mounts are gone: what they lay on can be removed
        std::fs::remove_dir_all(&recipe.scratch).unwrap();
    }
}

#[test]
fn everything_ends_with_a_helper_that_is_killed() {
    if !have_python() {
        return;
    }
    for who in people() {
        let world = World::new(who);
        let mark = mark(&world);
        let script =
            json!({ "recipe": world.recipe(), "commands": [daemon(&mark), Command::shell("sleep 600")] });
        let mut caller = begin(world.process(), &script);
        until("the daemon runs", || !processes_with(&mark).is_empty());
        let helper = child_of(caller.id());
        rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
        until("all have ended", || processes_with(&mark).is_empty());
        assert_eq!(caller.wait().unwrap().code(), Some(1), "the caller says that the sandbox is lost");
    }
}

fn helpers(world: &World) -> Vec<String> {
    // an ordinary user's program lies in the world, root's does not
    match world.who {
        Who::Ordinary => {
            processes_with(&format!("{} __sandbox", world.program().display())).into_values().collect()
        }
        Who::Root => Vec::new(),
    }
}

fn child_of(parent: u32) -> rustix::process::Pid {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let first = children.split_whitespace().next().unwrap().parse().unwrap();
    rustix::process::Pid::from_raw(first).unwrap()
}

#[test]
fn a_job_is_stopped_as_a_whole_and_the_rest_lives_on() {
    if !have_python() || !people().iter().any(|&who| crate::world::is_self(who)) {
        return;
    }
    let world = World::new(crate::world::oneself());
    let mark = mark(&world);
    let mut sandbox = Sandbox::start(&world.recipe()).unwrap();
    let stays = sandbox.spawn(&Command::new(["sleep", "600"]), |_, _| {}).unwrap();
    let goes = sandbox.spawn(&daemon(&mark), |_, _| {}).unwrap();
    until("the daemon runs", || processes_with(&mark).len() == 1);
    until("its starter has ended", || sandbox.ended(goes).unwrap().is_some());
    sandbox.stop_job(goes, Duration::from_millis(100)).unwrap();
    assert!(processes_with(&mark).is_empty(), "{:?}", processes_with(&mark));
    assert_eq!(sandbox.ended(stays).unwrap(), None, "the other runs");
    let ended = sandbox.stop_job(stays, Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!(ended.signal, Some(15), "asked, not killed");
    assert_eq!(sandbox.close().unwrap().left, 0);
}

#[test]
fn a_server_is_spoken_to_from_inside() {
    if !have_python() || !people().iter().any(|&who| crate::world::is_self(who)) {
        return;
    }
    let world = World::new(crate::world::oneself());
    // production's server has the very same port
    let production = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = production.local_addr().unwrap().port().to_string();
    let (_, recipe) = world.restored();
    let mut sandbox = Sandbox::start(&recipe).unwrap();
    let ask = format!(
        "import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/who', timeout=5).read().decode())"
    );
    let ask = Command::new([PYTHON, "-c", &ask]);
    let run = |sandbox: &mut Sandbox| {
        let mut out = Vec::new();
        let ended = sandbox.run(&ask, &mut |_, bytes| out.extend_from_slice(bytes), &|| false).unwrap();
        (ended.success(), String::from_utf8_lossy(&out).into_owned())
    };
    assert!(!run(&mut sandbox).0, "nobody answers before the start: production is not reached");
    let server = sandbox
        .spawn(&Command::new([PYTHON, "-m", "http.server", &port, "--bind", "127.0.0.1"]), |_, _| {})
        .unwrap();
    let mut answer = (false, String::new());
    until("the server answers", || {
        answer = run(&mut sandbox);
        answer.0
    });
    assert_eq!(answer.1, "restored\n");
    assert!(sandbox.ended(server).unwrap().is_none());
    assert_eq!(sandbox.close().unwrap().left, 0);
}

#[test]
fn an_interruption_stops_at_once_and_a_missing_program_is_named() {
    if !people().iter().any(|&who| crate::world::is_self(who)) {
        return;
    }
    let world = World::new(crate::world::oneself());
    let mut sandbox = Sandbox::start(&world.recipe()).unwrap();
    let stopped = sandbox.run(&Command::new(["sleep", "600"]), &mut |_, _| {}, &|| true);
    assert!(matches!(stopped, Err(SandboxError::Interrupted)));
    let missing = sandbox.run(&Command::new(["/no/such/program"]), &mut |_, _| {}, &|| false).unwrap_err();
    assert!(missing.to_string().contains("/no/such/program"), "{missing}");
    let mut out = Vec::new();
    let echo = Command::new(["cat"]).stdin("said");
    assert!(sandbox.run(&echo, &mut |_, bytes| out.extend_from_slice(bytes), &|| false).unwrap().success());
    assert_eq!(out, b"said");
    assert_eq!(sandbox.close().unwrap().left, 0);
}

#[test]
fn without_isolation_all_ends_too_and_the_level_is_none() {
    if !have_python() {
        return;
    }
    let world = World::new(crate::world::oneself());
    let mark = mark(&world);
    let mut sandbox = Sandbox::unisolated(&world.recipe()).unwrap();
    assert_eq!(sandbox.active().level, lifeboat::sandbox::Level::None);
    assert!(!sandbox.active().downgrades.is_empty());
    sandbox.run(&daemon(&mark), &mut |_, _| {}, &|| false).unwrap();
    until("only the daemon is left of it", || processes_with(&mark).len() == 1);
    assert_eq!(sandbox.close().unwrap().left, 0);
    assert!(processes_with(&mark).is_empty());
}

// Twenty starts, every second one killed: what the host has after is what it had before.
#[test]
fn nothing_piles_up() {
    for who in people() {
        let (world, before) = (World::new(who), mounts());
        for round in 0..20 {
            let recipe = world.recipe();
            let mut caller = begin(
                world.process(),
                &json!({ "recipe": recipe, "commands": [Command::new(["sleep", if round % 2 == 0 { "0" } else { "600" }])] }),
            );
            if round % 2 == 1 {
                std::thread::sleep(Duration::from_millis(u64::from(round as u8) * 4));
                caller.kill().unwrap();
            }
            caller.stdout.take();
            caller.wait().unwrap();
            until("its directory can be removed", || std::fs::remove_dir_all(&recipe.scratch).is_ok());
        }
        assert_eq!(mounts(), before, "as {who:?}");
        until("the helpers have ended", || helpers(&world).is_empty());
    }
}
