//! Units of systemd and lines of cron for a plan's runbooks. Pure: nothing here writes or starts anything.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use crate::base::Name;
use crate::plan::Plan;
use crate::plan::calendar::Calendar;

/// The first line of every file that is written, by which it is known again.
pub const MARK: &str = "# Written by lifeboat schedule install; changes are lost with the next one.";
/// How long a run waits for another of the same application.
const WAIT: &str = "6h";
/// System calls that neither an operation nor a command of a runbook has a use for.
const REFUSED: &str = "~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap";

/// What units are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// This program.
    pub program: OsString,
    /// What every run is given: the plan and the repository.
    pub globals: Vec<OsString>,
    /// Variables that say where things are; none of them is a secret.
    pub environment: Vec<(String, OsString)>,
}

/// A file of systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// A runbook's timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The runbook.
    pub runbook: String,
    /// When it comes.
    pub on_calendar: String,
    /// The service, then the timer.
    pub units: [Unit; 2],
    /// The line for cron.
    pub cron: String,
}

/// How the names of all units of an application begin.
pub fn prefix(plan: &Plan) -> String {
    format!("lifeboat-{}-", plain(&plan.name()))
}

/// A timer for each runbook that says when it is due.
///
/// # Errors
/// A sentence if two runbooks would have one name, or a path cannot be written into a unit.
pub fn timers(plan: &Plan, install: &Install) -> Result<Vec<Timer>, String> {
    let mut timers: Vec<Timer> = Vec::new();
    for (name, runbook) in &plan.runbook {
        let on_calendar = match (&runbook.schedule, runbook.every) {
            (Some(schedule), _) => schedule.clone(),
            (None, Some(_)) => "hourly".to_owned(),
            (None, None) => continue,
        };
        let base = format!("{}{}", prefix(plan), plain(name));
        if timers.iter().any(|timer| timer.units[0].name == format!("{base}.service")) {
            return Err(format!("two runbooks would have the unit {base}; rename one of them"));
        }
        let mut words: Vec<OsString> = vec!["run".into(), "--wait".into(), WAIT.into(), "--no-ask".into()];
        if runbook.every.is_some() {
            words.push("--if-due".into());
        }
        words.extend([OsString::from("--"), name.into()]);
        let what = format!("{}: runbook {name}", plan.name());
        timers.push(Timer {
            runbook: name.clone(),
            units: [
                Unit { name: format!("{base}.service"), text: service(plan, install, &words, &what)? },
                Unit { name: format!("{base}.timer"), text: timer(&on_calendar, &what) },
            ],
            cron: cron(&on_calendar, runbook.every.is_some(), install, &words)?,
            on_calendar,
        });
    }
    Ok(timers)
}

fn service(plan: &Plan, install: &Install, words: &[OsString], what: &str) -> Result<String, String> {
    let line = std::iter::once(&install.program).chain(&install.globals).chain(words);
    let line: Vec<String> = line.map(|word| quoted(word)).collect::<Result<_, _>>()?;
    let mut environment = String::new();
    for (name, value) in &install.environment {
        let mut whole = OsString::from(format!("{name}="));
        whole.push(value);
        // unlike a command line, this knows no variables
        environment.push_str(&format!("Environment={}\n", quoted(&whole)?.replace("$$", "$")));
    }
    let directory = plan.directory().as_os_str();
    let directory = directory.to_str().filter(|text| !text.contains(char::is_control));
    let directory = directory.ok_or("the path of the plan's directory cannot be written into a unit")?;
    Ok(format!(
        "{MARK}\n\
         [Unit]\n\
         Description=Lifeboat, {}\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={}\n\
         WorkingDirectory={}\n\
         {environment}\
         # 3: questions are open, which nobody can answer here; the record says so\n\
         SuccessExitStatus=3\n\
         # a service that a step started lives on; a step that did not end was ended with all it had started\n\
         KillMode=process\n\
         Nice=10\n\
         IOSchedulingClass=best-effort\n\
         IOSchedulingPriority=7\n\
         UMask=0077\n\
         # no more than this: a drill makes namespaces and mounts of its own, a restore sets every mode\n\
         NoNewPrivileges=yes\n\
         LockPersonality=yes\n\
         RestrictRealtime=yes\n\
         SystemCallArchitectures=native\n\
         SystemCallFilter={REFUSED}\n\
         SystemCallErrorNumber=EPERM\n",
        one_line(what).replace('%', "%%"),
        line.join(" "),
        directory.replace('%', "%%"),
    ))
}

fn timer(on_calendar: &str, what: &str) -> String {
    format!(
        "{MARK}\n\
         [Unit]\n\
         Description=Lifeboat, when it is due: {}\n\
         \n\
         [Timer]\n\
         OnCalendar={on_calendar}\n\
         # what was missed while the host was off is made up for\n\
         Persistent=true\n\
         RandomizedDelaySec=60\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n",
        one_line(what).replace('%', "%%")
    )
}

