//! Finds out what an application is, and writes a first plan.
//!
//! What is found is written as keys, what is only likely as comments, so that nobody's drill runs what
//! nobody looked at. Nothing is run.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::USUAL_PATH;
use crate::base::Name;

/// The variable that says where programs are.
const PATH: &str = "PATH";
/// So many SQLite files are named.
const MOST: usize = 20;
/// More entries are not looked through.
const ENTRIES: usize = 50_000;
/// What every SQLite database begins with (the SQLite file format, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Tells what a variable of the environment says.
pub type Variables<'v> = &'v dyn Fn(&str) -> Option<OsString>;

/// What was found in a directory. Commands are texts for a shell, paths lead from the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Languages and tools, such as `Python`.
    pub languages: Vec<&'static str>,
    /// Paths that need no snapshot: the programs themselves make them again.
    pub exclude: Vec<&'static str>,
    /// Paths that need no snapshot either: what set-up installs or builds.
    pub installed: Vec<&'static str>,
    /// Set-up commands.
    pub setup: Vec<String>,
    /// Test commands.
    pub tests: Vec<String>,
    /// The command that serves.
    pub server: Option<String>,
    /// The port it is likely to serve on.
    pub port: Option<u16>,
    /// A page that it is likely to have.
    pub page: Option<String>,
    /// Files of SQLite.
    pub databases: Vec<String>,
    /// Where the repository is, if that is to stand in the plan.
    pub location: Option<String>,
    /// Logs.
    pub logs: Vec<String>,
    /// Variables without which its tools are not found.
    pub environment: Vec<(&'static str, String)>,
}

/// Looks at a directory.
pub fn look(directory: &Path) -> Found {
    let mut found = Found::default();
    let has = |name: &str| directory.join(name).is_file();
    python(directory, &has, &mut found);
    node(directory, &mut found);
    rust(directory, &has, &mut found);
    make(directory, &mut found);
    for script in ["run_tests.sh", "test.sh", "tests.sh"] {
        if has(script) {
            found.tests.insert(0, format!("./{script}"));
            break;
        }
    }
    files(directory, &mut found);
    found
}

fn python(directory: &Path, has: &dyn Fn(&str) -> bool, found: &mut Found) {
    let servers = [
        "server.py",
        "app.py",
        "main.py",
        "backend/server.py",
        "backend/app.py",
        "backend/main.py",
        "src/server.py",
        "src/app.py",
        "src/main.py",
    ];
    let server = servers.iter().find(|path| has(path));
    let is_python = has("requirements.txt") || has("pyproject.toml") || has("setup.py") || has("manage.py");
    if !is_python && server.is_none() {
        return;
    }
    found.languages.push("Python");
    found.exclude.extend(["__pycache__/", ".pytest_cache/"]);
    found.installed.extend([".venv/", "venv/"]);
    let (is_django, is_pytest) = (has("manage.py"), is_pytest(directory, has));
    let project = project(directory);
    let mut packages = Vec::new();
    if has("requirements.txt") && !is_bare(directory, "requirements.txt") {
        packages.push("-r requirements.txt".to_owned());
    } else if project.is_package || has("setup.py") {
        packages.push(if project.extra.is_empty() {
            ".".to_owned()
        } else {
            in_shell(&format!(".[{}]", project.extra))
        });
    } else {
        packages.extend(project.needs.iter().map(|need| in_shell(need)));
    }
    // a host rarely has pytest for its own Python, and a recovery needs a host that has nothing
    if is_pytest && !is_django {
        let is_named = project.names_pytest || text(directory, "requirements.txt").contains("pytest");
        packages.extend((!is_named).then(|| "pytest".to_owned()));
    }
    let mut python = "python3";
    if !packages.is_empty() {
        python = ".venv/bin/python";
        found.setup.push("python3 -m venv .venv".to_owned());
        found.setup.push(format!(".venv/bin/pip install {}", packages.join(" ")));
    }
    if is_django {
        found.tests.push(format!("{python} manage.py test"));
        found.server = Some(format!("{python} manage.py runserver --noreload 127.0.0.1:8000"));
        found.port = Some(8000);
        return;
    }
    if is_pytest {
        found.tests.push(format!("{python} -m pytest"));
    } else if directory.join("tests").is_dir() {
        found.tests.push(format!("{python} -m unittest discover -s tests"));
    }
    if let Some(path) = server {
        let text = text(directory, path);
        found.server = Some(format!("{python} {path}"));
        // where nothing is said, Flask's own
        let usual = (text.contains("flask") && text.contains(".run(")).then_some(5000);
        found.port = port_in(&text).or(usual);
        found.page = page_in(&text);
    }
}

