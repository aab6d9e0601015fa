//! Readiness by the real program: from nothing to ready, each thing that goes wrong on the way, and the page in a real browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::env::{TestEnv, have, run};
use crate::runbooks::App;

const PLAN: &str = r#"
[[check]]
name = "figure"
json = "figure.json"
pointer = "/rows"
equals = 42

[drill]
objectives = { rto = "15m", rpo = "24h" }
"#;

fn app(env: &TestEnv) -> App<'_> {
    let app = App::new(env, PLAN);
    fs::write(app.dir.join("figure.json"), "{\"rows\": 42}\n").unwrap();
    app
}

// What is wrong, each line with its verdict, and the exit status.
#[track_caller]
fn wrong(app: &App<'_>) -> (Vec<String>, i32) {
    let (found, code) = app.json(&["status"]);
    let lines = found["lines"].as_array().unwrap().iter();
    let wrong = lines.filter(|line| !matches!(line["verdict"].as_str(), Some("pass" | "not-judged")));
    let words = wrong.map(|line| {
        assert!(
            line["mend"].is_string() && line["reason"].as_str().is_some_and(|text| !text.is_empty()),
            "{line}"
        );
        format!("{} {}", line["name"].as_str().unwrap(), line["verdict"].as_str().unwrap())
    });
    (words.collect(), code)
}

#[track_caller]
fn assert_wrong(app: &App<'_>, lines: &[&str], code: i32) {
    assert_eq!(wrong(app), (lines.iter().map(|&line| line.to_owned()).collect(), code));
}

#[track_caller]
fn make_ready(app: &App<'_>) {
    app.lifeboat(&["snapshot", "-q"]).ok();
    app.lifeboat(&["verify", "--read-data", "-q"]).ok();
    app.lifeboat(&["drill", "-q"]).ok();
    app.lifeboat(&["health", "-q"]).ok();
    assert_wrong(app, &[], 0);
}

fn only(directory: &Path, ending: &str) -> PathBuf {
    let files = walkdir::WalkDir::new(directory).into_iter().map(|entry| entry.unwrap().into_path());
    let mut found: Vec<PathBuf> =
        files.filter(|path| path.is_file() && path.to_string_lossy().ends_with(ending)).collect();
    found.sort();
    found.pop().unwrap()
}

#[test]
fn what_is_missing_is_said_until_nothing_is() {
    let env = TestEnv::new();
    let app = app(&env);
    assert_wrong(&app, &["snapshot fail", "verification stale", "drill stale", "health stale"], 1);
    app.lifeboat(&["snapshot", "-q"]).ok();
    let stale = ["verification stale", "coverage stale", "drill stale", "health stale"];
    assert_wrong(&app, &stale, 3);
    app.lifeboat(&["verify", "--read-data", "-q"]).ok();
    app.lifeboat(&["drill", "-q"]).ok();
    assert_wrong(&app, &["health stale"], 3);
    app.lifeboat(&["health", "-q"]).ok();
    assert_wrong(&app, &[], 0);
    // people read the same, and --wrong leaves out what is well
    let text = app.lifeboat(&["status"]).ok().stdout;
    assert!(
        text.starts_with("small: ready\n") && text.contains("every byte read within 30 days: 100 %"),
        "{text}"
    );
    assert_eq!(app.lifeboat(&["status", "--wrong"]).ok().stdout, "small: ready\n");
    // a check that fails is one line
    fs::write(app.dir.join("figure.json"), "{\"rows\": 41}\n").unwrap();
    app.lifeboat(&["health", "-q"]).exits(1);
    assert_wrong(&app, &["health fail"], 3);
    let text = app.lifeboat(&["status", "--wrong"]).exits(3).stdout;
    assert!(text.contains("figure") && text.contains("lifeboat health"), "{text}");
    // without a plan the repository is judged by itself
    let done = run(env.command(&["status"]).current_dir(env.path("home")));
    assert!(done.stdout.starts_with("the repository: ready"), "{}{}", done.stdout, done.stderr);
    // and without a repository nothing is ready
    let elsewhere = env.path("none");
    let (found, code) = app.json(&["status", "--repo", elsewhere.to_str().unwrap()]);
    assert_eq!((code, found["lines"][0]["mend"].as_str()), (1, Some("lifeboat init")));
}

#[test]
fn what_is_advised_about_a_drill_that_failed_is_a_command_that_works() {
    let env = TestEnv::new();
    let app = app(&env);
    fs::write(app.dir.join("figure.json"), "{\"rows\": 41}\n").unwrap();
    app.lifeboat(&["snapshot", "-q"]).ok();
    app.lifeboat(&["drill", "-q", "--allow-unisolated"]).exits(20);
    let (found, _) = app.json(&["status"]);
    let line = found["lines"].as_array().unwrap().iter().find(|line| line["name"] == "drill").unwrap();
    let words: Vec<&str> = line["mend"].as_str().unwrap().split(' ').collect();
    assert!(words[0] == "lifeboat" && words[1] == "log", "{line}");
    let told = app.lifeboat(&words[1..]).ok().stdout;
    assert!(told.contains("figure"), "{told}");
}

