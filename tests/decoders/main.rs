//! Every decoder on random bytes and on valid input with a few changes: what the fuzz targets do
//! with a nightly compiler for hours, on a stable one for seconds.

mod properties;
mod seeds;

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use properties::{ALL, Property};

#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Copy(Index, Index, usize),
    Truncate(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    // what has a meaning somewhere: separators, limits of numbers, surrogates, escapes
    let words: &[&[u8]] = &[
        b"\"",
        b",",
        b"]}",
        b"[]",
        b"{}",
        b"null",
        b"-1",
        b"18446744073709551615",
        b"1e999",
        b"..",
        b"/",
        b"\0",
        b"\n",
        b" ",
        b"\\udcff",
        b"\\ud800",
        b"\xed\xb2\x80",
        b"\xff\xff\xff\xff",
        b",\"chunks\":[",
    ];
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
    prop_oneof![
        4 => (at(), 1u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        3 => (at(), proptest::sample::select(words)).prop_map(|(at, word)| Change::Insert(at, word)),
        2 => (at(), 1usize..40).prop_map(|(at, len)| Change::Remove(at, len)),
        2 => (at(), at(), 1usize..80).prop_map(|(from, to, len)| Change::Copy(from, to, len)),
        1 => at().prop_map(Change::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let end = |start: usize, len: usize| (start + len).min(bytes.len());
    match change {
        _ if bytes.is_empty() => {}
        Change::Flip(at, bits) => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Change::Insert(at, word) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, word.iter().copied());
        }
        Change::Remove(at, len) => {
            let at = at.index(bytes.len());
            bytes.drain(at..end(at, *len));
        }
        Change::Copy(from, to, len) => {
            let from = from.index(bytes.len());
            let piece = bytes[from..end(from, *len)].to_vec();
            let to = to.index(bytes.len());
            bytes.splice(to..to, piece);
        }
        Change::Truncate(at) => bytes.truncate(at.index(bytes.len())),
    }
}

fn check(property: Property, good: Vec<Vec<u8>>) {
    good.iter().for_each(|seed| property(seed));
    let mutated = (proptest::sample::select(good), proptest::collection::vec(change(), 1..6)).prop_map(
        |(mut bytes, changes)| {
            changes.iter().for_each(|change| apply(&mut bytes, change));
            bytes
        },
    );
    let random = proptest::collection::vec(any::<u8>(), 0..300);
    // always the same inputs, so that a failure can be had again; the long run takes others each time
    let (cases, rng_seed) = if long() { (200_000, RngSeed::Random) } else { (2000, RngSeed::Fixed(7)) };
    let config = Config { cases, rng_seed, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&prop_oneof![5 => mutated, 1 => random], |bytes| {
        property(&bytes);
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

#[expect(clippy::disallowed_methods, reason = "a switch for developers")]
fn long() -> bool {
    std::env::var_os("LIFEBOAT_TEST_LONG").is_some()
}

#[test]
fn decoders_keep_their_promises_on_hostile_bytes() {
    let mut good = BTreeMap::<_, Vec<_>>::new();
    for (property, bytes) in seeds::seeds() {
        good.entry(property).or_default().push(bytes);
    }
    for (name, property) in ALL {
        let seeds = good.remove(name).unwrap_or_else(|| panic!("no seeds for {name}"));
        check(property, seeds);
    }
    assert!(good.is_empty(), "seeds for nothing: {:?}", good.keys());
}

/// Found by fuzzing: the version of the envelope is not signed, and a parser took 0 for 1.
#[test]
fn a_signature_of_another_version_is_touched() {
    let good = include_str!("message.sig");
    let other = good.replacen("U1NIU0lHAAAAAQ", "U1NIU0lHAAAAAA", 1);
    assert_ne!(good, other);
    properties::signature(other.as_bytes());
    properties::signature(good.as_bytes());
}

/// Makes `fuzz/seeds` anew: `cargo test --test decoders -- --ignored write_the_seeds`
#[test]
#[ignore = "writes into the source tree"]
fn write_the_seeds() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let _ = std::fs::remove_dir_all(&base);
    let mut counts = BTreeMap::<_, usize>::new();
    for (property, bytes) in seeds::seeds() {
        let dir = base.join(property);
        std::fs::create_dir_all(&dir).unwrap();
        let count = counts.entry(property).or_default();
        *count += 1;
        // a dozen of each tell the fuzzer the form
        if *count <= 12 {
            std::fs::write(dir.join(format!("{count:02}")), bytes).unwrap();
        }
    }
}