/// What `pyproject.toml` says of packages.
#[derive(Default)]
struct Project {
    /// pip can build it.
    is_package: bool,
    /// The extra that brings pytest, if there is one.
    extra: String,
    /// pytest comes with what is named here.
    names_pytest: bool,
    /// What it needs, if pip cannot build it.
    needs: Vec<String>,
}

fn project(directory: &Path) -> Project {
    let Ok(table) = text(directory, "pyproject.toml").parse::<toml::Table>() else {
        return Project::default();
    };
    let strings = |value: Option<&toml::Value>| -> Vec<String> {
        let all = value.and_then(toml::Value::as_array).into_iter().flatten();
        all.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let has_pytest = |needs: &[String]| needs.iter().any(|need| need.starts_with("pytest"));
    let within = |of: Option<&toml::Value>| {
        let groups = of.and_then(toml::Value::as_table).into_iter().flatten();
        groups.map(|(name, needs)| (name.clone(), strings(Some(needs)))).find(|(_, needs)| has_pytest(needs))
    };
    let about = table.get("project");
    let mut project = Project { is_package: table.contains_key("build-system"), ..Project::default() };
    project.needs = strings(about.and_then(|about| about.get("dependencies")));
    if let Some((name, needs)) = within(about.and_then(|about| about.get("optional-dependencies"))) {
        project.extra = name;
        project.needs.extend(needs);
    } else if let Some((_, needs)) = within(table.get("dependency-groups")).filter(|_| !project.is_package) {
        project.needs.extend(needs);
    }
    project.names_pytest = has_pytest(&project.needs);
    project
}

// As one word of a shell.
fn in_shell(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,=/".contains(c);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

// By its configuration, or by tests as functions, which unittest passes over and calls it a success.
fn is_pytest(directory: &Path, has: &dyn Fn(&str) -> bool) -> bool {
    if ["pytest.ini", "conftest.py", "tests/conftest.py"].iter().any(|name| has(name))
        || text(directory, "pyproject.toml").contains("[tool.pytest")
    {
        return true;
    }
    let walk = walkdir::WalkDir::new(directory.join("tests")).max_depth(3).sort_by_file_name().into_iter();
    walk.take(1000).flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy();
        let is_test = name.ends_with(".py") && (name.starts_with("test_") || name.ends_with("_test.py"));
        let path = entry.path().strip_prefix(directory).ok().and_then(Path::to_str);
        let lines = path.filter(|_| is_test).map(|path| text(directory, path)).unwrap_or_default();
        lines.lines().any(|line| {
            ["def test_", "async def test_", "import pytest"].iter().any(|start| line.starts_with(start))
        })
    })
}

// Packages are loaded while there is a network; what is built and tested later has none.
fn rust(directory: &Path, has: &dyn Fn(&str) -> bool, found: &mut Found) {
    if !has("Cargo.toml") {
        return;
    }
    found.languages.push("Rust");
    found.installed.push("target/");
    let locked = if has("Cargo.lock") { " --locked" } else { "" };
    found.setup.push(format!("cargo fetch{locked}"));
    found.setup.push("cargo build --release --offline".to_owned());
    found.tests.push("cargo test --offline".to_owned());
    let main = text(directory, "src/main.rs");
    let manifest = text(directory, "Cargo.toml").parse::<toml::Table>().ok();
    let name = manifest.as_ref().and_then(|table| table.get("package")?.get("name")?.as_str());
    if let Some(name) = name.filter(|_| !main.is_empty() && found.server.is_none())
        && let Some(port) = port_in(&main)
    {
        // a program that names a port is likely to serve there
        found.server = Some(format!("./target/release/{name}"));
        found.port = Some(port);
        found.page = page_in(&main);
    }
}

