//! Tells, by all ways at the same time, within a few seconds.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use reqwest::{StatusCode, Url, redirect};

use super::document::{Event, Happened, Told};
use super::memory::{Memory, STATE};
use super::way::{Target, Way, ways};
use crate::base::name::shown;
use crate::base::time::Clock;
use crate::plan::{NotifyFormat, NotifyOn, Plan};
use crate::state::State;
use crate::sys::process::Run;

/// The time that telling may take, all ways and all tries together.
pub const BUDGET: Duration = Duration::from_secs(15);
/// The time for one try.
const TRY: Duration = Duration::from_secs(5);
/// Pauses between tries.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];
/// How long the end of an operation waits for the word of its beginning, so that they arrive in order.
const ORDER: Duration = Duration::from_secs(3);
/// How long another process may have what is remembered.
const PATIENCE: Duration = Duration::from_secs(1);

/// How telling went, by way.
pub type Report = Vec<(String, Result<(), String>)>;

/// Tells what a plan wants to have told.
#[derive(Debug)]
pub struct Notifier {
    ways: Vec<Way>,
    directory: PathBuf,
    state: Option<State>,
    clock: Clock,
}

/// What is being told of a beginning.
#[derive(Debug)]
pub struct Begun {
    sent: Option<Receiver<(String, Result<(), String>)>>,
    count: usize,
}

struct Job {
    way: Way,
    event: Event,
    text: String,
}

impl Notifier {
    /// By the ways of a plan. Without a state every failure is told every time.
    pub fn new(plan: &Plan, state: Option<State>, clock: Clock) -> Self {
        Self { ways: ways(plan), directory: plan.directory().to_owned(), state, clock }
    }

    /// True if nobody is ever told anything of this operation.
    pub fn is_silent(&self, operation: &str, is_step: bool) -> bool {
        !self.ways.iter().any(|way| way.is_of(operation, is_step))
    }

    /// Tells that an operation begins, while it is done.
    pub fn begin(&self, happened: &Happened) -> Begun {
        let told = Told::of(happened, Event::Start, None, 0);
        let wanting = self.ways.iter().filter(|way| way.is_of(&happened.operation, happened.is_step));
        let jobs: Vec<Job> = wanting
            .filter(|way| way.wants(NotifyOn::Start))
            .map(|way| Job { way: way.clone(), event: Event::Start, text: body(way, &told) })
            .collect();
        let count = jobs.len();
        Begun { sent: (count > 0).then(|| self.start(jobs, Instant::now() + BUDGET)), count }
    }

    /// Tells how an operation ended. Comes back within [`BUDGET`], whatever the other sides do.
    pub fn end(&self, begun: Begun, happened: &Happened) -> Report {
        let deadline = Instant::now() + BUDGET;
        let now = self.clock.now();
        let mut report = Report::new();
        if let Some(sent) = &begun.sent {
            gather(sent, begun.count, deadline.min(Instant::now() + ORDER), &mut report);
        }
        let is_interrupted = happened.exit == crate::base::Exit::Interrupted;
        let mut standing = None;
        self.remember(|memory| {
            // a Ctrl-C is neither well nor a failure
            let mut aside = memory.clone();
            let memory = if is_interrupted { &mut aside } else { memory };
            standing = Some(memory.take(happened, now));
        });
        let Some(standing) = standing else { return report };
        let mut jobs = Vec::new();
        for way in self.ways.iter().filter(|way| way.is_of(&happened.operation, happened.is_step)) {
            let is_well = matches!(standing.event, Event::Success | Event::Recovered);
            let on = if is_well { NotifyOn::Success } else { NotifyOn::Failure };
            let is_told = match &way.target {
                // whoever is behind a ping counts by itself
                Target::Ping(_) => way.wants(on),
                _ if is_interrupted || !way.wants(on) => false,
                _ => standing.is_news(&way.label, now) || is_well && way.on.contains(&NotifyOn::Success),
            };
            if is_told {
                let told = Told::of(happened, standing.event, standing.since, standing.before(&way.label));
                jobs.push(Job { way: way.clone(), event: standing.event, text: body(way, &told) });
            }
        }
        self.finish(jobs, deadline, &mut report);
        self.remember(|memory| {
            for (way, result) in &report {
                memory.went(way, result, now);
                if result.is_ok() && !matches!(standing.event, Event::Success | Event::Recovered) {
                    memory.told(&happened.operation, way, now);
                }
            }
        });
        report
    }

    /// Tells what somebody wants to say, by every way but pings, which have no words. A test goes by all of them.
    pub fn message(&self, happened: &Happened, is_test: bool) -> Report {
        let told = Told::of(happened, Event::Message, None, 0);
        let mut report = Report::new();
        let speaks = |way: &&Way| {
            is_test || !matches!(way.target, Target::Ping(_)) && way.is_of(&happened.operation, false)
        };
        let speaking = self.ways.iter().filter(speaks);
        let jobs =
            speaking.map(|way| Job { way: way.clone(), event: Event::Message, text: body(way, &told) });
        self.finish(jobs.collect(), Instant::now() + BUDGET, &mut report);
        let now = self.clock.now();
        self.remember(|memory| {
            report.iter().for_each(|(way, result)| memory.went(way, result, now));
        });
        report
    }