// Where cron cannot say when, it asks every hour.
fn cron(on_calendar: &str, asks: bool, install: &Install, words: &[OsString]) -> Result<String, String> {
    let fields = on_calendar.parse::<Calendar>().ok().and_then(|calendar| calendar.cron());
    let mut line: Vec<OsString> = Vec::new();
    for (name, value) in &install.environment {
        let mut whole = OsString::from(format!("{name}="));
        whole.push(value);
        line.push(whole);
    }
    line.push(install.program.clone());
    line.extend(install.globals.iter().cloned());
    line.extend(words.iter().cloned());
    let (fields, hourly) = fields.map_or_else(|| ("0 * * * *".to_owned(), true), |fields| (fields, false));
    if hourly && !asks {
        let at = line.len().saturating_sub(2);
        line.insert(at, "--if-due".into());
    }
    let line: Vec<String> = line.iter().map(|word| shell_word(word)).collect::<Result<_, _>>()?;
    // cron takes a bare % for a new line
    Ok(format!("{fields} {}", line.join(" ").replace('%', "\\%")))
}

// A word of a command line of systemd: quotes, and `%` and `$` for themselves.
fn quoted(word: &OsStr) -> Result<String, String> {
    let text = text_of(word)?;
    let text = text.replace('%', "%%").replace('$', "$$");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,@+%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Ok(text);
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn shell_word(word: &OsStr) -> Result<String, String> {
    let text = text_of(word)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,@+%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Ok(text);
    }
    // the name of a variable is not quoted, or it would be a command
    let (name, value) = match text.split_once('=') {
        Some((name, value)) if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') => {
            (format!("{name}="), value)
        }
        _ => (String::new(), text.as_str()),
    };
    Ok(format!("{name}'{}'", value.replace('\'', "'\\''")))
}

fn text_of(word: &OsStr) -> Result<String, String> {
    let text = std::str::from_utf8(word.as_bytes()).ok().filter(|text| !text.contains(char::is_control));
    text.map(str::to_owned)
        .ok_or_else(|| format!("{} cannot be written into a unit; rename it", Name::from(word).shown()))
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

// What may stand in the name of a unit.
fn plain(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' }).collect();
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn plan(text: &str) -> Plan {
        Plan::parse(text, Path::new("/srv/my app/lifeboat.toml")).unwrap()
    }

    fn install() -> Install {
        Install {
            program: "/usr/bin/lifeboat".into(),
            globals: vec!["--config".into(), "/srv/my app/50%$x.toml".into()],
            environment: vec![("LIFEBOAT_WRITER_KEY".to_owned(), "/etc/a key".into())],
        }
    }

    #[test]
    fn every_runbook_that_says_when_has_a_timer() {
        let plan = plan(
            "[runbook.daily]\nsteps = [\"health\"]\nschedule = \"03:00\"\n[runbook.'often & odd']\nsteps = [\"health\"]\n\
             every = \"3h\"\n[runbook.emergency]\nsteps = [\"health\"]\n",
        );
        let found = timers(&plan, &install()).unwrap();
        let names: Vec<&str> = found.iter().flat_map(|t| &t.units).map(|unit| unit.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "lifeboat-my_app-daily.service",
                "lifeboat-my_app-daily.timer",
                "lifeboat-my_app-often___odd.service",
                "lifeboat-my_app-often___odd.timer"
            ]
        );
        let service = &found[0].units[0].text;
        assert!(service.starts_with(MARK));
        let line = "ExecStart=/usr/bin/lifeboat --config \"/srv/my app/50%%$$x.toml\" run --wait 6h --no-ask -- daily\n";
        assert!(service.contains(line), "{service}");
        assert!(service.contains("\nWorkingDirectory=/srv/my app\n"));
        assert!(service.contains("\nEnvironment=\"LIFEBOAT_WRITER_KEY=/etc/a key\"\n"), "{service}");
        assert!(found[0].units[1].text.contains("OnCalendar=03:00\n"));
        assert!(found[0].units[1].text.contains("Persistent=true\n"));
        assert!(found[1].units[0].text.contains("--if-due -- \"often & odd\"\n"));
        assert!(found[1].units[1].text.contains("OnCalendar=hourly\n"));
    }

    #[test]
    fn cron_asks_every_hour_where_it_cannot_say_when() {
        let lines = |schedule: &str| {
            let text = format!("[runbook.x]\nsteps = [\"health\"]\nschedule = \"{schedule}\"\n");
            timers(&plan(&text), &install()).unwrap()[0].cron.clone()
        };
        let command =
            "LIFEBOAT_WRITER_KEY='/etc/a key' /usr/bin/lifeboat --config '/srv/my app/50\\%$x.toml'";
        assert_eq!(lines("Sun 03:00"), format!("0 3 * * 0 {command} run --wait 6h --no-ask -- x"));
        assert_eq!(lines("*:0/15"), format!("0,15,30,45 * * * * {command} run --wait 6h --no-ask -- x"));
        assert_eq!(
            lines("Sat *-*-01..07 04:00"),
            format!("0 * * * * {command} run --wait 6h --no-ask --if-due -- x")
        );
    }

    #[test]
    fn two_runbooks_do_not_share_a_unit() {
        let plan = plan(
            "[runbook.'a b']\nsteps = [\"health\"]\nevery = \"3h\"\n[runbook.'a_b']\nsteps = [\"health\"]\nevery = \"3h\"\n",
        );
        assert!(timers(&plan, &install()).unwrap_err().contains("rename"));
    }
}
