use super::*;
use crate::plan::Plan;

fn parse(text: &str) -> Plan {
    Plan::parse(text, Path::new("/srv/app/lifeboat.toml")).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn an_empty_directory_makes_a_plan_that_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let plan = parse(&detect(dir.path(), None, &|_| None));
    assert!(plan.drill.tests.is_empty() && plan.drill.server.is_none());
}

#[test]
fn a_python_application_is_found_with_its_database() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("requirements.txt", "flask\n");
    write("backend/server.py", "PORT = 8123\n");
    write("run_tests.sh", "exit 0\n");
    write("logs/app.log", "");
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let connection = rusqlite::Connection::open(dir.path().join("data/odd \"name\".db")).unwrap();
    connection.execute_batch("CREATE TABLE t (x)").unwrap();
    let plan = parse(&detect(dir.path(), None, &|_| None));
    assert_eq!(plan.drill.tests[0].to_string(), "./run_tests.sh");
    assert_eq!(plan.drill.server.as_ref().unwrap().to_string(), ".venv/bin/python backend/server.py");
    assert_eq!(plan.database[0].path.as_deref(), Some("data/odd \"name\".db"));
    assert!(plan.check_named("server").is_some());
    assert_eq!(plan.drill.ready, ["server"]);
    assert!(plan.app.exclude.contains(&"__pycache__/".to_owned()));
    let is_spoken_of =
        |path: &String| plan.app.rebuild.contains(path) || plan.app.keep_on_rollback.contains(path);
    assert!(plan.app.exclude.iter().all(is_spoken_of), "else no rollback could be");
    assert!(plan.app.keep_on_rollback.contains(&".venv/".to_owned()), "the service needs it to start");
}

#[test]
fn tests_as_functions_are_for_pytest_and_flask_need_not_have_a_first_page() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tests")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("requirements.txt", "flask\n");
    write("tests/test_x.py", "import app\n\ndef test_x():\n    assert app\n");
    write(
        "app.py",
        "from flask import Flask\napp = Flask(__name__)\n@app.route(\"/items/<int:id>\")\ndef i(id): ...\n\
         @app.route('/api/items')\ndef a(): ...\n@app.route(\"/api/health\")\ndef h(): ...\napp.run()\n",
    );
    let found = look(dir.path());
    assert_eq!(found.tests, [".venv/bin/python -m pytest"]);
    assert_eq!(found.setup[1], ".venv/bin/pip install -r requirements.txt pytest");
    assert_eq!((found.port, found.page.as_deref()), (Some(5000), Some("/api/health")));
    let plan = parse(&detect(dir.path(), None, &|_| None));
    assert!(detect(dir.path(), None, &|_| None).contains("http = \"http://127.0.0.1:5000/api/health\""));
    assert_eq!(plan.drill.ready, ["server"]);
    write("requirements.txt", "flask\npytest\n");
    assert_eq!(look(dir.path()).setup[1], ".venv/bin/pip install -r requirements.txt");
    write("tests/test_x.py", "import unittest\n\nclass X(unittest.TestCase):\n    def test_x(self): ...\n");
    assert_eq!(look(dir.path()).tests, [".venv/bin/python -m unittest discover -s tests"]);
}

#[test]
fn a_rust_server_is_built_and_started() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("src")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("Cargo.toml", "[package]\nname = \"shop\"\nversion = \"0.1.0\"\n");
    write("Cargo.lock", "");
    write("src/main.rs", "fn main() { TcpListener::bind(\"127.0.0.1:8088\"); }");
    let found = look(dir.path());
    assert_eq!(found.setup, ["cargo fetch --locked", "cargo build --release --offline"]);
    assert_eq!((found.server.as_deref(), found.port), (Some("./target/release/shop"), Some(8088)));
    assert_eq!(parse(&detect(dir.path(), None, &|_| None)).drill.ready, ["server"]);
    write("src/main.rs", "fn main() {}");
    assert_eq!(look(dir.path()).server, None);
}

#[test]
fn node_rust_and_make_are_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("package.json"), r#"{"scripts":{"start":"node x","test":"jest"}}"#)
        .unwrap();
    std::fs::write(dir.path().join("Cargo.toml"), "").unwrap();
    std::fs::write(dir.path().join("Makefile"), "test: a\n\ttrue\n").unwrap();
    let found = look(dir.path());
    assert_eq!(found.languages, ["Node", "Rust", "Make"]);
    assert_eq!(found.tests, ["npm test", "cargo test --offline"]);
    assert_eq!(found.server.as_deref(), Some("npm start"));
    parse(&detect(dir.path(), None, &|_| None));
}

