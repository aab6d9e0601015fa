//! The page as a real browser reads it. That it is well-formed and escaped is tested without one too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::samples::{bad, filled_with, good, past};
use crate::evidence::render::html;

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

#[expect(clippy::disallowed_methods, reason = "looks for a program; a switch for developers")]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn browser() -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut all = BROWSERS.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
    let found = all.find(|program| program.is_file());
    if found.is_none() {
        assert!(variable("CI").is_none(), "SKIPPED where nothing may be: there is no browser");
        eprintln!("SKIPPED: there is no browser to look at the page with");
    }
    found
}

// What the browser made of the page, as markup.
fn tree(browser: &Path, page: &Path, profile: &Path) -> String {
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", profile.display())).arg(format!("file://{}", page.display()));
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn a_browser_finds_text_and_no_markup_in_hostile_names() {
    let dir = tempfile::tempdir().unwrap();
    let hostile =
        "</td></pre></title></style><script>document.title='owned'</script><img src=x onerror=x()><b>\"'";
    let pages = [
        ("good", html(&good().judged(), &past()).unwrap()),
        ("bad", html(&bad().judged(), &past()).unwrap()),
        ("hostile", html(&filled_with(hostile), &past()).unwrap()),
    ];
    let keep = variable("LIFEBOAT_TEST_PAGES").map(PathBuf::from);
    let at = keep.as_deref().unwrap_or(dir.path());
    for (name, page) in &pages {
        fs::write(at.join(format!("{name}.html")), page).unwrap();
    }
    let Some(browser) = browser() else { return };
    for (name, page) in &pages {
        let found = tree(&browser, &at.join(format!("{name}.html")), &dir.path().join("profile"));
        for tag in ["<script", "<img", "<iframe", "<link", "<object"] {
            assert!(!found.contains(tag), "{name}: {tag} is in the page");
        }
        let count = |text: &str, tag: &str| text.matches(tag).count();
        // a browser that mends nothing has found what was written
        for tag in ["<svg", "<table", "<section", "<circle", "<pre", "<li"] {
            assert_eq!(count(&found, tag), count(page, tag), "{name}: {tag}");
        }
        assert!(found.contains("Recovery time over all drills"), "{name}");
    }
}
