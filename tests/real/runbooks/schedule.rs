//! Timers of the host.

use std::fs;
use std::process::Command;

use super::App;
use crate::env::{TestEnv, have, run};

const PLAN: &str = "[runbook.daily]\nschedule = \"Mon..Fri 03:00\"\nsteps = [\"health\"]\n\
                    [runbook.\"odd name\"]\nevery = \"3h\"\nsteps = [\"health\"]\n[runbook.never]\nsteps = [\"health\"]\n";

#[test]
fn units_are_written_compared_and_removed() {
    let env = TestEnv::new();
    let app = App::new(&env, PLAN);
    let units = env.path("units");
    let place = units.to_str().unwrap();
    let printed = app.lifeboat(&["schedule", "install", "--print"]).ok().stdout;
    assert!(
        printed.contains("OnCalendar=Mon..Fri 03:00\n") && printed.contains("Persistent=true"),
        "{printed}"
    );
    assert!(!units.exists());
    let done = app.lifeboat(&["schedule", "install", "--directory", place]).ok();
    assert!(done.stderr.contains("nothing is enabled yet"), "{}", done.stderr);
    let names = || {
        let mut names: Vec<String> = fs::read_dir(&units)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let all = [
        "lifeboat-small-daily.service",
        "lifeboat-small-daily.timer",
        "lifeboat-small-odd_name.service",
        "lifeboat-small-odd_name.timer",
    ];
    assert_eq!(names(), all);
    if have(&["systemd-analyze"]) {
        let mut command = Command::new("systemd-analyze");
        command.arg("verify").args(names().iter().map(|name| units.join(name)));
        let verified = run(&mut command).ok();
        assert!(!verified.stderr.contains("lifeboat-small"), "{}", verified.stderr);
    }
    // the service does what it says
    let service = fs::read_to_string(units.join(all[2])).unwrap();
    let line = service.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let mut command = Command::new("sh");
    env.set(&mut command);
    run(command.args(["-c", line])).ok();
    assert_eq!(app.records()[0]["scenario"], "runbook odd name");

    let show = || app.lifeboat(&["schedule", "show", "--directory", place]).ok().stdout;
    assert!(show().lines().filter(|line| line.ends_with("  installed")).count() == 4, "{}", show());
    app.plan("[runbook.daily]\nschedule = \"04:00\"\nsteps = [\"health\"]\n");
    assert!(
        show().contains("differs from the plan") && show().contains("of no runbook any more"),
        "{}",
        show()
    );

    let foreign = units.join("lifeboat-small-mine.timer");
    fs::write(&foreign, "[Timer]\nOnCalendar=daily\n").unwrap();
    app.lifeboat(&["schedule", "remove", "--directory", place]).ok();
    assert_eq!(names(), ["lifeboat-small-mine.timer"]);
    fs::rename(&foreign, units.join("lifeboat-small-daily.timer")).unwrap();
    let done = app.lifeboat(&["schedule", "install", "--directory", place]).exits(1);
    assert!(done.stderr.contains("lifeboat did not write it"), "{}", done.stderr);
}

#[test]
fn what_is_enabled_is_said_and_nothing_else_is() {
    use std::os::unix::fs::PermissionsExt as _;
    let env = TestEnv::new();
    let app = App::new(&env, PLAN);
    let bin = env.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let fake = bin.join("systemctl");
    fs::write(&fake, format!("#!/bin/sh\necho \"$*\" >>'{}'\n", env.path("asked").display())).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let units = env.path("units");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let install = |more: &[&str]| {
        let args = [&["schedule", "install", "--directory", units.to_str().unwrap()], more].concat();
        run(app.command(&args).env("PATH", &path)).ok()
    };
    install(&[]);
    assert!(!env.path("asked").exists());
    let said = install(&["--enable"]).stderr;
    let asked = fs::read_to_string(env.path("asked")).unwrap();
    let asked: Vec<&str> = asked.lines().map(|line| line.trim_start_matches("--user ")).collect();
    assert_eq!(
        asked,
        ["daemon-reload", "enable --now lifeboat-small-daily.timer lifeboat-small-odd_name.timer"]
    );
    assert!(asked.iter().all(|line| said.contains(line)), "{said}");
}

#[test]
fn cron_has_lines_that_work() {
    let env = TestEnv::new();
    let app = App::new(&env, PLAN);
    let lines = app.lifeboat(&["schedule", "install", "--cron", "-q"]).ok().stdout;
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2);
    let command = lines[0].strip_prefix("0 3 * * 1,2,3,4,5 ").unwrap();
    let mut shell = Command::new("sh");
    env.set(&mut shell);
    run(shell.args(["-c", &command.replace("\\%", "%")])).ok();
    assert_eq!(app.records().len(), 1);
}