#[test]
fn damage_and_its_end_are_said() {
    let env = TestEnv::new();
    let app = app(&env);
    make_ready(&app);
    let pack = only(&env.repo().join("packs"), ".tar.zst");
    let whole = fs::read(&pack).unwrap();
    let mut broken = whole.clone();
    broken[20] ^= 1;
    let times = fs::metadata(&pack).unwrap().modified().unwrap();
    fs::write(&pack, &broken).unwrap();
    app.lifeboat(&["verify", "--read-data", "-q"]).exits(40);
    let (found, code) = wrong(&app);
    assert!(found.contains(&"verification fail".to_owned()) && code == 1, "{found:?} {code}");
    // a look at the structure alone proves nothing of the pack
    app.lifeboat(&["verify", "-q"]);
    assert!(wrong(&app).0.contains(&"verification fail".to_owned()));
    fs::write(&pack, &whole).unwrap();
    fs::File::options().write(true).open(&pack).unwrap().set_modified(times).unwrap();
    app.lifeboat(&["verify", "--read-data", "-q"]).ok();
    assert_wrong(&app, &[], 0);
}

#[test]
fn packs_that_are_gone_or_cut_are_said_without_reading_them() {
    let env = TestEnv::new();
    let app = app(&env);
    make_ready(&app);
    let pack = only(&env.repo().join("packs"), ".tar.zst");
    let (whole, aside) = (fs::read(&pack).unwrap(), env.path("aside"));
    for _ in 0..2 {
        fs::rename(&pack, &aside).unwrap();
        assert_wrong(&app, &["repository fail"], 1);
        fs::rename(&aside, &pack).unwrap();
        assert_wrong(&app, &[], 0);
    }
    fs::write(&pack, &whole[..whole.len() - 1]).unwrap();
    assert_wrong(&app, &["repository fail"], 1);
    fs::write(&pack, &whole).unwrap();
    assert_wrong(&app, &[], 0);
    // all of them, and what tells of them
    for folder in ["packs", "index"] {
        let path = env.repo().join(folder);
        fs::remove_dir_all(&path).unwrap();
        fs::create_dir(&path).unwrap();
    }
    assert!(wrong(&app).0.contains(&"repository fail".to_owned()));
}

#[test]
fn what_this_host_remembers_and_cannot_be_read_is_a_line_of_its_own() {
    let env = TestEnv::new();
    let app = app(&env);
    make_ready(&app);
    let states = fs::read_dir(env.path("state")).unwrap().map(|state| state.unwrap().path());
    let state = states.into_iter().find(|state| state.file_name().unwrap() != "seen").unwrap();
    for name in ["capacity.json", "notify.json", "maintenance.json"] {
        fs::write(state.join(name), "x").unwrap();
        assert_wrong(&app, &["memory error"], 3);
        fs::remove_file(state.join(name)).unwrap();
    }
    let seen = only(&env.path("state/seen"), "seen.json");
    fs::write(&seen, "x").unwrap();
    assert_wrong(&app, &["memory error"], 3);
    fs::remove_file(&seen).unwrap();
    // what was read is only read again
    let memory = only(&env.path("state/seen"), "readiness.json");
    for text in ["", "null", "[]", "{\"records\": 1}"] {
        fs::write(&memory, text).unwrap();
        assert_wrong(&app, &[], 0);
    }
}

#[test]
fn names_outside_of_the_tree_do_not_fail_a_drill() {
    let env = TestEnv::new();
    let app = app(&env);
    // as after a rollback, whose earlier tree shares what is kept
    fs::hard_link(app.dir.join("data.txt"), env.path("elsewhere")).unwrap();
    fs::hard_link(app.dir.join("figure.json"), app.dir.join("second name")).unwrap();
    make_ready(&app);
}

#[test]
fn a_record_that_was_there_and_is_gone_is_said_again_and_again() {
    let env = TestEnv::new();
    let app = app(&env);
    make_ready(&app);
    let record = only(&env.repo().join("records"), ".json");
    let signature = PathBuf::from(record.to_str().unwrap().replace(".json", ".sig"));
    let aside = env.path("aside");
    fs::create_dir(&aside).unwrap();
    let moved = |from: &Path| aside.join(from.file_name().unwrap());
    for file in [&record, &signature] {
        fs::rename(file, moved(file)).unwrap();
    }
    // the end of a chain: the chain itself is whole, and only who has seen more knows
    for _ in 0..2 {
        assert_wrong(&app, &["logbook fail"], 3);
        let done = app.lifeboat(&["log", "verify"]).exits(40);
        assert!(done.stdout.contains("this host has seen it"), "{}", done.stdout);
    }
    for file in [&record, &signature] {
        fs::rename(moved(file), file).unwrap();
    }
    assert_wrong(&app, &[], 0);
    // one that was changed
    let text = fs::read(&record).unwrap();
    fs::write(&record, b"{}").unwrap();
    assert_wrong(&app, &["logbook fail"], 3);
    fs::write(&record, text).unwrap();
    assert_wrong(&app, &[], 0);
}

