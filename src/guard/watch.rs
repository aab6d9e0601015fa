//! The time after the change.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::armed::{Stage, Want, asked};
use super::begin::later;
use super::judge::{Decision, Judge, Round, Rules, Seen, weigh};
use super::look::{Use, latencies, leader};
use super::run::{Guard, Next};
use super::signs::Signs;
use super::types::Message;
use crate::base::size;
use crate::check::{Outcome as CheckOutcome, Verdict};
use crate::drill::recorder::Result as StepResult;
use crate::evidence::{Outcome, Seconds};
use crate::plan::OnInconclusive;
use crate::service::{Service, State};
use crate::sys::host::boot_id;
use crate::sys::process_tree::{Member, is_alive};

/// Between two looks whether somebody wants something, or the service has gone.
const SLICE: Duration = Duration::from_millis(100);

// One watch.
struct Watch {
    began: Instant,
    until: Instant,
    confirm: Option<Instant>,
    rounds: u32,
    last: Vec<Verdict>,
    used: Option<Use>,
    signs: Vec<Signs>,
}

impl Guard<'_> {
    /// Watches until something decides.
    pub(super) fn watch(&mut self) -> Next {
        let mut watch = match self.begin_watch() {
            Ok(watch) => watch,
            Err(next) => return next,
        };
        let mut judge = Judge::default();
        let next = loop {
            let round = Instant::now();
            let decision = self.round(&mut watch, &mut judge);
            if let Some(next) = self.decided(&watch, decision) {
                break next;
            }
            if let Some(next) = self.wait(&watch, round) {
                break next;
            }
        };
        self.note_watch(&watch, &next);
        next
    }

    fn begin_watch(&mut self) -> Result<Watch, Next> {
        let now = self.subject.repo.clock().now();
        if self.armed.watch_until.is_none() {
            self.armed.watch_until = Some(later(now, self.armed.watch));
            self.armed.confirm_until = self.armed.confirm_within.map(|within| later(now, within));
        }
        self.armed.leader = self.service.as_ref().map(Service::state).as_ref().and_then(leader);
        self.armed.boot = boot_id();
        let left = |guard: &Self| guard.armed.watch_left().unwrap_or_default();
        let text = format!("for {}", whole(left(self)));
        let began = self.begins("watch", &text);
        if let Err(error) = self.enter(Stage::Watching) {
            return Err(Next::bad(format!("it could not be remembered that the change is watched: {error}")));
        }
        self.tell(&Message::Watching { armed: &self.armed, checks: self.watched.count() });
        let confirm = self.armed.confirm_left().map(|left| began + left);
        let signs = self.watched.logs().into_iter();
        let signs = signs.map(|(name, path)| Signs::new(&name, path, self.armed.marks.get(&name))).collect();
        Ok(Watch {
            began,
            until: began + left(self),
            confirm,
            rounds: 0,
            last: Vec::new(),
            used: None,
            signs,
        })
    }

    fn round(&mut self, watch: &mut Watch, judge: &mut Judge) -> Decision {
        let verdicts = self.watched.look(&self.armed.marks);
        for text in watch.signs.iter_mut().flat_map(Signs::look).collect::<Vec<_>>() {
            self.note(&text);
        }
        let members = self.service.as_ref().map(|service| service.state().members).unwrap_or_default();
        let used = Use::of(&members);
        let now = self.subject.repo.clock().now();
        let plan = self.subject.plan;
        let seen = Seen {
            verdicts: &verdicts,
            since_change: now.since(self.armed.changed.unwrap_or(self.armed.started)),
            memory: Some(used.memory).filter(|&memory| memory > 0),
            processor: watch.used.as_ref().and_then(|before| used.processor_since(before)),
        };
        let rules = Rules {
            baseline: &self.armed.baseline,
            latency: self.watched.latency,
            errors: self.watched.errors,
        };
        let round = weigh(&seen, &rules);
        let memory = seen.memory;
        let decision = judge.add(&round, plan.hotfix.failure_limit);
        watch.rounds += 1;
        self.tell_round(watch, &round, latencies(&verdicts).into_values().reduce(f64::max), memory);
        watch.last = tolerated(verdicts, &round);
        watch.used = Some(used);
        decision
    }

    fn tell_round(&self, watch: &Watch, round: &Round, slowest: Option<f64>, memory: Option<u64>) {
        let wrong: Vec<String> = round.wrong.iter().chain(&round.worse).cloned().collect();
        let left = |until: Instant| until.saturating_duration_since(Instant::now()).as_secs_f64();
        self.tell(&Message::Round {
            number: watch.rounds,
            left: left(watch.until),
            confirm_left: watch.confirm.map(left),
            wrong: &wrong,
            unjudged: &round.unjudged,
            slowest,
            memory,
        });
    }

    // What a round's decision comes to; `None`: the watch goes on.
    fn decided(&mut self, watch: &Watch, decision: Decision) -> Option<Next> {
        match decision {
            Decision::Bad(why) => Some(Next::bad(why)),
            Decision::Unjudged(why) => {
                self.armed.unjudged = true;
                let why = format!("it could not be judged: {why}");
                Some(match self.subject.plan.hotfix.on_inconclusive {
                    OnInconclusive::Rollback => Next::bad(why),
                    OnInconclusive::Keep => Next::Keep { why, unjudged: true },
                })
            }
            // one that ends in doubt goes on until it is decided
            Decision::Well if Instant::now() >= watch.until && watch.confirm.is_none() => {
                let rounds = size::plural(watch.rounds.into(), "round");
                Some(Next::Keep {
                    why: format!("all was well to the end of the watch, in {rounds}"),
                    unjudged: false,
                })
            }
            Decision::Well | Decision::Doubt => None,
        }
    }

    // Until the next round; something may decide before.
    fn wait(&mut self, watch: &Watch, round: Instant) -> Option<Next> {
        let interval = self.subject.plan.hotfix.interval.0;
        loop {
            if let Some(next) = self.heard().or_else(|| self.silence(watch)).or_else(|| self.gone()) {
                return Some(next);
            }
            let now = Instant::now();
            let is_last = now >= watch.until && round < watch.until && watch.confirm.is_none();
            if is_last || now >= round + interval {
                return None;
            }
            sleep(SLICE.min((round + interval).saturating_duration_since(now)));
        }
    }

    /// What somebody said, here or elsewhere.
    pub(super) fn heard(&mut self) -> Option<Next> {
        if let Some(next) = self.ear.next() {
            return Some(next);
        }
        let request = asked(self.subject.state, &self.armed.run_id)?;
        let by = crate::base::name::shown(request.by.as_bytes());
        Some(match request.want {
            Want::Keep => Next::Keep { why: format!("confirmed by {by}"), unjudged: false },
            Want::RollBack => Next::Back { why: format!("aborted by {by}"), by_itself: false },
            Want::HandOver => Next::Leave { why: format!("{by} goes on with it") },
        })
    }

    fn silence(&self, watch: &Watch) -> Option<Next> {
        let within = self.armed.confirm_within?;
        watch.confirm.filter(|until| Instant::now() >= *until)?;
        Some(Next::bad(format!("nobody confirmed within {within}")))
    }

    // Whether the process that leads the service is the one it was.
    fn gone(&self) -> Option<Next> {
        let old: Member = self.armed.leader.filter(|leader| !is_alive(*leader))?;
        let sight = self.service.as_ref().map(Service::state)?;
        let now = match leader(&sight) {
            Some(new) => {
                format!("was restarted: its process {} ended, and {} leads it now", old.pid, new.pid)
            }
            None if sight.state == State::Stopped => format!("has ended: its process {} is gone", old.pid),
            None => format!("may have ended: its process {} is gone", old.pid),
        };
        Some(Next::bad(format!("the service {now}")))
    }

    // What the record says of the watch. Who goes on with it says it then.
    fn note_watch(&mut self, watch: &Watch, next: &Next) {
        if let Next::Leave { why } = next {
            return self.note(&format!("the watch ends here: {why}"));
        }
        for verdict in &watch.last {
            self.recorder.check(verdict);
        }
        let took = size::duration(watch.began.elapsed());
        let name = format!("watched for {took}, {}", size::plural(watch.rounds.into(), "round"));
        let result = match next {
            Next::Keep { unjudged: false, .. } | Next::GoOn | Next::Leave { .. } => StepResult::pass(),
            Next::Keep { why, .. } => StepResult::of(Outcome::Error, why),
            Next::Back { why, .. } if self.armed.unjudged => StepResult::of(Outcome::Error, why),
            Next::Back { why, .. } => StepResult::of(Outcome::Fail, why),
        };
        self.ended("watch", &name, watch.began, result);
    }
}

/// To the second, as people say it.
fn whole(time: Duration) -> Seconds {
    Seconds::from_secs(time.as_secs_f64().round() as u64)
}

// A log that goes on as before the change has not failed.
fn tolerated(mut verdicts: Vec<Verdict>, round: &Round) -> Vec<Verdict> {
    for verdict in &mut verdicts {
        let told = format!("{}: ", verdict.name);
        let counts = verdict.required && verdict.outcome == CheckOutcome::Fail;
        if counts && !round.wrong.iter().any(|wrong| wrong.starts_with(&told)) {
            verdict.outcome = CheckOutcome::Pass;
            verdict.observed = format!("{} (no more than before the change)", verdict.reason);
        }
    }
    verdicts
}
