//! Decides which snapshots a policy keeps, and says why. Pure: reads no clock, no repository.
//!
//! Each group (host and roots) is judged by itself, newest first **by sequence number**; clocks only
//! choose the hour, day, week, month and year a snapshot belongs to. These are those of UTC, so that the
//! answer is the same on every host; weeks are those of ISO 8601 and begin on Monday.
//!
//! Whatever the policy says, these are kept:
//! * the newest complete snapshot of a group,
//! * the last snapshot that passed a drill,
//! * snapshots dated more than [`CLOCK_SLACK`] in the future. They take no place in a rule, so a host
//!   with a wrong clock cannot push out what older snapshots hold.
//!
//! A policy without rules, and one whose rules keep nothing of a group, is refused: that is how a
//! misspelt tag once deleted everything (restic #4569).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::base::id::SnapshotId;
use crate::base::name::{Name, shown};
use crate::base::size;
use crate::base::time::Timestamp;
use crate::format::source::Source;

/// How far a snapshot may be dated ahead before its clock is taken to be wrong.
pub const CLOCK_SLACK: Duration = Duration::from_secs(5 * 60);

/// What to keep. A rule that is zero or empty is not set; a snapshot stays if any rule keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many, whenever they were taken.
    pub keep_last: u32,
    /// One for each of the newest so many hours that have a snapshot.
    pub keep_hourly: u32,
    /// One for each of the newest so many days that have a snapshot.
    pub keep_daily: u32,
    /// One for each of the newest so many ISO weeks that have a snapshot.
    pub keep_weekly: u32,
    /// One for each of the newest so many months that have a snapshot.
    pub keep_monthly: u32,
    /// One for each of the newest so many years that have a snapshot.
    pub keep_yearly: u32,
    /// All that were taken at most so long before the newest of their group. Not before now, so that a
    /// host that stopped taking snapshots does not lose those it has.
    pub keep_within: Option<Duration>,
    /// All that carry any of these tags.
    pub keep_tags: Vec<String>,
}

impl Policy {
    /// True if no rule is set.
    pub fn is_empty(&self) -> bool {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        counts == [0; 6] && self.keep_within.is_none_or(|span| span.is_zero()) && self.keep_tags.is_empty()
    }
}

/// A snapshot, as far as a policy looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which snapshot.
    pub id: SnapshotId,
    /// What it is a snapshot of: host and roots.
    pub group: Source,
    /// Its place among the snapshots of its group; greater is newer.
    pub sequence: u64,
    /// When it was taken, by the clock of its host.
    pub taken: Timestamp,
    /// Its tags.
    pub tags: Vec<Name>,
    /// True if it passed a drill.
    pub drilled: bool,
    /// True if part of its source could not be read.
    pub partial: bool,
}

/// What is to become of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Which snapshot.
    pub id: SnapshotId,
    /// False if it may be forgotten.
    pub keep: bool,
    /// Why it is kept, such as `daily 2026-11-23`; safe for a terminal. Empty if it is not kept.
    pub reasons: Vec<String>,
}

/// Why a policy is not applied. Nothing may be forgotten then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No rule is set.
    #[error("the retention policy has no rule, so it would keep nothing")]
    Empty,
    /// The rules alone keep nothing of a group.
    #[error("no rule keeps any of the {} of {}", size::plural(*.snapshots, "snapshot"), .group)]
    KeepsNothing {
        /// The group.
        group: Source,
        /// How many snapshots of it were judged.
        snapshots: u64,
    },
}

impl PolicyError {
    /// What to do about it.
    pub fn next(&self) -> &'static str {
        match self {
            Self::Empty => "set a rule such as keep_daily = 7 (--keep-daily 7)",
            Self::KeepsNothing { .. } => {
                "check the spelling of the tags to keep, or add a rule such as --keep-last 3; \
                 to give up snapshots one by one, name their ids"
            }
        }
    }
}

/// Says for each snapshot whether the policy keeps it, in the order given (see the module's header).
///
/// # Errors
/// [`PolicyError`], if the policy has no rule or its rules keep nothing of a group.
pub fn judge(
    policy: &Policy,
    candidates: &[Candidate],
    now: Timestamp,
) -> Result<Vec<Judgement>, PolicyError> {
    if policy.is_empty() {
        return Err(PolicyError::Empty);
    }
    let mut judgements: Vec<Judgement> = candidates
        .iter()
        .map(|candidate| Judgement { id: candidate.id, keep: false, reasons: Vec::new() })
        .collect();
    for members in groups(candidates).into_values() {
        let (ahead, judged): (Vec<usize>, Vec<usize>) =
            members.into_iter().partition(|&i| candidates[i].taken.since(now) > CLOCK_SLACK);
        for i in ahead {
            judgements[i].reasons.push("dated in the future".to_owned());
        }
        let group = Group { candidates, newest_first: &judged };
        for (i, reason) in group.kept(policy)? {
            judgements[i].reasons.push(reason);
        }
    }
    for judgement in &mut judgements {
        judgement.keep = !judgement.reasons.is_empty();
    }
    Ok(judgements)
}

