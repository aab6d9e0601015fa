//! The watched checks, and what the service uses.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::check::value::{Amount, OneOrMore, Span, Subject as Whom};
use crate::check::{Check, Common, Context, Kind, Mark, Outcome, Verdict, config, run_all};
use crate::plan::Plan;
use crate::service::{Service, Sight};
use crate::sys::process_facts::{processor_time, resident};
use crate::sys::process_tree::{Member, stat};

/// How long use of the processors is measured for its limit.
const OVER: Span = Span::seconds(1);

/// What is watched.
pub struct Watched {
    checks: Vec<Check>,
    directory: PathBuf,
    /// The longest that an HTTP check may take, by the plan.
    pub latency: Option<Duration>,
    /// The most forbidden lines, by the plan.
    pub errors: Option<u64>,
}

/// What a service uses.
#[derive(Clone, Debug, Default)]
pub struct Use {
    /// Memory, in bytes.
    pub memory: u64,
    times: HashMap<Member, Duration>,
    at: Option<Instant>,
}

impl Watched {
    /// By the plan: the checks that it names for this, or all required ones; those of readiness; its limits.
    pub fn of(plan: &Plan, service: Option<&Service>) -> Self {
        let chosen: Vec<&Check> = match &plan.hotfix.checks {
            Some(names) => names.iter().filter_map(|name| plan.check_named(name)).collect(),
            None => plan.check.iter().filter(|check| check.common.required).collect(),
        };
        let ready = service.map(Service::ready_checks).unwrap_or_default();
        let named = |name: &str| chosen.iter().any(|check| check.name() == name);
        let more: Vec<&Check> = ready.iter().filter(|check| !named(check.name())).collect();
        let mut checks: Vec<Check> = chosen.into_iter().chain(more).cloned().map(for_a_while).collect();
        checks.extend(limits(plan));
        Self {
            checks,
            directory: plan.directory().to_owned(),
            latency: plan.hotfix.thresholds.latency.map(|span| span.0),
            errors: plan.hotfix.thresholds.errors,
        }
    }

    /// Its logs, each with the name of its check.
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        let log = |check: &Check| match &check.kind {
            Kind::Log(log) => Some((check.name().to_owned(), self.directory.join(&log.log))),
            _ => None,
        };
        self.checks.iter().filter_map(log).collect()
    }

    /// How many checks there are.
    pub fn count(&self) -> usize {
        self.checks.len()
    }

    /// True if a required one is among them.
    pub fn sees(&self) -> bool {
        self.checks.iter().any(|check| check.common.required)
    }

    /// Runs all of them, logs from these marks on.
    pub fn look(&self, marks: &BTreeMap<String, Mark>) -> Vec<Verdict> {
        let context = Context { marks: marks.clone(), ..Context::new(&self.directory) };
        run_all(&self.checks.iter().collect::<Vec<_>>(), &context)
    }

    /// Where the logs end now. `marks`: where they ended before, if that is known.
    pub fn marks(&self, marks: &BTreeMap<String, Mark>) -> BTreeMap<String, Mark> {
        let context = Context { marks: marks.clone(), ..Context::new(&self.directory) };
        let logs: Vec<&Check> =
            self.checks.iter().filter(|check| matches!(check.kind, Kind::Log(_))).collect();
        let found = run_all(&logs, &context).into_iter();
        found.filter_map(|verdict| Some((verdict.name, verdict.mark?))).collect()
    }
}

// In a short while a log need not get the lines that it must have by and by; and waiting for a check to pass is the watch.
fn for_a_while(mut check: Check) -> Check {
    if let Kind::Log(log) = &mut check.kind {
        log.require = OneOrMore(Vec::new());
    }
    check
}

// The plan's limits as checks.
fn limits(plan: &Plan) -> Vec<Check> {
    let thresholds = &plan.hotfix.thresholds;
    let check =
        |name: &str, kind| Check { common: Common { name: name.to_owned(), ..Common::default() }, kind };
    let cpu = thresholds
        .cpu
        .map(|max| check("thresholds.cpu", Kind::Cpu(config::Cpu { cpu: Whom::System, max, over: OVER })));
    let memory = thresholds.memory.map(|max: Amount| {
        let memory = config::Memory { memory: Whom::System, max: Some(max), min_free: None };
        check("thresholds.memory", Kind::Memory(memory))
    });
    cpu.into_iter().chain(memory).collect()
}

/// How long HTTP checks that passed took, in seconds.
pub fn latencies(verdicts: &[Verdict]) -> BTreeMap<String, f64> {
    let asked = verdicts.iter().filter(|verdict| verdict.kind == "http" && verdict.outcome == Outcome::Pass);
    asked.map(|verdict| (verdict.name.clone(), verdict.last_took)).collect()
}

impl Use {
    /// Of these processes now.
    pub fn of(members: &[Member]) -> Self {
        let stats = members.iter().filter_map(|member| stat(member.pid).filter(|now| now.member == *member));
        Self {
            memory: members.iter().filter_map(|member| resident(member.pid)).sum(),
            times: stats.map(|stat| (stat.member, processor_time(&stat))).collect(),
            at: Some(Instant::now()),
        }
    }

    /// The share of one processor that was used since an earlier look; `None` if too little time has passed.
    pub fn processor_since(&self, earlier: &Self) -> Option<f64> {
        let passed = self.at?.duration_since(earlier.at?);
        if passed < Duration::from_millis(500) {
            return None;
        }
        let used = self
            .times
            .iter()
            .map(|(member, now)| now.saturating_sub(earlier.times.get(member).copied().unwrap_or_default()));
        Some(used.sum::<Duration>().as_secs_f64() / passed.as_secs_f64())
    }
}

/// The process that leads a service: the one that is known to, or the one that is there longest.
pub fn leader(sight: &Sight) -> Option<Member> {
    let main = sight.members.iter().find(|member| Some(member.pid) == sight.main);
    main.or_else(|| sight.members.iter().min_by_key(|member| (member.started, member.pid))).copied()
}
