//! Random stories, each from a seed: writers, prunes, crashes, losses of power, clocks that jump.
//! A failure names its seed; `check(seed)` plays it again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::support::*;
use crate::base::id::SnapshotId;
use crate::repo::keys::WriterKey;
use crate::retention::prune::{Options, PruneError};
use crate::store::Store;
use crate::store::testing::{Fault, FaultyStore, MemoryStore};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn files(&mut self) -> Files {
        let from = self.below(40);
        let (len, step) = (1 + self.below(24), 1 + self.below(4) as usize);
        files((from..from + len).step_by(step))
    }
}

#[derive(Default)]
struct Told {
    saved: BTreeMap<SnapshotId, Files>,
    forgotten: BTreeMap<SnapshotId, Files>,
}

struct World {
    random: Random,
    store: MemoryStore,
    key: WriterKey,
    told: Told,
    story: Vec<String>,
}

const FAULTS: [Fault; 5] = [Fault::Stop, Fault::NoSpace, Fault::Once, Fault::DoneButFailed, Fault::Torn];

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let store = if random.below(2) == 0 { MemoryStore::default() } else { MemoryStore::without_locks() };
        let story = vec![format!("seed {seed}")];
        Self { random, store: world(store), key: key(), told: Told::default(), story }
    }

    fn host(&mut self) -> &'static str {
        ["a", "b", "c"][self.random.below(3) as usize]
    }

    fn options(&mut self) -> Options {
        let max_unused = [0.0, 0.3, 0.7, 1.0][self.random.below(4) as usize];
        let (together, full) = (self.random.below(3) == 0, self.random.below(4) == 0);
        Options { max_unused, together, full, max_indexes: 3, ..Options::default() }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..3 => self.save(),
            3 => self.save_and_crash(),
            4..6 => self.forget(),
            6 => self.remember(),
            7..9 => self.prune(),
            9 => self.prune_and_crash(),
            10 => self.save_while_others_work(),
            _ => self.jump(),
        }
    }

    fn save(&mut self) {
        let (host, all) = (self.host(), self.random.files());
        self.story.push(format!("save {host} {}", all.len()));
        let id = save(&open(self.store.clone()), &self.key, host, &all);
        let id = id.unwrap_or_else(|e| panic!("{:?}: {e}", self.story));
        self.told.saved.insert(id, all);
    }

    fn faulty(&mut self, writes: u64) -> FaultyStore<MemoryStore> {
        let fault = FAULTS[self.random.below(5) as usize];
        let at = self.random.below(writes);
        self.story.push(format!("{fault:?} at {at}"));
        FaultyStore::new(self.store.clone(), at, fault)
    }

    fn maybe_lose_power(&mut self) {
        if self.random.below(2) == 0 {
            self.story.push("power loss".to_owned());
            self.store = self.store.after_power_loss();
        }
    }

    fn save_and_crash(&mut self) {
        let (host, all) = (self.host(), self.random.files());
        self.story.push(format!("save {host} {}", all.len()));
        let faulty = self.faulty(60);
        if let Ok(id) = save(&open(faulty), &self.key, host, &all) {
            self.told.saved.insert(id, all);
        }
        self.maybe_lose_power();
    }

    fn some(&mut self, forgotten: bool) -> Option<SnapshotId> {
        let from = if forgotten { &self.told.forgotten } else { &self.told.saved };
        let ids: Vec<_> = from.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[self.random.below(ids.len() as u64) as usize])
    }

    fn forget(&mut self) {
        let Some(id) = self.some(false) else { return };
        self.story.push(format!("forget {}", id.short()));
        forget(&open(self.store.clone()), id).unwrap();
        let files = self.told.saved.remove(&id).unwrap();
        self.told.forgotten.insert(id, files);
    }

    // What is forgotten can be taken back as long as its document is there.
    fn remember(&mut self) {
        let Some(id) = self.some(true) else { return };
        let files = self.told.forgotten.remove(&id).unwrap();
        if open(self.store.clone()).document(id).is_ok() {
            self.story.push(format!("remember {}", id.short()));
            open(self.store.clone()).remember(id).unwrap();
            self.told.saved.insert(id, files);
        }
    }

    fn prune(&mut self) {
        let options = self.options();
        self.story.push(format!("prune {options:?}"));
        match prune(self.store.clone(), &options) {
            // a crashed first snapshot may leave packs and nothing that explains them
            Err(PruneError::Refused(r)) if r.iter().all(|r| r.code() == "no-snapshots") => {}
            other => {
                other.unwrap_or_else(|e| panic!("{:?}: {e:?}", self.story));
            }
        }
    }

    fn prune_and_crash(&mut self) {
        let options = self.options();
        self.story.push(format!("prune {options:?}"));
        let faulty = self.faulty(50);
        let _ = prune(faulty, &options);
        self.maybe_lose_power();
    }

    fn save_while_others_work(&mut self) {
        let (host, all, other_files) = (self.host(), self.random.files(), self.random.files());
        let (at, prunes) = (self.random.below(20), self.random.below(4));
        let hours = [1, 30, 50, 200][self.random.below(4) as usize];
        self.story
            .push(format!("save {host} {} stopped at {at}: {prunes} prunes, {hours} h apart", all.len()));
        let other = self.store.clone();
        let options = Options { together: true, ..self.options() };
        let told = Arc::new(Mutex::new(None));
        let tell = Arc::clone(&told);
        let key = self.key_again();
        let kept = other_files.clone();
        let hooked = Hooked::new(&self.store, move |number, _| {
            if number == at {
                *tell.lock().unwrap() = save(&open(other.clone()), &key, "b", &other_files).ok();
                for _ in 0..prunes {
                    let _ = prune(other.clone(), &options);
                    other.set_now(other.now() + HOUR * hours);
                }
            }
            false
        });
        let result = save(&open(hooked), &self.key, host, &all);
        self.told.saved.extend(told.lock().unwrap().map(|id| (id, kept)));
        if let Ok(id) = result {
            self.told.saved.insert(id, all);
        }
    }

    fn key_again(&self) -> WriterKey {
        key()
    }

    fn jump(&mut self) {
        const MINUTE: u64 = 60;
        let seconds = [MINUTE, 3600, 24 * 3600, 50 * 3600, 9 * 24 * 3600, 20 * 365 * 24 * 3600];
        let by = Duration::from_secs(seconds[self.random.below(6) as usize]);
        let back = self.random.below(4) == 0;
        self.story.push(format!("clock {}{by:?}", if back { "-" } else { "+" }));
        let now = self.store.now();
        self.store.set_now(if back { now - by } else { now + by });
    }
}

