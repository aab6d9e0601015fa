//! Together: what is due now and what has to wait. Pure, by the store's clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::Options;
use super::proposal::Listed;
use crate::base::id::{PackId, SnapshotId};
use crate::format::record::PlanState;
use crate::repo::plans::StoredPlan;
use crate::repo::session;
use crate::store::Key;

/// What was written this recently may belong to a writer that is still at work.
const SETTLE: Duration = Duration::from_secs(24 * 3600);
/// A writer may have read the plans this long before it saw one.
const OVERLAP: Duration = Duration::from_secs(3600);

/// A session object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSeen {
    /// Its name.
    pub name: String,
    /// When the store got it.
    pub modified: SystemTime,
    /// The session that it renews.
    pub renews: Option<String>,
}

/// What is looked at.
pub struct View<'a> {
    /// The plans.
    pub plans: &'a [StoredPlan],
    /// Packs that nothing needs.
    pub dead: &'a BTreeSet<PackId>,
    /// Packs that are to be rewritten.
    pub rewrite: &'a BTreeSet<PackId>,
    /// The listing of packs.
    pub listed: &'a BTreeMap<PackId, Listed>,
    /// Forgotten snapshots.
    pub forgotten: &'a [SnapshotId],
    /// Signatures without a document, and when the store got them.
    pub lone_signatures: &'a [(SnapshotId, SystemTime)],
    /// Sessions that are open.
    pub open: &'a [SessionSeen],
    /// The store's time.
    pub now: SystemTime,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Useless packs that are condemned now.
    pub condemn: Vec<PackId>,
    /// Forgotten snapshots that are condemned now.
    pub condemn_documents: Vec<SnapshotId>,
    /// Useless packs that are too young to be condemned.
    pub spared: Vec<PackId>,
    /// Packs that were condemned, and are needed again.
    pub pardon: Vec<PackId>,
    /// Packs that were condemned, and whose time has not come.
    pub waiting: Vec<PackId>,
    /// Packs that go to the trash now.
    pub sweep: Vec<PackId>,
    /// Forgotten snapshots whose documents go there.
    pub sweep_documents: Vec<SnapshotId>,
    /// Plans that have been carried out by that.
    pub swept_plans: Vec<Key>,
    /// Plans whose trash is deleted now.
    pub purge: Vec<Key>,
    /// Signatures whose document will not come any more.
    pub lone_signatures: Vec<SnapshotId>,
}

impl Stages {
    /// True if nothing is due.
    pub fn is_empty(&self) -> bool {
        self.condemn.is_empty()
            && self.condemn_documents.is_empty()
            && self.pardon.is_empty()
            && self.swept_plans.is_empty()
            && self.sweep.is_empty()
            && self.purge.is_empty()
            && self.lone_signatures.is_empty()
    }
}

fn age(now: SystemTime, then: SystemTime) -> Duration {
    // what comes from the future is new
    now.duration_since(then).unwrap_or_default()
}

/// The sessions that are open: not named by a document, and not too old, or renewed by one that is open.
pub fn open_sessions(
    sessions: &[SessionSeen],
    closed: &BTreeSet<String>,
    now: SystemTime,
) -> Vec<SessionSeen> {
    let is_fresh = |s: &SessionSeen| !closed.contains(&s.name) && age(now, s.modified) < session::ENDS;
    let fresh: Vec<_> = sessions.iter().filter(|s| is_fresh(s)).collect();
    let renewed = |s: &SessionSeen| fresh.iter().any(|f| f.renews.as_ref() == Some(&s.name));
    sessions.iter().filter(|s| is_fresh(s) || renewed(s)).cloned().collect()
}