    fn finish(&self, jobs: Vec<Job>, deadline: Instant, report: &mut Report) {
        let labels: Vec<String> = jobs.iter().map(|job| job.way.label.clone()).collect();
        let before = report.len();
        let sent = self.start(jobs, deadline);
        gather(&sent, labels.len(), deadline, report);
        for label in labels {
            if !report[before..].iter().any(|(way, _)| *way == label) {
                report.push((label, Err(format!("no answer within {} s", BUDGET.as_secs()))));
            }
        }
    }

    fn start(&self, jobs: Vec<Job>, deadline: Instant) -> Receiver<(String, Result<(), String>)> {
        let (sender, receiver) = channel();
        for job in jobs {
            let (sender, directory) = (sender.clone(), self.directory.clone());
            thread::spawn(move || {
                let result = tell(&job, directory, deadline);
                // nobody waits any more once the time is over
                let _ = sender.send((job.way.label, result));
            });
        }
        receiver
    }

    // Changes what is remembered; what cannot be remembered is told again.
    fn remember(&self, change: impl FnOnce(&mut Memory)) {
        let Some(state) = &self.state else {
            change(&mut Memory::default());
            return;
        };
        let end = Instant::now() + PATIENCE;
        let lock = loop {
            match state.lock("notify.lock") {
                Ok(Some(lock)) => break Some(lock),
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
                _ => break None,
            }
        };
        // one that is damaged is begun anew
        let mut memory = state.read::<Memory>(STATE).ok().flatten().unwrap_or_default();
        let before = memory.clone();
        change(&mut memory);
        if memory != before {
            let _ = state.write(STATE, &memory);
        }
        drop(lock);
    }
}

fn gather(
    sent: &Receiver<(String, Result<(), String>)>,
    count: usize,
    deadline: Instant,
    report: &mut Report,
) {
    for _ in 0..count {
        // a little more than the senders have, which say better why
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(200);
        match sent.recv_timeout(left) {
            Ok(one) => report.push(one),
            Err(_) => return,
        }
    }
}

fn body(way: &Way, told: &Told) -> String {
    match (&way.target, way.format) {
        (Target::Ping(_), _) => told.text(),
        (_, NotifyFormat::Slack) => told.slack(),
        (_, NotifyFormat::Json) => told.json(),
    }
}

fn tell(job: &Job, directory: PathBuf, deadline: Instant) -> Result<(), String> {
    match &job.way.target {
        Target::Wrong(why) => Err(why.clone()),
        Target::Command(line) => {
            let run = Run {
                directory: Some(directory),
                stdin: job.text.clone().into_bytes(),
                limit: Some(deadline.saturating_duration_since(Instant::now())),
                grace: Duration::from_millis(200),
                ..Run::new(line.program())
            };
            let ended = run.run(&|| false).map_err(|error| format!("it could not be started: {error}"))?;
            if ended.is_success() {
                return Ok(());
            }
            let said = shown(&ended.stderr.last_lines(1));
            Err(format!("the command {}{}{said}", ended.how(), if said.is_empty() { "" } else { ": " }))
        }
        Target::Webhook(url) => post(url, Some(&job.text), "application/json", deadline),
        Target::Ping(url) => {
            let (url, text) = match job.event {
                Event::Start => (below(url, "start"), None),
                Event::Failure | Event::Open => (below(url, "fail"), Some(&*job.text)),
                _ => (url.clone(), Some(&*job.text)),
            };
            post(&url, text, "text/plain; charset=utf-8", deadline)
        }
    }
}

fn below(url: &Url, word: &str) -> Url {
    let mut url = url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(word);
    }
    url
}

fn post(url: &Url, text: Option<&str>, kind: &str, deadline: Instant) -> Result<(), String> {
    let mut pauses = PAUSES.iter();
    loop {
        let why = match once(url, text, kind, deadline) {
            Ok(()) => return Ok(()),
            Err((why, false)) => return Err(why),
            Err((why, true)) => why,
        };
        match pauses.next() {
            Some(pause) if Instant::now() + *pause < deadline => thread::sleep(*pause),
            _ => return Err(why),
        }
    }
}

// Why it did not work, and whether it may another time. Nothing here holds the URL.
fn once(url: &Url, text: Option<&str>, kind: &str, deadline: Instant) -> Result<(), (String, bool)> {
    let limit = TRY.min(deadline.saturating_duration_since(Instant::now()));
    // the first one stays; that is what is wanted
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .connect_timeout(limit)
        .timeout(limit)
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")));
    if super::way::is_loopback(url) {
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // reading the host's certificates takes longer than the message
        builder = builder.tls_certs_only([]);
    }
    let client = builder.build().map_err(|error| (innermost(&error), false))?;
    let request = match text {
        None => client.get(url.clone()),
        Some(text) => client.post(url.clone()).header("content-type", kind).body(text.to_owned()),
    };
    let response = request.send().map_err(|error| {
        let why = if error.is_timeout() { "no answer in time".to_owned() } else { innermost(&error) };
        (why, true)
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() {
        return Err((format!("status {}: a redirect is not followed", status.as_u16()), false));
    }
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    Err((format!("status {}", status.as_u16()), status.is_server_error() || passing.contains(&status)))
}

// The outer errors have the URL in them.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = "it could not be asked".to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    shown(text.as_bytes())
}