fn check(seed: u64) {
    let mut world = World::new(seed);
    for step in 0..14 {
        world.step();
        let when = format!("seed {seed}, step {step}: {:?}", world.story);
        check_restores(&world.store, &world.told.saved, &when);
    }
    // in the end order can be made again, and nothing useless is left
    world.save();
    let when = format!("seed {seed}, the end: {:?}", world.story);
    let locked = MemoryStore::default();
    for (key, bytes) in world.store.objects() {
        locked.create(&key, &bytes).unwrap();
    }
    locked.sync().unwrap();
    // two writers may have stored the same content at once: only a full look sees that one copy is enough
    let options = Options { full: true, ..Options::default() };
    prune(locked.clone(), &options).unwrap_or_else(|e| panic!("{when}: {e}"));
    check_restores(&locked, &world.told.saved, &when);
    check_tidy(&locked, &when);
}

#[test]
fn three_hundred_stories() {
    let seeds: Vec<u64> = (0..300).collect();
    std::thread::scope(|scope| {
        for half in seeds.chunks(150) {
            scope.spawn(move || half.iter().for_each(|&seed| check(seed)));
        }
    });
}

#[test]
#[ignore = "minutes: the long run for docs/reliability.md"]
fn ten_thousand_stories() {
    (1000..11_000).for_each(check);
}