#[test]
fn a_port_is_read_from_how_it_is_written() {
    for text in [
        "PORT = 8000",
        "port: 8000,",
        "app.listen(8000)",
        "\"port\": 8000",
        "const port = process.env.PORT || 8000",
    ] {
        assert_eq!(port_in(text), Some(8000), "{text}");
    }
    assert_eq!(port_in("important 80000"), None);
}

#[test]
fn a_package_of_python_is_installed_with_what_its_tests_need() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tests")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let setup = |project: &str| {
        write("pyproject.toml", project);
        let found = look(dir.path());
        found.setup.get(1).map_or("", |line| line.strip_prefix(".venv/bin/pip install ").unwrap()).to_owned()
    };
    write("tests/test_x.py", "import unittest\n");
    assert_eq!(setup("[project]\nname = \"x\"\n"), "");
    assert_eq!(look(dir.path()).tests, ["python3 -m unittest discover -s tests"]);
    let quoted = r"a 'b>=2; python_version < '\''3.9'\'''";
    assert_eq!(setup("[project]\ndependencies = [\"a\", \"b>=2; python_version < '3.9'\"]\n"), quoted);
    assert_eq!(setup("[build-system]\nrequires = []\n"), ".");
    write("tests/test_x.py", "def test_x(): ...\n");
    assert_eq!(setup("[build-system]\nrequires = []\n"), ". pytest");
    let extras =
        "[project.optional-dependencies]\ndocs = [\"sphinx\"]\ntest = [\"pytest>=8\"]\n[build-system]\n";
    assert_eq!(setup(extras), "'.[test]'");
    let groups = "[project]\ndependencies = [\"a\"]\n[dependency-groups]\ndev = [\"pytest\"]\n";
    assert_eq!(setup(groups), "a pytest");
    assert_eq!(setup("[project]\n"), "pytest");
    assert_eq!(look(dir.path()).tests, [".venv/bin/python -m pytest"]);
}

#[test]
fn a_page_is_found_where_a_server_looks_at_the_path_by_itself() {
    for text in [
        "if self.path == '/health':",
        "if (request.url === \"/health\")",
        "url.pathname === '/x' || uri == \"/health\"",
        "case \"/health\":",
        "request.starts_with(\"GET /health \")",
        "path == \"/\" || path == \"/health\"",
    ] {
        assert_eq!(page_in(text).as_deref(), Some("/health"), "{text}");
    }
    // it may be one that is only written to
    assert_eq!(page_in("if self.path == '/orders':"), None);
    assert_eq!(page_in("if self.path == '/orders' or self.path == '/':").as_deref(), Some("/"));
}

#[test]
fn without_a_page_the_port_is_asked() {
    let found = Found { server: Some("./serve".to_owned()), port: Some(8123), ..Found::default() };
    let plan = parse(&super::write("x", &found));
    assert!(matches!(plan.check_named("server").unwrap().kind, crate::check::Kind::Port(_)));
}

#[test]
fn tools_in_unusual_places_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["cargo/bin/cargo", "cargo/bin/rustup", "other/npm-1f2e", "home/.rustup/settings.toml"] {
        std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        std::fs::write(at(name), "").unwrap();
    }
    let path = std::env::join_paths([at("cargo/bin"), "relative".into(), at("other")]).unwrap();
    let look = |lines: &[&str]| {
        let setup = lines.iter().map(|line| (*line).to_owned()).collect();
        let variable = |name: &str| match name {
            "PATH" => Some(path.clone()),
            "HOME" => Some(at("home").into()),
            _ => None,
        };
        environment(&Found { setup, ..Found::default() }, &variable)
    };
    assert_eq!(look(&["sh x", "./npm-1f2e", "nowhere-1f2e"]), []);
    let (cargo, other) = (at("cargo/bin").display().to_string(), at("other").display().to_string());
    assert_eq!(look(&["npm-1f2e test"]), [("PATH", format!("{other}:{USUAL_PATH}"))]);
    if !std::env::split_paths(USUAL_PATH).any(|place| place.join("cargo").is_file()) {
        let rustup = at("home/.rustup").display().to_string();
        let wanted = [("PATH", format!("{cargo}:{other}:{USUAL_PATH}")), ("RUSTUP_HOME", rustup)];
        assert_eq!(look(&["cargo build", "cargo test", "npm-1f2e"]), wanted);
    }
    let found = Found { environment: look(&["npm-1f2e test"]), ..Found::default() };
    assert!(parse(&super::write("x", &found)).drill.environment["PATH"].starts_with(&other));
}
