use std::time::{Duration, Instant};

use super::*;

fn shell(text: &str) -> Run {
    Run::new(Program::Shell(text.into()))
}

fn never() -> bool {
    false
}

#[test]
fn a_command_ends_with_its_status_and_output() {
    let ended = shell("echo out; echo err >&2; exit 3").run(&never).unwrap();
    assert_eq!((ended.exit, ended.signal, ended.timed_out), (Some(3), None, false));
    assert_eq!(ended.stdout.text(), b"out\n");
    assert_eq!(ended.stderr.text(), b"err\n");
    let merged = Run { merge: true, ..shell("echo a; echo b >&2; echo c") }.run(&never).unwrap();
    assert_eq!(merged.stdout.text(), b"a\nb\nc\n");
    let killed = shell("kill -9 $$").run(&never).unwrap();
    assert_eq!((killed.exit, killed.signal), (None, Some(9)));
}

#[test]
fn it_reads_what_it_is_given_and_sees_only_the_environment_it_is_given() {
    let run = Run { stdin: b"hello".to_vec(), ..shell("cat") };
    assert_eq!(run.run(&never).unwrap().stdout.text(), b"hello");
    let run = Run { clear: true, environment: vec![("A".into(), "1".into())], ..shell("/usr/bin/env") };
    let text = String::from_utf8(run.run(&never).unwrap().stdout.text()).unwrap();
    assert!(text.contains("A=1") && !text.contains("CARGO"), "{text}");
    let none = Run::new(Program::Argv(vec!["/does/not/exist".into()])).run(&never);
    assert_eq!(none.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_run_that_takes_too_long_is_ended_with_all_it_started() {
    // a child that ignores TERM, one that left the group, one that left its parent too
    let text = "trap '' TERM; (trap '' TERM; sleep 61) & setsid sleep 62 & (setsid sleep 63 &) ; wait";
    let run =
        Run { limit: Some(Duration::from_millis(300)), grace: Duration::from_millis(200), ..shell(text) };
    let began = Instant::now();
    let running = run.start().unwrap();
    let (pid, mark) = (running.pid(), running.mark.clone());
    let ended = running.wait(&never).unwrap();
    assert!(ended.timed_out);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(tree(pid, &mark), []);
}

#[test]
fn what_a_command_leaves_behind_is_ended_and_holds_nobody_up() {
    let began = Instant::now();
    let ended = shell("sleep 64 & (setsid sleep 65 &); sleep 0.1; echo done").run(&never).unwrap();
    assert_eq!((ended.exit, ended.left), (Some(0), 2));
    assert_eq!(ended.stdout.text(), b"done\n");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_daemon_may_stay_where_that_is_wanted() {
    let run = Run { leave: true, ..shell("(setsid sleep 66 >/dev/null 2>&1 &); sleep 0.1; echo started") };
    let running = run.start().unwrap();
    let (pid, mark) = (running.pid(), running.mark.clone());
    let ended = running.wait(&never).unwrap();
    assert_eq!(ended.stdout.text(), b"started\n");
    let left = tree(pid, &mark);
    assert_eq!(left.len(), 1);
    signal_all(&left, Signal::KILL);
}

#[test]
fn an_endless_output_is_kept_at_both_ends() {
    let run = Run { keep: 100, ..shell("echo first; seq 100000; echo last") };
    let ended = run.run(&never).unwrap();
    let text = String::from_utf8(ended.stdout.text()).unwrap();
    assert!(text.starts_with("first\n1\n") && text.ends_with("\nlast\n"), "{text}");
    assert!(text.contains("bytes left out]") && text.len() < 300);
    assert_eq!(ended.stdout.last_lines(2), b"100000\nlast");
}

#[test]
fn an_interrupt_ends_it() {
    let began = Instant::now();
    let ended = shell("sleep 67").run(&|| began.elapsed() > Duration::from_millis(100)).unwrap();
    assert!(ended.interrupted && !ended.timed_out);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn who_is_dropped_takes_all_with_it() {
    let running = shell("sleep 68").start().unwrap();
    let (pid, mark) = (running.pid(), running.mark.clone());
    assert!(!tree(pid, &mark).is_empty());
    drop(running);
    assert_eq!(tree(pid, &mark), []);
}

#[test]
fn one_that_is_released_lives_on_in_a_session_of_its_own() {
    let output = tempfile::tempfile().unwrap();
    let copy = output.try_clone().unwrap();
    let run = Run { leave: true, output: Some(copy), ..shell("echo up; echo too >&2; exec sleep 68") };
    let running = run.start().unwrap();
    let (pid, mark) = (running.pid(), running.mark().to_owned());
    while read_file(&output, KEEP).unwrap().bytes < 7 {
        thread::sleep(Duration::from_millis(5));
    }
    running.release();
    assert_eq!(rustix::process::getsid(Pid::from_raw(pid)).unwrap().as_raw_nonzero().get(), pid);
    assert_eq!(tree(pid, &mark).len(), 1);
    assert_eq!(end_marked(&mark, GRACE), 1);
    assert_eq!(tree(pid, &mark), []);
    assert_eq!(read_file(&output, KEEP).unwrap().text(), b"up\ntoo\n");
}

#[test]
fn root_may_say_who_it_runs_as() {
    if !crate::sys::host::is_root() {
        return;
    }
    let run = Run { user: Some((65534, 65534, vec![65533])), ..shell("id -u; id -g; id -G") };
    let ended = run.run(&never).unwrap();
    assert_eq!(ended.stdout.text(), b"65534\n65534\n65534 65533\n");
}
