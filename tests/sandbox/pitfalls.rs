//! What went wrong with isolation before, here or elsewhere, once for each.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use lifeboat::sandbox::{Command, Level, Network, Recipe};

use crate::world::{PYTHON, Who, World, have_python, have_root, people};

// P1: root with all its capabilities remounts the read-only system writable.
#[test]
fn p1_root_cannot_remount() {
    for who in people() {
        let world = World::new(who);
        let seen = world.shell(
            &world.recipe(),
            "mount -o remount,rw,bind / 2>/dev/null; mount -o remount,rw,bind /etc 2>/dev/null
             touch /etc/lifeboat-escaped 2>/dev/null && echo escaped
             grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | awk '{print $2}' | sort -u",
        );
        assert_eq!(seen, "0000000000000000\n", "as {who:?}");
        assert!(!Path::new("/etc/lifeboat-escaped").exists());
    }
}

// P2: root in a user namespace that maps one user meets files of the application's user as strangers.
#[test]
fn p2_root_becomes_the_applications_user() {
    if !have_root() {
        return;
    }
    let world = World::new(Who::Root);
    let (app, recipe) = world.restored();
    let tree = recipe.binds[0].source.clone();
    std::os::unix::fs::chown(&tree, Some(33), Some(34)).unwrap();
    std::fs::set_permissions(&tree, std::fs::Permissions::from_mode(0o700)).unwrap();
    let recipe = Recipe { user: Some((33, 34, vec![34, 35])), ..recipe };
    let seen = world
        .shell(&recipe, "id -u; id -g; id -G; stat -c %u:%g .; readlink /proc/self/ns/user; echo new > made");
    let host = std::fs::read_link("/proc/self/ns/user").unwrap();
    assert_eq!(seen, format!("33\n34\n34 35\n33:34\n{}\n", host.display()));
    assert_eq!(std::fs::metadata(tree.join("made")).unwrap().uid(), 33);
    assert!(!app.join("made").exists(), "production has no such file");
}

// P3: a socket in a directory that is bound read-only still connects.
#[test]
fn p3_sockets_of_services_are_covered() {
    for who in people() {
        let world = World::new(who);
        let path = world.directory("service").join("socket");
        let _service = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let line = format!("test -e {0} && ! test -S {0} && echo covered", path.display());
        let heard = world.play(&world.recipe(), &[Command::shell(line)]);
        assert_eq!(heard.only().1, "covered\n", "as {who:?}: {heard:?}");
        assert!(heard.active().masked_sockets.contains(&path), "{:?}", heard.active().masked_sockets);
        std::os::unix::net::UnixStream::connect(&path).expect("the host still has it");
    }
}

// P4: under a read-only system everything readable stays readable: what may not be is covered by name.
#[test]
fn p4_what_is_hidden_is_empty() {
    for who in people() {
        let world = World::new(who);
        let (directory, file) = (world.directory("private"), world.file("token", "secret"));
        std::fs::write(directory.join("key"), "secret").unwrap();
        let recipe = Recipe { hide: vec![directory.clone(), file.clone()], ..world.recipe() };
        let line = format!(
            "ls -A {}; cat {}; cat /etc/shadow 2>/dev/null; echo end",
            directory.display(),
            file.display()
        );
        assert_eq!(world.shell(&recipe, &line), "end\n", "as {who:?}");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "secret");
    }
}

// P5: a new host name is in no /etc/hosts, and looking oneself up fails.
#[test]
fn p5_the_host_keeps_its_name() {
    for who in people() {
        let world = World::new(who);
        let seen = world.shell(&world.recipe(), "cat /proc/sys/kernel/hostname; readlink /proc/self/ns/uts");
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let space = std::fs::read_link("/proc/self/ns/uts").unwrap();
        assert_eq!(seen, format!("{name}{}\n", space.display()), "as {who:?}");
    }
}