// The places of the candidates of each group, newest first.
fn groups(candidates: &[Candidate]) -> BTreeMap<&Source, Vec<usize>> {
    let mut groups: BTreeMap<&Source, Vec<usize>> = BTreeMap::new();
    for (i, candidate) in candidates.iter().enumerate() {
        groups.entry(&candidate.group).or_default().push(i);
    }
    for members in groups.values_mut() {
        // the id only makes the answer independent of the order given, should two numbers be equal
        members.sort_by_key(|&i| (std::cmp::Reverse(candidates[i].sequence), candidates[i].id));
    }
    groups
}

// The snapshots of one group whose clocks can be believed.
struct Group<'a> {
    candidates: &'a [Candidate],
    newest_first: &'a [usize],
}

type Reasons = Vec<(usize, String)>;

impl<'a> Group<'a> {
    fn kept(&self, policy: &Policy) -> Result<Reasons, PolicyError> {
        let mut reasons = self.by_rules(policy);
        if let (true, Some((_, newest))) = (reasons.is_empty(), self.iter().next()) {
            let snapshots = self.newest_first.len() as u64;
            return Err(PolicyError::KeepsNothing { group: newest.group.clone(), snapshots });
        }
        reasons.extend(self.always());
        Ok(reasons)
    }

    fn by_rules(&self, policy: &Policy) -> Reasons {
        let mut reasons = self.last(policy.keep_last);
        for (kind, format, count) in [
            ("hourly", "%Y-%m-%d %H:00", policy.keep_hourly),
            ("daily", "%Y-%m-%d", policy.keep_daily),
            ("weekly", "%G-W%V", policy.keep_weekly),
            ("monthly", "%Y-%m", policy.keep_monthly),
            ("yearly", "%Y", policy.keep_yearly),
        ] {
            reasons.extend(self.one_each(kind, format, count));
        }
        reasons.extend(self.within(policy.keep_within.unwrap_or_default()));
        reasons.extend(self.tagged(&policy.keep_tags));
        reasons
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &'a Candidate)> {
        self.newest_first.iter().map(|&i| (i, &self.candidates[i]))
    }

    fn last(&self, count: u32) -> Reasons {
        let newest = self.iter().zip(1..=count);
        newest.map(|((i, _), place)| (i, format!("last {place} of {count}"))).collect()
    }

    // One for each of the newest `count` stretches of time: the newest complete one, or the newest if
    // all are partial, so that a bad evening does not cost the good morning.
    fn one_each(&self, kind: &str, format: &str, count: u32) -> Reasons {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut chosen: Vec<(usize, String)> = Vec::new();
        if count == 0 {
            return chosen;
        }
        for (i, candidate) in self.iter() {
            let stretch = candidate.taken.0.format(format).to_string();
            match places.get(&stretch) {
                Some(&place) => {
                    let held = &mut chosen[place].0;
                    if self.candidates[*held].partial && !candidate.partial {
                        *held = i;
                    }
                }
                None if chosen.len() < count as usize => {
                    chosen.push((i, format!("{kind} {stretch}")));
                    places.insert(stretch, chosen.len() - 1);
                }
                None => {}
            }
        }
        chosen
    }

    fn within(&self, span: Duration) -> Reasons {
        let Some((_, newest)) = self.iter().next().filter(|_| !span.is_zero()) else {
            return Vec::new();
        };
        let recent = self.iter().filter(|(_, candidate)| newest.taken.since(candidate.taken) <= span);
        recent.map(|(i, _)| (i, format!("within {}", size::duration(span)))).collect()
    }

    fn tagged(&self, tags: &[String]) -> Reasons {
        let mut reasons = Vec::new();
        for (i, candidate) in self.iter() {
            for tag in tags.iter().filter(|tag| candidate.tags.iter().any(|have| have.0 == tag.as_bytes())) {
                reasons.push((i, format!("tag {}", shown(tag.as_bytes()))));
            }
        }
        reasons
    }

    // What no policy can give up.
    fn always(&self) -> Reasons {
        let complete = self.iter().find(|(_, candidate)| !candidate.partial);
        let drilled = self.iter().find(|(_, candidate)| candidate.drilled);
        [(complete, "newest that is complete"), (drilled, "last that passed a drill")]
            .into_iter()
            .filter_map(|(found, why)| found.map(|(i, _)| (i, why.to_owned())))
            .collect()
    }
}
