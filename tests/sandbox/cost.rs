//! What a sandbox costs: start, one command, end, beside the same command started plainly.
//!
//! `cargo test --test sandbox cost -- --nocapture` prints the figures of `docs/sandbox.md`.

use std::process::Command as Process;
use std::time::{Duration, Instant};

use lifeboat::sandbox::{Command, Sandbox};

use crate::world::{World, is_self, oneself, people};

const ROUNDS: usize = 30;
/// The most that a sandbox may cost a drill.
const BAR: Duration = Duration::from_millis(50);

fn times(mut work: impl FnMut()) -> [Duration; 2] {
    let mut took: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    took.sort();
    [took[0], took[ROUNDS / 2]]
}

#[test]
fn a_sandbox_costs_less_than_50_ms() {
    if !people().iter().any(|&who| is_self(who)) {
        return;
    }
    let world = World::new(oneself());
    let (_, recipe) = world.restored();
    let plain = times(|| assert!(Process::new("/bin/true").status().unwrap().success()));
    let inside = times(|| {
        let mut sandbox = Sandbox::start(&recipe).unwrap();
        let ended = sandbox.run(&Command::new(["/bin/true"]), &mut |_, _| {}, &|| false).unwrap();
        assert!(ended.success());
        assert_eq!(sandbox.close().unwrap().left, 0);
    });
    let mut sandbox = Sandbox::start(&recipe).unwrap();
    let command = times(|| {
        sandbox.run(&Command::new(["/bin/true"]), &mut |_, _| {}, &|| false).unwrap();
    });
    println!(
        "of {ROUNDS}, [least, median]: plain {plain:?}, sandbox {inside:?}, one more command in it {command:?}"
    );
    // the least: other work on the machine makes all the others longer
    let cost = inside[0].saturating_sub(plain[0]);
    assert!(cost < BAR, "{cost:?}");
}