// P6: set-user-id programs do nothing inside, so the change of user is made from outside, for every command.
#[test]
fn p6_set_user_id_is_dead_and_the_user_is_changed_without() {
    if !have_root() {
        return;
    }
    let world = World::new(Who::Root);
    let copy = world.host.path().join("id");
    std::fs::copy("/usr/bin/id", &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let recipe = Recipe { user: Some((54321, 54321, vec![])), ..world.recipe() };
    let seen = world
        .shell(&recipe, &format!("{} -u; awk '/NoNewPrivs/ {{print $2}}' /proc/self/status", copy.display()));
    assert_eq!(seen, "54321\n1\n");
}

// P7: large temporary files in memory take it from production.
#[test]
fn p7_temporary_files_lie_on_disk() {
    for who in people() {
        let world = World::new(who);
        let recipe = world.recipe();
        let disk = std::fs::metadata(&recipe.scratch).unwrap().dev();
        let seen = world.shell(&recipe, "stat -c %d /tmp /var/tmp; echo kept > /tmp/file; stat -c %a /tmp");
        assert_eq!(seen, format!("{disk}\n{disk}\n1777\n"), "as {who:?}");
        assert_eq!(std::fs::read_to_string(recipe.scratch.join("tmp/file")).unwrap(), "kept\n");
    }
}

// P8: applications write outside their tree, and meet a read-only system.
#[test]
fn p8_named_places_are_writable_and_not_the_hosts() {
    for who in people() {
        let world = World::new(who);
        let state = world.directory("state");
        std::fs::write(state.join("rows"), "production").unwrap();
        // one that the host does not have, too: nothing is made there
        let missing = world.host.path().join("not/there/yet");
        let recipe = Recipe { writable: vec![state.clone(), missing.clone()], ..world.recipe() };
        let line = format!(
            "cd {} && ls -A && echo new > rows && cat rows && echo too > {}/file && cat {}/file",
            state.display(),
            missing.display(),
            missing.display()
        );
        assert_eq!(world.shell(&recipe, &line), "new\ntoo\n", "as {who:?}");
        assert_eq!(std::fs::read_to_string(state.join("rows")).unwrap(), "production");
        assert!(!world.host.path().join("not").exists());
    }
}

// P9: where part of /proc is covered, as in containers, no fresh one may be mounted by an ordinary user.
#[test]
fn p9_a_covered_proc_is_told_and_closed() {
    if !have_root() || !people().contains(&Who::Ordinary) {
        return;
    }
    let world = World::new(Who::Ordinary);
    let way = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /proc/fs && exec \"$@\"", "sh"];
    let line = "ls /proc/1/root 2>/dev/null; cat /proc/1/environ 2>/dev/null; echo $$; echo x > /proc/sys/kernel/hostname";
    let heard = world.play_by(world.process_by(&way), &world.recipe(), &[Command::shell(line)]);
    let active = heard.active();
    assert!(active.downgrades.iter().any(|text| text.starts_with("proc: ")), "{active:#?}");
    assert_eq!(active.level, Level::Full, "processes are seen, not reached: {active:#?}");
    let (_, out, err) = heard.only();
    assert!(out.lines().count() == 1 && err.contains("hostname"), "{out}{err}");
}

// P10: a link in the restored tree leads a mount, or the making of its place, out of the sandbox.
#[test]
fn p10_links_in_the_restored_tree_lead_nowhere() {
    for who in people() {
        let world = World::new(who);
        let (app, recipe) = world.restored();
        let outside = world.directory("outside");
        symlink(&outside, recipe.binds[0].source.join("data")).unwrap();
        let recipe = Recipe { writable: vec![app.join("data/deep")], ..recipe };
        let heard = world.play(&recipe, &[Command::shell("echo ran")]);
        assert_eq!((heard.status, heard.ended.len()), (1, 0), "as {who:?}: {heard:?}");
        assert!(heard.failed.contains("data") && heard.failed.contains("symbolic link"), "{}", heard.failed);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "nothing was made outside");
    }
}