#[test]
fn a_replica_is_compared_with_the_repository() {
    let env = TestEnv::new();
    let app = app(&env);
    let replica = env.path("replica");
    app.plan(&format!("{PLAN}[repository]\nreplicas = [{replica:?}]\n"));
    app.lifeboat(&["snapshot", "-q"]).ok();
    let copy = || run(Command::new("cp").arg("-a").arg(env.repo()).arg(&replica)).ok();
    let line = || {
        let (found, _) = app.json(&["status"]);
        let lines = found["lines"].as_array().unwrap();
        let line = lines.iter().find(|line| line["name"] == "replicas").unwrap();
        (line["verdict"].as_str().unwrap().to_owned(), line["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(line().0, "fail");
    copy();
    assert_eq!(line().0, "pass");
    // a snapshot that is newer is no failure yet: its lag is within the objective
    fs::write(app.dir.join("new"), "new").unwrap();
    app.lifeboat(&["snapshot", "-q"]).ok();
    let (verdict, reason) = line();
    assert!(verdict == "pass" && reason.contains("lacks 1 snapshot"), "{verdict}: {reason}");
    // a copy without its packs is none
    fs::remove_dir_all(&replica).unwrap();
    copy();
    fs::remove_file(only(&replica.join("packs"), ".tar.zst")).unwrap();
    let (verdict, reason) = line();
    assert!(verdict == "fail" && reason.contains("lacks 1 pack"), "{verdict}: {reason}");
    // another repository is no copy
    fs::remove_dir_all(&replica).unwrap();
    app.lifeboat(&["init", "-q", "--repo", replica.to_str().unwrap()]).ok();
    assert!(line().1.contains("another repository"));
}

// What a browser makes of a page, in a window of this width.
fn seen(page: &Path, width: u32, dark: bool) -> Value {
    let wrapper = page.with_file_name("wrapper.html");
    let name = page.file_name().unwrap().to_str().unwrap();
    let script = "document.getElementById('f').onload = function () { var d = this.contentDocument, e = d.documentElement;
        document.title = JSON.stringify({over: e.scrollWidth - e.clientWidth, title: d.title, scripts: d.scripts.length,
        drawings: d.querySelectorAll('svg').length, text: d.body.innerText.length, back: getComputedStyle(d.body).backgroundColor,
        images: d.images.length, alerts: d.documentElement.outerHTML.indexOf('owned') }) }";
    let text = format!(
        "<!doctype html><title>wait</title><iframe id=f width={width} height=3000 src={name}></iframe><script>{script}</script>"
    );
    fs::write(&wrapper, text).unwrap();
    let mut browser = Command::new("chromium");
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]);
    browser.args([
        "--virtual-time-budget=5000",
        &format!("--user-data-dir={}", page.with_file_name("browser").display()),
    ]);
    browser.arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }));
    let done = run(browser.arg("--dump-dom").arg(format!("file://{}", wrapper.display())));
    let title = done.stdout.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next());
    let title = title.unwrap_or_default().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&title).unwrap_or_else(|error| panic!("{error}: {}{}", done.stdout, done.stderr))
}

#[test]
fn the_page_is_readable_in_a_browser_and_hostile_names_are_harmless() {
    if !have(&["chromium"]) {
        return;
    }
    let env = TestEnv::new();
    let app = app(&env);
    make_ready(&app);
    let evil = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";
    app.lifeboat(&["log", "add", "-q", "--next-action", evil, "--owner", evil]).ok();
    let page = env.path("page.html");
    app.lifeboat(&["report", "-q", "--output", page.to_str().unwrap()]).ok();
    let mut backs = Vec::new();
    for (width, dark) in [(1200, false), (1200, true), (375, false)] {
        let seen = seen(&page, width, dark);
        assert_eq!(
            (seen["title"].as_str(), seen["scripts"].as_u64(), seen["images"].as_u64()),
            (Some("small: ready"), Some(0), Some(0)),
            "{seen}"
        );
        assert_eq!(seen["over"].as_i64(), Some(0), "it is wider than a window of {width}: {seen}");
        assert!(seen["drawings"].as_u64() >= Some(3) && seen["text"].as_u64() > Some(500), "{seen}");
        backs.push(seen["back"].clone());
    }
    assert_ne!(backs[0], backs[1], "there is no dark scheme");
    // in print
    let pdf = env.path("page.pdf");
    let mut browser = Command::new("chromium");
    browser.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        &format!("--user-data-dir={}", env.path("browser").display()),
    ]);
    run(browser.arg(format!("--print-to-pdf={}", pdf.display())).arg(format!("file://{}", page.display())));
    assert!(fs::read(&pdf).unwrap().starts_with(b"%PDF"));
    // the data, and the verdict as an exit status
    let (data, code) = app.json(&["report", "--judge"]);
    assert_eq!((data["schema"].as_str(), code), (Some("lifeboat-report-1"), 0));
    assert_eq!(data["drills"].as_array().unwrap().len(), 1);
    assert_eq!(data["actions"][0]["text"].as_str(), Some(evil));
}
