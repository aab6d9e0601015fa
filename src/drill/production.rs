//! Production, looked at before and after: a drill that touched it would be worse than none.

use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::check::{Check, Context, Outcome};
use crate::database::sqlite;
use crate::format::manifest::{Type, write_stat};
use crate::sys::host::worker_count;
use crate::tree::exclude::{Excludes, Options};
use crate::tree::walk::{Choice, Filter, Item, walk};

/// What production was like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Whether its checks passed; absent if there are none, or one could not be judged.
    pub healthy: Option<bool>,
    /// Over all files that it does not write itself; absent if the tree could not be walked.
    pub fingerprint: Option<String>,
}

struct Rules(Excludes);

impl Filter for Rules {
    fn choose(&self, path: &[u8], item: &Item) -> Choice {
        if self.0.matches(path, item.live.stat.kind == Type::Dir) { Choice::Skip } else { Choice::Take }
    }
}

/// Looks at the tree at `root`. `live` are the patterns of what production writes itself, `databases` its
/// databases' paths below the root.
pub fn look(root: &Path, live: &[String], databases: &[Vec<u8>], ready: &[&Check]) -> Sight {
    Sight { healthy: healthy(root, ready), fingerprint: fingerprint(root, live, databases) }
}

fn healthy(root: &Path, ready: &[&Check]) -> Option<bool> {
    let context = Context::new(root);
    let found: Vec<Outcome> = ready.iter().map(|check| check.run(&context).outcome).collect();
    match () {
        () if found.is_empty() || found.contains(&Outcome::Error) => None,
        () => Some(!found.contains(&Outcome::Fail)),
    }
}

// Names, kinds, sizes, modes, owners and times of everything but directories, whose times change with what lies in them.
fn fingerprint(root: &Path, live: &[String], databases: &[Vec<u8>]) -> Option<String> {
    let options = Options { patterns: live.iter().map(Into::into).collect(), ..Options::default() };
    let excludes = Excludes::build(root, &options).ok()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(root, flags, Mode::empty()).ok()?;
    let mut hash = Sha256::new();
    let mut line = Vec::new();
    let done = walk(dir, &Rules(excludes), worker_count(), &mut |visit| {
        let owner = sqlite::owner_of(visit.path).unwrap_or(visit.path);
        let is_database = databases.iter().any(|path| path == owner);
        if visit.item.live.stat.kind != Type::Dir && !is_database {
            line.clear();
            write_stat(&mut line, visit.path, &visit.item.live.stat);
            line.push(b'\n');
            hash.update(&line);
        }
        Ok::<_, std::io::Error>(())
    });
    done.ok().map(|()| hex::encode(hash.finalize()))
}