// P11: a set-user-id helper is a hole of its own. None is needed, and no other program.
#[test]
fn p11_no_helper_with_rights_is_needed() {
    let mode = std::fs::metadata(crate::world::LIFEBOAT).unwrap().permissions().mode();
    assert_eq!(mode & 0o6000, 0);
    for who in people() {
        let world = World::new(who);
        let mut process = world.process();
        if who == Who::Root {
            process.env("PATH", "/nowhere");
        }
        let heard = world.play_by(process, &world.recipe(), &[Command::shell("echo ran")]);
        assert_eq!(heard.only().1, "ran\n", "as {who:?}");
    }
}

// P12: with the host's network production's own ports are open; so it is open in the sandbox of the set-up alone.
#[test]
fn p12_the_hosts_network_is_open_in_the_set_up_only() {
    if !have_python() {
        return;
    }
    for who in people() {
        let world = World::new(who);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let line = format!(
            "import socket; socket.create_connection(('127.0.0.1', {})).close()",
            port.local_addr().unwrap().port()
        );
        let connect = [Command::new([PYTHON, "-c", &line])];

        let set_up = world.play(&Recipe { network: Network::Host, ..world.recipe() }, &connect);
        assert!(set_up.only().0.success(), "{set_up:?}");
        assert_eq!(set_up.active().level, Level::Files, "the weaker level is told");
        assert!(set_up.active().downgrades.iter().any(|text| text.starts_with("network: ")));
        assert!(!set_up.active().mechanisms.iter().any(|text| text.contains("net namespace")));

        let after = world.play(&world.recipe(), &connect);
        assert!(!after.only().0.success() && after.only().2.contains("refused"), "{after:?}");
        assert_eq!(after.active().level, Level::Full);
    }
}

// The restored copy is at production's path, and production's links to it lead there too.
#[test]
fn the_copy_is_at_its_own_path() {
    for who in people() {
        let world = World::new(who);
        let (app, recipe) = world.restored();
        symlink("app", world.host.path().join("current")).unwrap();
        let line = format!(
            "pwd; cat {}; cat {}; echo x > made",
            app.join("who").display(),
            world.host.path().join("current/who").display()
        );
        assert_eq!(world.shell(&recipe, &line), format!("{}\nrestoredrestored", app.display()), "as {who:?}");
        assert!(recipe.binds[0].source.join("made").exists() && !app.join("made").exists());
        assert_eq!(std::fs::read_to_string(app.join("who")).unwrap(), "production");
    }
}

// What is told as active is what the kernel says.
#[test]
fn the_evidence_is_measured() {
    for who in people() {
        let world = World::new(who);
        let kinds = ["mnt", "pid", "ipc", "net", "cgroup", "user"];
        let line = "for kind in mnt pid ipc net cgroup user; do readlink /proc/self/ns/$kind; done";
        let heard = world.play(&world.recipe(), &[Command::shell(line)]);
        let inside: Vec<&str> = heard.only().1.lines().collect();
        for (kind, inside) in kinds.iter().zip(&inside) {
            let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            let apart = *inside != outside.to_string_lossy();
            let word =
                kind.replace("mnt", "mount").replace("pid", "PID").replace("ipc", "IPC") + " namespace";
            assert_eq!(heard.active().mechanisms.contains(&word), apart, "{kind}: {:?}", heard.active());
            assert!(apart || (*kind == "user" && who == Who::Root), "{kind}");
            if apart {
                assert!(heard.active().measured.iter().any(|m| m.holds && m.seen.contains(inside)), "{kind}");
            }
        }
        assert!(
            ["seccomp", "no_new_privs", "dropped capabilities"]
                .iter()
                .all(|word| heard.active().mechanisms.contains(&(*word).to_owned()))
        );
    }
}
