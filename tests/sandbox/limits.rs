//! Limits hold for whoever wants more, and say which it was.

use std::time::{Duration, Instant};

use lifeboat::sandbox::{Command, Limits, Recipe};

use crate::world::{PYTHON, World, have_python, people};

fn with(world: &World, limits: Limits) -> Recipe {
    Recipe { limits, ..world.recipe() }
}

#[test]
fn time_is_limited_for_all_that_a_command_started() {
    for who in people() {
        let world = World::new(who);
        let line = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 600' &) ; sleep 600";
        let begun = Instant::now();
        let heard = world.play(
            &world.recipe(),
            &[
                Command::shell(line).within(Duration::from_secs(1)),
                Command::shell("cat /proc/[0-9]*/comm | grep -c sleep; true"),
            ],
        );
        assert!(heard.ended[0].0.timed_out && !heard.ended[0].0.success(), "as {who:?}: {heard:?}");
        assert_eq!(heard.ended[1].1, "0\n", "as {who:?}: nothing of it is left");
        assert!(begun.elapsed() < Duration::from_secs(6), "limit + 5 s: {:?}", begun.elapsed());
    }
}

#[test]
fn a_fork_bomb_is_contained() {
    if !have_python() {
        return;
    }
    for who in people() {
        let world = World::new(who);
        let bomb = "import os, time
end = time.time() + 4
while time.time() < end:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
";
        let begun = Instant::now();
        let command = Command::new([PYTHON, "-c", bomb]).within(Duration::from_secs(8));
        let heard =
            world.play(&with(&world, Limits { processes: Some(64), ..Limits::default() }), &[command]);
        let (ended, ..) = &heard.ended[0];
        // an ordinary user is held at the limit; root, whom the kernel does not hold without a cgroup, is ended
        let reached = ended.limit.as_ref().is_some_and(|limit| limit.starts_with("processes"));
        assert!(reached || ended.exit.is_some() || ended.timed_out, "as {who:?}: {ended:?}");
        assert_eq!(heard.left, Some(0), "as {who:?}");
        assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
    }
}

#[test]
fn memory_is_limited() {
    if !have_python() {
        return;
    }
    for who in people() {
        let world = World::new(who);
        let limits = Limits { memory: Some(64 << 20), ..Limits::default() };
        // one that takes too much alone, and many that do together
        let alone = "import time; held = [bytearray(1 << 20) for _ in range(300)]; time.sleep(20)";
        let many = "import os, time
for _ in range(6):
    os.fork()
held = bytearray(os.urandom(1 << 20)) * 4
time.sleep(20)";
        for hog in [alone, many] {
            let begun = Instant::now();
            let heard = world.play(&with(&world, limits.clone()), &[Command::new([PYTHON, "-c", hog])]);
            let (ended, _, err) = heard.only();
            let told = ended.limit.as_ref().is_some_and(|limit| limit.starts_with("memory"))
                || err.contains("MemoryError");
            assert!(!ended.success() && (told || ended.signal.is_some()), "as {who:?}: {ended:?} {err}");
            assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        }
    }
}

#[test]
fn room_on_the_disk_is_limited() {
    for who in people() {
        let world = World::new(who);
        // one large file, in both private places for temporary files
        let limits = Limits { file_size: Some(1 << 20), ..Limits::default() };
        let line = "dd if=/dev/zero of=/tmp/a bs=64k count=64 2>/dev/null; dd if=/dev/zero of=/var/tmp/a bs=64k count=64 2>/dev/null
                    stat -c %s /tmp/a /var/tmp/a";
        assert_eq!(world.shell(&with(&world, limits), line), "1048576\n1048576\n", "as {who:?}");

        // many small ones: what must stay free stays free
        let recipe = world.recipe();
        let space = rustix::fs::statvfs(&recipe.scratch).unwrap();
        let free = space.f_bavail * space.f_frsize;
        let recipe = Recipe {
            limits: Limits { free: Some(free.saturating_sub(64 << 20)), ..Limits::default() },
            ..recipe
        };
        let line = "i=0; while :; do i=$((i+1)); dd if=/dev/zero of=/tmp/$i bs=1M count=4 2>/dev/null; done";
        let begun = Instant::now();
        let heard = world.play(&recipe, &[Command::shell(line).within(Duration::from_secs(60))]);
        let (ended, ..) = heard.only();
        assert!(ended.limit.as_ref().is_some_and(|limit| limit.contains("free")), "as {who:?}: {ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

// When memory runs out all the same, the kernel shall not take it from production.
#[test]
fn the_kernel_ends_a_sandbox_before_production() {
    for who in people() {
        let world = World::new(who);
        assert_eq!(world.shell(&world.recipe(), "cat /proc/self/oom_score_adj"), "1000\n", "as {who:?}");
    }
}

#[test]
fn open_files_and_processor_time_are_limited() {
    for who in people() {
        let world = World::new(who);
        let limits = Limits { open_files: Some(32), cpu: Some(1), ..Limits::default() };
        let heard = world.play(
            &with(&world, limits),
            &[Command::shell("ulimit -n"), Command::shell("while :; do :; done")],
        );
        assert_eq!(heard.ended[0].1, "32\n", "as {who:?}");
        assert!(heard.ended[1].0.signal.is_some(), "as {who:?}: {:?}", heard.ended[1].0);
    }
}

// What bounds the sum is told: a cgroup, or that it is only watched.
#[test]
fn how_limits_are_held_is_told() {
    for who in people() {
        let world = World::new(who);
        let heard = world.play(&with(&world, Limits { memory: Some(1 << 30), ..Limits::default() }), &[]);
        let active = heard.active();
        let held = active.mechanisms.iter().any(|word| word == "cgroup v2 limits");
        let watched = active.downgrades.iter().any(|text| text.starts_with("limits: "));
        assert!(held != watched, "{active:?}");
    }
}
