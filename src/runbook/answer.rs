//! What people say to a question.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::base::name::shown;
use crate::plan::{Operation, Plan, Step};

/// How a question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is well.
    Yes,
    /// It is not.
    No,
    /// The question does not apply.
    NotApplicable,
    /// Not now.
    Open,
}

/// An answer with what was said besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The answer itself.
    pub said: Said,
    /// What was said besides; empty if nothing was.
    pub note: String,
}

impl Said {
    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::NotApplicable => "n/a",
            Self::Open => "open",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.said.word())?;
        if self.note.is_empty() { Ok(()) } else { write!(f, ": {}", self.note) }
    }
}

impl Answer {
    /// Reads `yes`, `no: because`, `n/a`, `open`.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find([':', ',', ' ']).unwrap_or(text.len());
        let said = match text[..end].to_ascii_lowercase().as_str() {
            "yes" | "y" | "done" | "ok" | "pass" => Said::Yes,
            "no" | "n" | "fail" | "failed" => Said::No,
            "n/a" | "na" => Said::NotApplicable,
            "open" | "" => Said::Open,
            _ => {
                let text = shown(text.as_bytes());
                return Err(format!("an answer begins with yes, no, n/a or open; {text} does not"));
            }
        };
        let note = text[end..].trim_start_matches([':', ',', ' ']).trim();
        Ok(Self { said, note: note.to_owned() })
    }
}

/// A question of a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// What is asked.
    pub text: String,
    /// What its step is called.
    pub name: Option<String>,
}

/// The questions of these steps, and of the runbooks that they name.
pub fn questions(plan: &Plan, steps: &[&Step]) -> Vec<Question> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    collect(plan, steps, &mut seen, &mut found);
    found.into_iter().collect()
}

fn collect<'p>(
    plan: &'p Plan,
    steps: &[&'p Step],
    seen: &mut BTreeSet<&'p str>,
    found: &mut BTreeSet<Question>,
) {
    for step in steps {
        match &step.operation {
            Operation::Manual(text) => {
                found.insert(Question { text: text.clone(), name: step.name.clone() });
            }
            Operation::Lifeboat(words) if words[0] == "run" => {
                let Some((name, runbook)) = words.get(1).and_then(|name| plan.runbook.get_key_value(name))
                else {
                    continue;
                };
                if seen.insert(name) {
                    collect(plan, &runbook.steps.iter().collect::<Vec<_>>(), seen, found);
                }
            }
            _ => {}
        }
    }
}

/// Answers that were given beforehand, by the question's text.
pub type Answers = BTreeMap<String, Answer>;

/// Reads texts of the form `QUESTION=ANSWER`.
///
/// # Errors
/// A sentence: no such question, one that means several, one that is answered twice, no answer.
pub fn read(texts: &[String], questions: &[Question]) -> Result<Answers, String> {
    let mut answers = Answers::new();
    for text in texts {
        let (question, answer) = split(text, questions)?;
        if answers.insert(question.text.clone(), Answer::parse(answer)?).is_some() {
            return Err(format!("{} is answered twice", shown(question.text.as_bytes())));
        }
    }
    Ok(answers)
}

// Both sides may hold a `=`, so the whole question goes before the beginning of one.
fn split<'q, 't>(text: &'t str, questions: &'q [Question]) -> Result<(&'q Question, &'t str), String> {
    let cuts: Vec<(&str, &str)> =
        text.match_indices('=').map(|(at, _)| (text[..at].trim(), &text[at + 1..])).collect();
    if cuts.is_empty() {
        return Err(format!("{} is not of the form QUESTION=ANSWER", shown(text.as_bytes())));
    }
    for (left, right) in &cuts {
        let is = |q: &&Question| q.text == *left || q.name.as_deref() == Some(*left);
        if let Some(question) = questions.iter().find(is) {
            return Ok((question, right));
        }
    }
    let mut several = false;
    for (left, right) in cuts.iter().filter(|(left, _)| !left.is_empty()) {
        let begins = |q: &&Question| {
            q.text.starts_with(left) || q.name.as_deref().is_some_and(|name| name.starts_with(left))
        };
        let found: Vec<_> = questions.iter().filter(begins).collect();
        match found[..] {
            [question] => return Ok((question, right)),
            [] => {}
            _ => several = true,
        }
    }
    let all: Vec<String> = questions.iter().map(|q| format!("\"{}\"", shown(q.text.as_bytes()))).collect();
    let left = shown(cuts[0].0.as_bytes());
    Err(match (several, all.is_empty()) {
        (_, true) => "there is no question to answer".to_owned(),
        (true, _) => format!("\"{left}\" may be any of several questions: {}", all.join(", ")),
        (false, _) => format!("there is no question \"{left}\"; there is {}", all.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(text: &str, name: Option<&str>) -> Question {
        Question { text: text.to_owned(), name: name.map(str::to_owned) }
    }

    #[test]
    fn an_answer_has_a_word_and_a_note() {
        let read = |text: &str| Answer::parse(text).unwrap().to_string();
        assert_eq!(read("yes"), "yes");
        assert_eq!(read(" Y: seen by Ada "), "yes: seen by Ada");
        assert_eq!(read("no, the disk is full"), "no: the disk is full");
        assert_eq!(read("N/A"), "n/a");
        assert_eq!(read(""), "open");
        assert!(Answer::parse("maybe").unwrap_err().contains("yes, no, n/a or open"));
        // a longer word is not its beginning
        assert!(Answer::parse("yesterday").is_err());
    }

    #[test]
    fn the_question_is_named_whole_by_name_or_by_its_beginning() {
        let all = [
            question("is a=b?", None),
            question("are stakeholders informed?", Some("stakeholders")),
            question("are there alerts?", None),
        ];
        let read = |text: &str| read(&[text.to_owned()], &all).map(|a| a.into_iter().next().unwrap());
        assert_eq!(read("is a=b?=no").unwrap().0, "is a=b?");
        assert_eq!(read("is a=b?=yes: x=y").unwrap().1.note, "x=y");
        assert_eq!(read("stakeholders=yes").unwrap().0, "are stakeholders informed?");
        assert_eq!(read("are th=yes").unwrap().0, "are there alerts?");
        assert!(read("are=yes").unwrap_err().contains("any of several"));
        assert!(read("nothing=yes").unwrap_err().contains("there is no question"));
        assert!(read("nothing").unwrap_err().contains("QUESTION=ANSWER"));
        assert!(super::read(&["x=yes".to_owned()], &[]).unwrap_err().contains("no question to answer"));
        let twice = ["stakeholders=yes".to_owned(), "are stakeholders=no".to_owned()];
        assert!(super::read(&twice, &all).unwrap_err().contains("twice"));
    }
}