// A list without a package needs no network.
fn is_bare(directory: &Path, file: &str) -> bool {
    text(directory, file).lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

fn node(directory: &Path, found: &mut Found) {
    let Ok(package) = serde_json::from_str::<Value>(&text(directory, "package.json")) else { return };
    found.languages.push("Node");
    found.exclude.push(".npm/");
    found.installed.push("node_modules/");
    let lock = directory.join("package-lock.json").is_file();
    found.setup.push(if lock { "npm ci" } else { "npm install" }.to_owned());
    let script = |name: &str| package.get("scripts")?.get(name)?.as_str().filter(|text| !text.is_empty());
    if script("build").is_some() {
        found.setup.push("npm run build".to_owned());
    }
    // what npm init writes where there are no tests
    if script("test").is_some_and(|text| !text.contains("no test specified")) {
        found.tests.push("npm test".to_owned());
    }
    if found.server.is_none() && script("start").is_some() {
        found.server = Some("npm start".to_owned());
        let main = package.get("main").and_then(Value::as_str).unwrap_or("server.js");
        let text = text(directory, main);
        found.port = port_in(&text);
        found.page = page_in(&text);
    }
}

fn make(directory: &Path, found: &mut Found) {
    let Some(name) =
        ["Makefile", "makefile", "GNUmakefile"].into_iter().find(|n| directory.join(n).is_file())
    else {
        return;
    };
    found.languages.push("Make");
    let text = text(directory, name);
    let has = |target: &str| {
        text.lines().any(|line| {
            line.split_once(':').is_some_and(|(names, _)| names.split_whitespace().any(|n| n == target))
        })
    };
    if found.setup.is_empty() && has("install") && has("build") {
        found.setup.push("make build".to_owned());
    }
    if found.tests.is_empty() {
        found.tests.extend(
            ["test", "check"].into_iter().find(|target| has(target)).map(|target| format!("make {target}")),
        );
    }
    if found.server.is_none() {
        found.server = ["serve", "run", "start"]
            .into_iter()
            .find(|target| has(target))
            .map(|target| format!("make {target}"));
    }
}

// A number after a word such as port, or after an address to listen at: a guess, which the plan's comment says.
fn port_in(text: &str) -> Option<u16> {
    let patterns = [
        r#"(?i)(?:port|listen)\w*["']?\s*(?:[:=,(]\s*)+(?:process\.env\.\w+\s*\|\|\s*)?(\d{4,5})\b"#,
        r#"["'](?:127\.0\.0\.1|0\.0\.0\.0|localhost|\[::1?\]):(\d{4,5})["']"#,
    ];
    let found = patterns.iter().find_map(|pattern| {
        let pattern = regex::Regex::new(pattern).ok()?;
        pattern.captures(text)?.get(1)?.as_str().parse().ok()
    });
    found.filter(|&port: &u16| port >= 1024)
}

// Of the pages that are read and need nothing: the one that tells how it is, the first page, or any other. A server that
// looks at the path by itself may do so for other methods too, so that of its pages only the first two are believed.
fn page_in(text: &str) -> Option<String> {
    let routes = r#"(?:\.(?:route|get)|\bpath)\(\s*["'](/[\w/.-]*)["']|["']GET (/[\w/.-]*)[ "']"#;
    let compared =
        r#"(?i)(?:path|url|uri)(?:name)?\s*={2,3}\s*["'](/[\w/.-]*)["']|\bcase\s+["'](/[\w/.-]*)["']\s*:"#;
    let pages = |pattern: &str| -> Vec<String> {
        let pattern = regex::Regex::new(pattern).ok();
        let found = pattern.iter().flat_map(|pattern| pattern.captures_iter(text));
        found.filter_map(|found| Some(found.iter().skip(1).flatten().next()?.as_str().to_owned())).collect()
    };
    let (routes, mut all) = (pages(routes), pages(compared));
    all.splice(0..0, routes.iter().cloned());
    let is_health =
        |page: &&String| ["health", "healthz", "status", "ping"].iter().any(|word| page.ends_with(word));
    let page = all.iter().find(is_health).or_else(|| all.iter().find(|page| *page == "/")).or(routes.first());
    page.cloned()
}

// At most 1 MiB; what cannot be read is empty.
fn text(directory: &Path, name: &str) -> String {
    let mut bytes = Vec::new();
    let path = directory.join(name);
    if path.is_file()
        && let Ok(file) = File::open(path)
    {
        let _ = file.take(1 << 20).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn files(directory: &Path, found: &mut Found) {
    let skip = ["node_modules", "target", ".venv", "venv", ".git", "__pycache__", ".npm", ".pytest_cache"];
    let walk = walkdir::WalkDir::new(directory).max_depth(6).sort_by_file_name().into_iter();
    let walk =
        walk.filter_entry(|entry| entry.depth() == 0 || !skip.iter().any(|name| entry.file_name() == *name));
    for entry in walk.take(ENTRIES).flatten().filter(|entry| entry.file_type().is_file()) {
        // a name that is not UTF-8 cannot stand in a plan
        let Some(path) = entry.path().strip_prefix(directory).ok().and_then(Path::to_str) else { continue };
        let is_log = path.ends_with(".log");
        if is_log && found.logs.len() < MOST {
            found.logs.push(path.to_owned());
        }
        if !is_log && found.databases.len() < MOST && is_sqlite(entry.path()) {
            found.databases.push(path.to_owned());
        }
    }
}

fn is_sqlite(path: &Path) -> bool {
    let mut head = [0; 16];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == *MAGIC
}

/// The text of a first plan for a directory; `location` is its repository, if the plan is to say where it is, and `variable` tells what the environment says of where tools are (`PATH`, `HOME`,
/// `RUSTUP_HOME`).
pub fn detect(directory: &Path, location: Option<&str>, variable: Variables<'_>) -> String {
    let name = directory
        .file_name()
        .map(|name| Name::from(name).shown())
        .unwrap_or_else(|| "application".to_owned());
    let mut found = look(directory);
    found.environment = environment(&found, variable);
    found.location = location.map(str::to_owned);
    write(&name, &found)
}

// A drill takes nothing from the environment of whoever starts it. Where a tool lies in none of the usual places, such as
// cargo in a home, the plan must say where; and rustup's cargo must be told where its toolchains are.
fn environment(found: &Found, variable: Variables<'_>) -> Vec<(&'static str, String)> {
    let path = variable(PATH).unwrap_or_default();
    let of_host = |name: &str| variable(name).map(PathBuf::from);
    let lines = found.setup.iter().chain(&found.tests).chain(&found.server);
    let tools = lines.filter_map(|line| line.split(' ').next()).filter(|tool| !tool.contains('/'));
    let is_in = |place: &Path, tool: &str| place.join(tool).is_file();
    let mut places: Vec<PathBuf> = Vec::new();
    let mut variables = Vec::new();
    for tool in tools {
        let usual = std::env::split_paths(USUAL_PATH).any(|place| is_in(&place, tool));
        if usual || places.iter().any(|place| is_in(place, tool)) {
            continue;
        }
        let Some(place) =
            std::env::split_paths(&path).find(|place| place.is_absolute() && is_in(place, tool))
        else {
            continue;
        };
        let toolchains = of_host("RUSTUP_HOME").or_else(|| Some(of_host("HOME")?.join(".rustup")));
        if let Some(toolchains) =
            toolchains.filter(|at| tool == "cargo" && is_in(&place, "rustup") && at.is_dir())
        {
            variables.extend(toolchains.to_str().map(|text| ("RUSTUP_HOME", text.to_owned())));
        }
        places.push(place);
    }
    // a name that is not UTF-8 cannot stand in a plan
    let places: Vec<&str> = places.iter().filter_map(|place| place.to_str()).collect();
    if !places.is_empty() {
        variables.insert(0, (PATH, format!("{}:{USUAL_PATH}", places.join(":"))));
    }
    variables
}

/// The text of a plan for what was found.
pub fn write(name: &str, found: &Found) -> String {
    let languages =
        if found.languages.is_empty() { "nothing known".to_owned() } else { found.languages.join(", ") };
    let mut text = format!(
        "# How to bring {name} back, and how to know that it works.\n\
         # Written by lifeboat from what it found ({languages}). Look through it, above all at the lines with a\n\
         # question mark; `lifeboat validate` checks it, docs/plan.md lists every key.\n\n[app]\nname = {}\nroot = \".\"\n",
        quoted(name)
    );
    text.push_str("# what a snapshot can do without: it is made again, or thrown away\n");
    let excluded: Vec<_> = found.exclude.iter().chain(&found.installed).copied().collect();
    text.push_str(&format!("exclude = {}\n", list(&excluded)));
    // a rollback would stop at what no snapshot holds and nobody speaks of
    if !found.exclude.is_empty() {
        text.push_str("# a rollback drops these, and the programs make them again\n");
        text.push_str(&format!("rebuild = {}\n", list(&found.exclude)));
    }
    text.push_str("# live data that a rollback must not throw away\n");
    if !found.installed.is_empty() {
        text.push_str("# and what set-up installs or builds, which stays as a change left it: have it in the snapshot instead (out of exclude) and it goes back too?\n");
    }
    let kept: Vec<_> = found.installed.iter().copied().chain(found.logs.iter().map(String::as_str)).collect();
    if kept.is_empty() {
        text.push_str("# keep_on_rollback = [\"logs/\", \"uploads/\"]\n");
    } else {
        text.push_str(&format!("keep_on_rollback = {}\n", list(&kept)));
    }
    text.push_str("\n[repository]\n");
    match &found.location {
        Some(location) => text.push_str(&format!("location = {}\n", quoted(location))),
        None => text.push_str("# location = \"/var/backups/app\"\n"),
    }
    text.push_str(
        "\n# what lifeboat forget keeps\n[retention]\nkeep_daily = 7\nkeep_weekly = 5\nkeep_monthly = 12\n",
    );
    for path in &found.databases {
        text.push_str(&format!("\n[[database]]\nkind = \"sqlite\"\npath = {}\n", quoted(path)));
    }
    text.push_str("\n# how the running application is started and stopped, for rollback and hotfix?\n# [service]\n# unit = \"app.service\"\n");
    checks(found, &mut text);
    drill(found, &mut text);
    text.push_str(&format!("\n[hotfix]\nverify = {}\nwatch = \"15m\"\n", list(&found.tests)));
    text.push_str("\n# lifeboat schedule install makes timers of these\n[runbook.daily]\nschedule = \"daily\"\nsteps = [\"health\", \"snapshot\"]\n\n[runbook.weekly]\nschedule = \"Sun 03:00\"\nsteps = [\"verify --budget 10m\", \"drill\"]\n\n# who is told when something fails?\n# [[notify]]\n# webhook_file = \"/etc/lifeboat/webhook-url\"\n");
    text
}

fn checks(found: &Found, text: &mut String) {
    match (found.port, &found.page) {
        (Some(port), Some(page)) => text.push_str(&format!(
            "\n# is this the port, and is there a page that says more, such as /health?\n[[check]]\nname = \"server\"\nhttp = {}\nexpect = {{ status = 200 }}\n",
            quoted(&format!("http://127.0.0.1:{port}{page}"))
        )),
        (Some(port), None) => text.push_str(&format!(
            "\n# is this the port, and which page says more?\n[[check]]\nname = \"server\"\nport = {port}\n# http = \"http://127.0.0.1:{port}/health\"\n# expect = {{ status = 200 }}\n"
        )),
        (None, _) => text.push_str(
            "\n# what does the server answer when it is well?\n# [[check]]\n# name = \"server\"\n# http = \"http://127.0.0.1:8000/health\"\n# expect = { status = 200, json = { status = \"healthy\" } }\n",
        ),
    }
    if found.databases.is_empty() {
        text.push_str(
            "\n# what shows that the data came back? no drill passes without a check that proves it\n# [[check]]\n# name = \"data\"\n# command = \"grep -q 'a line that must be there' data.txt\"\n# data_proving = true\n",
        );
    }
    for path in &found.databases {
        text.push_str(&format!(
            "\n[[check]]\nname = {}\nsql = {}\nintegrity = true\n# query = \"SELECT count(*) FROM …\"\n# min = 1\n",
            quoted(&format!("database {path}")),
            quoted(path)
        ));
    }
    for path in &found.logs {
        text.push_str(&format!(
            "\n[[check]]\nname = {}\nlog = {}\nforbid = \"ERROR|CRITICAL\"\nrequired = false\n",
            quoted(&format!("errors in {path}")),
            quoted(path)
        ));
    }
    text.push_str("\n[[check]]\nname = \"disk\"\ndisk = \".\"\nmin_free = \"10%\"\n");
}

fn drill(found: &Found, text: &mut String) {
    text.push_str(&format!("\n[drill]\nsetup = {}\n", list(&found.setup)));
    if !found.setup.is_empty() {
        text.push_str(
            "# set-up may load packages; the tests and the server have no network\nnetwork = \"setup\"\n",
        );
    }
    if !found.environment.is_empty() {
        let variables: Vec<String> =
            found.environment.iter().map(|(name, value)| format!("{name} = {}", quoted(value))).collect();
        text.push_str(&format!(
            "# where this host has the tools?\nenvironment = {{ {} }}\n",
            variables.join(", ")
        ));
    }
    text.push_str(&format!("tests = {}\n", list(&found.tests)));
    match &found.server {
        // a server that no check knows would be ready before it is there
        Some(server) if found.port.is_none() => text.push_str(&format!(
            "# give the check of the server above its port, and then the two lines below back\n# server = {}\n",
            quoted(server)
        )),
        Some(server) => text.push_str(&format!("server = {}\n", quoted(server))),
        None => text.push_str("# server = \"…\"\n"),
    }
    text.push_str(if found.port.is_some() { "ready = [\"server\"]\n" } else { "# ready = [\"server\"]\n" });
    text.push_str("# what must a recovery reach?\nobjectives = { rto = \"1h\", rpo = \"24h\" }\ndrill_every = \"90d\"\n");
}

// As TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list(items: &[impl AsRef<str>]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
#[path = "detect_tests.rs"]
mod tests;
