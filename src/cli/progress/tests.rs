//! What the observers write for the same piece of work.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anstream::AutoStream;

use super::bar::{WAITING, WITH_TOTAL, WITHOUT_TOTAL, clock};
use super::*;
use crate::base::event::{Event, Step};

const NEVER: Duration = Duration::from_secs(3600);

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    // as on a terminal without colours
    fn sink(&self) -> Sink {
        let writer: Box<dyn Write + Send> = Box::new(self.clone());
        Sink::new(AutoStream::never(writer))
    }
    fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).unwrap()
    }
}

fn notice(subject: Option<&[u8]>) -> Notice {
    Notice {
        code: "file-unreadable",
        subject: subject.map(|bytes| Name(bytes.to_vec())),
        text: "permission denied".to_owned(),
    }
}

// A short piece of work, as an operation tells it.
fn tell(observer: &dyn Observer) {
    observer.event(Event::Advanced { entries: 9, bytes: 9 });
    observer.event(Event::Started { step: Step::Snapshot, bytes: Some(4096) });
    observer.event(Event::Advanced { entries: 1, bytes: 1024 });
    observer.event(Event::Notice(&notice(Some(b"a\x1b\xff"))));
    observer.event(Event::Advanced { entries: 1, bytes: 1024 });
    observer.event(Event::Finished);
    observer.event(Event::Advanced { entries: 1, bytes: 0 });
    observer.event(Event::Notice(&notice(None)));
}

const NOTICES: [&str; 2] = [
    "warning[file-unreadable]: a\\x1b\\xff: permission denied",
    "warning[file-unreadable]: permission denied",
];

#[test]
fn lines_tell_how_far_it_is_when_due() {
    let paper = Paper::default();
    tell(&Lines::new(paper.sink(), Some(Duration::ZERO), Arc::default()));
    let text = paper.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("snapshot: 1 entry, 1.0 KiB of 4.0 KiB (25 %), "), "{text}");
    assert!(lines[2].starts_with("snapshot: 2 entries, 2.0 KiB of 4.0 KiB (50 %), "), "{text}");
    assert_eq!([lines[1], lines[3]], NOTICES);
    assert_eq!(lines.len(), 4);
}

#[test]
fn nothing_but_notices_when_not_due_or_quiet_or_on_a_bar() {
    let (late, quiet, bar) = (Paper::default(), Paper::default(), Paper::default());
    tell(&Lines::new(late.sink(), Some(NEVER), Arc::default()));
    tell(&Lines::new(quiet.sink(), None, Arc::default()));
    tell(&Bar::new(bar.sink(), Arc::default()));
    for paper in [late, quiet, bar] {
        assert_eq!(paper.text().lines().collect::<Vec<_>>(), NOTICES);
    }
}

#[test]
fn json_lines_have_status_and_error() {
    let paper = Paper::default();
    tell(&Json::new(paper.sink(), Duration::ZERO, Arc::default()));
    let text = paper.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with(
            r#"{"message_type":"status","step":"snapshot","entries":1,"bytes":1024,"total_bytes":4096,"seconds":0"#
        ),
        "{text}"
    );
    let error = r#"{"message_type":"error","code":"file-unreadable","item":"#;
    assert_eq!(lines[1], format!(r#"{error}"a\u001b\udcff","text":"permission denied"}}"#));
    assert_eq!(lines[3], format!(r#"{error}null,"text":"permission denied"}}"#));
    assert_eq!(lines.len(), 4);
}

#[test]
fn the_flag_interrupts_every_observer() {
    let stop: Arc<AtomicBool> = Arc::default();
    let all =
        [Show::Bar, Show::Lines, Show::Notices, Show::Json].map(|show| observer(show, Arc::clone(&stop)));
    assert!(all.iter().all(|observer| !observer.interrupted()));
    stop.store(true, Ordering::Relaxed);
    assert!(all.iter().all(|observer| observer.interrupted()));
}

#[test]
fn the_templates_of_the_bar_are_understood() {
    for template in [WITH_TOTAL, WITHOUT_TOTAL, WAITING] {
        assert!(indicatif::ProgressStyle::with_template(template).is_ok(), "{template}");
    }
    assert_eq!(clock(Duration::from_secs(7)), "0:07");
    assert_eq!(clock(Duration::from_secs(10_805)), "3:00:05");
}
