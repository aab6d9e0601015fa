//! What is said.

use std::time::Duration;

use serde::Serialize;

use crate::base::Exit;
use crate::base::size;
use crate::base::time::Timestamp;

/// The most that is said of details.
const DETAILS: usize = 20;
/// The longest that a detail is, in characters.
const LONGEST: usize = 500;

/// What is told of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It begins.
    Start,
    /// It ended well.
    Success,
    /// It did not.
    Failure,
    /// Only answers to questions are missing.
    Open,
    /// It ended well, and had failed before.
    Recovered,
    /// Something that somebody wanted to say.
    Message,
}

/// An operation that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// The application.
    pub application: String,
    /// What it was: `snapshot`, `run weekly`.
    pub operation: String,
    /// True: it is a step of a runbook, which is told of by itself.
    pub is_step: bool,
    /// Where.
    pub host: String,
    /// By whom.
    pub user: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub exit: Exit,
    /// In a sentence.
    pub summary: String,
    /// What failed, each in a line.
    pub details: Vec<String>,
}

impl Happened {
    /// What it is called in a plan: `run` of `run weekly`.
    pub fn word(&self) -> &str {
        self.operation.split(' ').next().unwrap_or_default()
    }

    /// Whether it went well; `Open` for a run with open questions.
    pub fn event(&self) -> Event {
        match (self.exit, self.word()) {
            (Exit::Done, _) => Event::Success,
            (Exit::Partial, "run" | "maintenance") => Event::Open,
            _ => Event::Failure,
        }
    }

    /// What tells this failure from another one of the same operation: not its numbers, which may change each time.
    pub fn mark(&self) -> String {
        let mut details: Vec<String> =
            self.details.iter().map(|text| text.chars().filter(|c| !c.is_ascii_digit()).collect()).collect();
        details.sort();
        format!("{}|{}", self.exit.id(), details.join("|"))
    }
}

/// The document that is sent. Fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    message_type: &'static str,
    version: u32,
    event: Event,
    application: String,
    operation: String,
    host: String,
    user: String,
    at: Timestamp,
    started: Timestamp,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Code>,
    summary: String,
    details: Vec<String>,
    /// Since when it fails, or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// How often this failure was told before.
    told_before: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Code {
    code: u8,
    id: &'static str,
    meaning: &'static str,
}

impl Told {
    /// What is told of an operation. `since`: when it began to fail; `before`: how often that was told.
    pub fn of(happened: &Happened, event: Event, since: Option<Timestamp>, before: u64) -> Self {
        let code =
            Code { code: happened.exit.number(), id: happened.exit.id(), meaning: happened.exit.meaning() };
        let cut = |text: &String| match text.char_indices().nth(LONGEST) {
            None => text.clone(),
            Some((at, _)) => format!("{}…", &text[..at]),
        };
        let mut details: Vec<String> = happened.details.iter().take(DETAILS).map(cut).collect();
        if happened.details.len() > DETAILS {
            details.push(format!("and {} more", happened.details.len() - DETAILS));
        }
        Self {
            message_type: "notification",
            version: 1,
            event,
            application: happened.application.clone(),
            operation: happened.operation.clone(),
            host: happened.host.clone(),
            user: happened.user.clone(),
            at: Timestamp(happened.started.0 + happened.took),
            started: happened.started,
            seconds: (happened.took.as_secs_f64() * 1000.0).round() / 1000.0,
            exit: (!matches!(event, Event::Start | Event::Message)).then_some(code),
            summary: cut(&happened.summary),
            details,
            since,
            told_before: before,
        }
    }

    /// As JSON.
    pub fn json(&self) -> String {
        // text for keys and finite numbers: this cannot fail, and nothing panics if it does
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As a message for people.
    pub fn text(&self) -> String {
        let head = match self.event {
            Event::Start => "begins",
            Event::Success => "ended well",
            Event::Failure if self.told_before > 0 => "still fails",
            Event::Failure => "FAILED",
            Event::Open => "waits for answers",
            Event::Recovered => "is well again",
            Event::Message => "",
        };
        let mut text = match self.event {
            Event::Message => format!("{} on {}: {}", self.application, self.host, self.summary),
            _ => format!("{} on {}: {} {head}", self.application, self.host, self.operation),
        };
        if !matches!(self.event, Event::Message | Event::Start) && !self.summary.is_empty() {
            text.push_str(&format!("\n{}", self.summary));
        }
        if let Some(since) = self.since.filter(|since| *since < self.started) {
            let lasted = size::duration(self.at.since(since));
            let words = if self.event == Event::Recovered { "it failed for" } else { "for" };
            text.push_str(&format!("\n{words} {lasted}, since {} UTC", since.shown()));
        }
        for detail in &self.details {
            text.push_str(&format!("\n• {detail}"));
        }
        text
    }

    /// As Slack reads it: its three special characters are not taken for a mention or a link.
    pub fn slack(&self) -> String {
        let text = self.text().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        serde_json::json!({ "text": text }).to_string()
    }
}
