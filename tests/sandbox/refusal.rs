//! A host that allows no isolation is told apart from one that is broken, and the fix is for what forbids.

use std::process::Command as Process;

use lifeboat::sandbox::Command;

use crate::world::{LIFEBOAT, PYTHON, Who, World, have_python, is_root, skip};

// In containers root is not what it seems.
#[test]
fn root_without_the_capability_is_told_how_to_start_the_container() {
    if !is_root() {
        return skip("taking capabilities away needs root");
    }
    let world = World::new(Who::Root);
    let way = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    let heard = world.play_by(world.process_by(&way), &world.recipe(), &[Command::shell("echo ran")]);
    heard.assert_refused();
    assert!(
        heard.fix.contains("--privileged") && heard.failed.contains("root without CAP_SYS_ADMIN"),
        "{heard:?}"
    );
}

// Gives whoever it starts a system in which the setting of user namespaces is 0.
const NONE_LEFT: &str = "import ctypes, os, sys
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    assert ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0
    os.write(ready[1], b'.')
    os.read(go[0], 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    with open('/proc/sys/user/max_user_namespaces', 'w') as file:
        file.write('0')
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(ready[0], 1)
for name in ('uid_map', 'gid_map'):
    with open(f'/proc/{child}/{name}', 'w') as file:
        file.write('0 0 70000')
os.write(go[1], b'.')
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))";

#[test]
fn a_user_without_user_namespaces_is_told_the_setting() {
    if !is_root() || !have_python() {
        return skip("changing the setting needs root");
    }
    let can = Process::new("unshare").args(["--user", "true"]).status().is_ok_and(|status| status.success());
    if !can {
        // a container's rule as well: then every test of the sandbox has seen the refusal itself
        eprintln!("SKIPPED: this host has no user namespaces to take away");
        return;
    }
    let world = World::new(Who::Ordinary);
    let way = [PYTHON, "-c", NONE_LEFT];
    let heard = world.play_by(world.process_by(&way), &world.recipe(), &[Command::shell("echo ran")]);
    heard.assert_refused();
    assert!(heard.fix.contains("sysctl -w user.max_user_namespaces="), "{heard:?}");
    assert!(heard.failed.contains("make a user namespace"), "{heard:?}");
}

// What is wrong with the recipe is not the host's fault.
#[test]
fn a_wrong_recipe_is_no_refusal() {
    for who in crate::world::people() {
        let world = World::new(who);
        let mut recipe = world.recipe();
        recipe.hide = vec!["not/absolute".into()];
        let heard = world.play(&recipe, &[]);
        assert_eq!((heard.status, heard.fix.as_str()), (1, ""), "{heard:?}");
        assert!(heard.failed.contains("not/absolute"), "{heard:?}");
        if who == Who::Ordinary {
            let mut recipe = world.recipe();
            recipe.user = Some((1, 1, vec![]));
            let heard = world.play(&recipe, &[]);
            assert!(heard.status == 1 && heard.failed.contains("only root"), "{heard:?}");
        }
    }
}

// doctor finds out by doing it.
#[test]
fn doctor_tries_and_tells_the_fix() {
    let dir = tempfile::tempdir().unwrap();
    let lifeboat = |way: &[&str], args: &[&str]| {
        let mut words = way.to_vec();
        words.push(LIFEBOAT);
        let mut process = Process::new(words[0]);
        process
            .args(&words[1..])
            .args(args)
            .env("HOME", dir.path())
            .env("LIFEBOAT_REPOSITORY", dir.path().join("repo"));
        let output = process.current_dir(dir.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    lifeboat(&[], &["init", "-q"]);
    let check = |way: &[&str]| {
        let text = lifeboat(way, &["doctor", "--json"]);
        let answer: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        answer["checks"].as_array().unwrap().iter().find(|check| check["name"] == "sandbox").unwrap().clone()
    };
    let here = check(&[]);
    if crate::world::people().contains(&crate::world::oneself()) {
        assert_eq!(here["verdict"], "pass", "{here}");
        assert!(here["text"].as_str().unwrap().contains("mount namespace"), "{here}");
    } else {
        assert_eq!(here["verdict"], "warn", "{here}");
    }
    if is_root() {
        let poor = check(&["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
        assert_eq!(poor["verdict"], "warn", "{poor}");
        assert!(poor["fix"].as_str().unwrap().contains("--privileged"), "{poor}");
    }
}
