//! The contract of a [`Store`] as a check that tests run on every kind of store and `doctor` on a
//! real location. Writes a few small objects under `sessions/` and deletes them.

use super::{Key, Kind, Published, Store, StoreError};

/// Tries everything the engine relies on.
///
/// # Errors
/// A sentence that says which promise was not kept.
pub fn check(store: &dyn Store) -> Result<(), String> {
    let key = Key::session("00000000000000000000000000000000");
    let moved = Key::session("00000000000000000000000000000001");
    let result = try_all(store, &key, &moved);
    for key in [&key, &moved] {
        store.delete(key).map_err(|e| format!("an object cannot be deleted: {e}"))?;
    }
    store.sync().map_err(|e| format!("deletions cannot be made durable: {e}"))?;
    result
}

fn try_all(store: &dyn Store, key: &Key, moved: &Key) -> Result<(), String> {
    let said = |what: &'static str| move |e: StoreError| format!("{what}: {e}");
    let is = |good: bool, what: &str| if good { Ok(()) } else { Err(what.to_owned()) };
    is(
        matches!(store.size(key), Err(StoreError::Missing { .. })),
        "a missing object is not reported as missing",
    )?;

    let published = store.create(key, b"0123456789").map_err(said("an object cannot be created"))?;
    is(published == Published::Created, "a new object is reported as an old one")?;
    store.sync().map_err(said("an object cannot be made durable"))?;
    is(store.size(key).map_err(said("a size cannot be read"))? == 10, "an object's size is wrong")?;

    let again = store.create(key, b"other").map_err(said("creating an object twice fails"))?;
    is(again == Published::Existed, "an object can be replaced")?;
    let whole = store.read_all(key, 10).map_err(said("an object cannot be read"))?;
    is(whole == b"0123456789", "an object does not come back as written")?;

    mended(store, key)?;
    let mut part = [0; 4];
    store.read_at(key, 3, &mut part).map_err(said("a part cannot be read"))?;
    is(&part == b"3456", "a part does not come back as written")?;
    let short = store.read_at(key, 8, &mut part);
    is(matches!(short, Err(StoreError::Short { .. })), "a range past the end is not an error")?;
    is(store.read_all(key, 9).is_err(), "a limit on the size is not kept")?;

    let mut dropped = store.stage().map_err(said("an object cannot be begun"))?;
    dropped.write(b"half").map_err(said("an object cannot be written"))?;
    drop(dropped);

    store.rename(key, moved).map_err(said("an object cannot be renamed"))?;
    let listed = store.list(Kind::Sessions).map_err(said("objects cannot be listed"))?;
    let has = |key: &Key| listed.iter().any(|o| o.key == *key && o.bytes == 10);
    is(has(moved) && !has(key), "a listing is not current")?;
    store.delete(moved).map_err(said("an object cannot be deleted"))?;
    store.delete(moved).map_err(said("deleting what is gone fails"))?;
    is(matches!(store.size(moved), Err(StoreError::Missing { .. })), "a deleted object is still there")
}

// One whose name is the hash of its bytes takes the place of a damaged one, and only of that.
fn mended(store: &dyn Store, key: &Key) -> Result<(), String> {
    let said = |e: StoreError| format!("a damaged object cannot be replaced: {e}");
    let publish = |bytes: &[u8]| {
        let mut staged = store.stage()?;
        staged.write(bytes)?;
        staged.publish_hashed(key)
    };
    let told = [&b"9876543210"[..], b"987654321", b"0123456789", b"0123456789"].map(publish);
    let told = told.into_iter().collect::<Result<Vec<_>, _>>().map_err(said)?;
    let expected = [Published::Mended, Published::Mended, Published::Mended, Published::Existed];
    let whole = store.read_all(key, 10).map_err(said)?;
    if told == expected && whole == b"0123456789" {
        return Ok(());
    }
    Err("a damaged object is not replaced by the right one".to_owned())
}