/// What is due.
pub fn stages(view: &View<'_>, options: &Options) -> Stages {
    let mut stages = Stages::default();
    let mut condemned = BTreeSet::new();
    let mut documents = BTreeSet::new();
    for stored in view.plans {
        match stored.plan.state {
            PlanState::Condemned => {
                condemned.extend(stored.plan.packs.iter().copied());
                documents.extend(stored.plan.documents.iter().copied());
                condemned_plan(stored, view, options, &mut stages);
            }
            PlanState::Trash => {
                condemned.extend(stored.plan.packs.iter().copied());
                trash_plan(stored, view, options, &mut stages);
            }
            PlanState::Alone | PlanState::Done => {}
        }
    }
    let oldest = view.open.iter().map(|s| s.modified).min();
    let settled = |modified: SystemTime| {
        age(view.now, modified) >= SETTLE && oldest.is_none_or(|oldest| modified < oldest)
    };
    for pack in view.dead.union(view.rewrite).filter(|pack| !condemned.contains(pack)) {
        let Some(listed) = view.listed.get(pack) else { continue };
        if settled(listed.modified) { &mut stages.condemn } else { &mut stages.spared }.push(*pack);
    }
    let lone = view.lone_signatures.iter().filter(|(_, modified)| settled(*modified));
    stages.lone_signatures = lone.map(|(id, _)| *id).collect();
    stages.condemn_documents = view.forgotten.iter().filter(|id| !documents.contains(id)).copied().collect();
    for list in [&mut stages.sweep, &mut stages.waiting, &mut stages.pardon] {
        list.sort_unstable();
        list.dedup();
    }
    // two prunes may have condemned the same pack: it goes when the later one's time has come
    let waiting: BTreeSet<_> = stages.waiting.iter().copied().collect();
    stages.sweep.retain(|pack| !waiting.contains(pack));
    stages
}

fn condemned_plan(stored: &StoredPlan, view: &View<'_>, options: &Options, stages: &mut Stages) {
    let listed = || stored.plan.packs.iter().filter(|pack| view.listed.contains_key(pack));
    stages.pardon.extend(listed().filter(|pack| !view.dead.contains(pack)));
    let dead = listed().filter(|pack| view.dead.contains(pack));
    // a writer that began before the plan could be seen may rely on what it condemns
    let seen = stored.modified + OVERLAP;
    let closed = !view.open.iter().any(|s| s.modified <= seen || stored.plan.sessions.contains(&s.name));
    if closed && age(view.now, stored.modified) >= options.grace.max(Options::MIN_GRACE) {
        stages.sweep.extend(dead);
        let forgotten = stored.plan.documents.iter().filter(|id| view.forgotten.contains(id));
        stages.sweep_documents.extend(forgotten);
        stages.swept_plans.push(stored.key.clone());
    } else {
        stages.waiting.extend(dead);
    }
}

fn trash_plan(stored: &StoredPlan, view: &View<'_>, options: &Options, stages: &mut Stages) {
    let listed = || stored.plan.packs.iter().filter(|pack| view.listed.contains_key(pack));
    stages.pardon.extend(listed().filter(|pack| !view.dead.contains(pack)));
    // a sweep that ended in the middle
    let left: Vec<_> = listed().filter(|pack| view.dead.contains(pack)).copied().collect();
    let is_swept = left.is_empty();
    stages.sweep.extend(left);
    if is_swept && age(view.now, stored.modified) >= options.keep_trash.max(Options::MIN_KEEP_TRASH) {
        stages.purge.push(stored.key.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_closed_by_documents_and_age_and_kept_by_renewals() {
        let hours = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * n);
        let session = |name: &str, at: u64, renews: Option<&str>| SessionSeen {
            name: name.to_owned(),
            modified: hours(at),
            renews: renews.map(str::to_owned),
        };
        let all = [session("a", 0, None), session("b", 20, Some("a")), session("c", 21, None)];
        let open = |now: u64, closed: &[&str]| {
            let closed = closed.iter().map(|s| (*s).to_owned()).collect();
            let open = open_sessions(&all, &closed, hours(now));
            open.into_iter().map(|s| s.name).collect::<Vec<_>>()
        };
        assert_eq!(open(22, &[]), ["a", "b", "c"]);
        assert_eq!(open(40, &["c"]), ["a", "b"]);
        assert_eq!(open(40, &["b"]), ["c"]);
        assert_eq!(open(44, &[]), ["c"]);
        assert_eq!(open(46, &[]), [""; 0]);
    }
}
