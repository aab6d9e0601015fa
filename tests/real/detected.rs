//! First plans: what `init --plan` finds in small projects of several kinds is drilled as it stands, and passes.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::drill::have_sandbox;
use crate::env::{TestEnv, have, long, run};

/// A database of two rows, without which no server here is well.
const ROWS: &str = "import sqlite3; db = sqlite3.connect('shop.db'); db.execute('CREATE TABLE items (x)'); \
                    db.execute('INSERT INTO items VALUES (1), (2)'); db.commit()";

struct Project {
    env: TestEnv,
    dir: PathBuf,
}

impl Project {
    /// One of these files, in which `@PORT@` is a free port.
    fn new(files: &[(&str, &str)]) -> Self {
        let env = TestEnv::new();
        let dir = env.path("shop");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for (name, text) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.replace("@PORT@", &port.to_string())).unwrap();
        }
        run(Command::new("python3").args(["-c", ROWS]).current_dir(&dir)).ok();
        Self { env, dir }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.env.command(args);
        // the home of a test has no toolchains
        let in_home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".rustup"));
        if let Some(toolchains) = std::env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(in_home) {
            command.env("RUSTUP_HOME", toolchains);
        }
        command.current_dir(&self.dir);
        command
    }

    /// Asserts that a drill by the plan that is found passes, and that these were its steps after the restore.
    #[track_caller]
    fn passes(&self, steps: &[&str]) {
        // with a repository named, one would be made
        run(self.command(&["init", "--plan", "."]).env_remove("LIFEBOAT_REPOSITORY")).ok();
        // what this host's disk has left is no matter of the plan
        let file = self.dir.join("lifeboat.toml");
        let plan = fs::read_to_string(&file).unwrap();
        assert!(plan.contains("min_free = \"10%\""), "{plan}");
        fs::write(file, plan.replace("min_free = \"10%\"", "min_free = \"0.01%\"")).unwrap();
        run(&mut self.command(&["validate"])).ok();
        run(&mut self.command(&["snapshot", "-q"])).ok();
        let copies = self.env.path("copies");
        fs::create_dir(&copies).unwrap();
        let done = run(&mut self.command(&["drill", "--json", "--in", copies.to_str().unwrap()]));
        let plan = fs::read_to_string(self.dir.join("lifeboat.toml")).unwrap();
        let record = done.stdout.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        let record = record.unwrap_or_else(|| panic!("{}{}\n{plan}", done.stdout, done.stderr));
        assert_eq!(record["verdict"], "pass", "{} {:#}\n{plan}", record["reasons"], record["steps"]);
        let all = record["steps"].as_array().unwrap();
        let names: Vec<_> = all.iter().map(|step| step["name"].as_str().unwrap()).collect();
        assert_eq!(names[1..], *steps);
        let checks = record["checks"].as_array().unwrap();
        assert!(
            checks.iter().any(|check| check["id"] == "server" && check["result"] == "pass"),
            "{checks:?}"
        );
    }
}

#[test]
fn a_server_of_pythons_own_library() {
    if !have(&["python3"]) || !have_sandbox() {
        return;
    }
    let server = r#"
import http.server
import sqlite3

PORT = @PORT@


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        rows = sqlite3.connect("shop.db").execute("SELECT count(*) FROM items").fetchone()[0]
        self.send_response(200 if self.path == "/health" and rows == 2 else 404)
        self.end_headers()


if __name__ == "__main__":
    http.server.HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"#;
    let test = "import unittest\n\nimport server\n\n\nclass Port(unittest.TestCase):\n    def test_port(self):\n        \
                self.assertGreater(server.PORT, 1024)\n";
    let project = Project::new(&[("server.py", server), ("tests/test_server.py", test)]);
    project.passes(&["python3 -m unittest discover -s tests", "python3 server.py"]);
}

#[test]
fn a_server_of_rust() {
    if !have(&["python3", "cargo"]) || !have_sandbox() {
        return;
    }
    let main = r#"
use std::io::{Read, Write};

fn answer(request: &str) -> &'static str {
    let is_there = std::fs::metadata("shop.db").is_ok();
    if is_there && request.starts_with("GET /health ") { "200 OK" } else { "404 Not Found" }
}

fn main() {
    let listener = std::net::TcpListener::bind("127.0.0.1:@PORT@").unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = [0; 4096];
        let size = stream.read(&mut request).unwrap();
        let status = answer(&String::from_utf8_lossy(&request[..size]));
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    }
}

#[test]
fn health() {
    assert_eq!(answer("GET /health HTTP/1.1"), "200 OK");
}
"#;
    let manifest = "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    let lock = "version = 3\n\n[[package]]\nname = \"shop\"\nversion = \"0.1.0\"\n";
    let project = Project::new(&[("src/main.rs", main), ("Cargo.toml", manifest), ("Cargo.lock", lock)]);
    let build = "cargo build --release --offline";
    project.passes(&["cargo fetch --locked", build, "cargo test --offline", "./target/release/shop"]);
}

#[test]
fn a_server_of_node() {
    if !have(&["python3", "node", "npm"]) || !have_sandbox() {
        return;
    }
    let server = r#"
const fs = require("node:fs");
const http = require("node:http");

const port = process.env.PORT || @PORT@;
const server = http.createServer((request, response) => {
  response.statusCode = request.url === "/health" && fs.existsSync("shop.db") ? 200 : 404;
  response.end();
});

if (require.main === module) server.listen(port, "127.0.0.1");
module.exports = { port };
"#;
    let test = "require('node:test')('port', () => require('node:assert').ok(require('./server.js').port > 1024));\n";
    let package = r#"{ "name": "shop", "version": "1.0.0", "private": true, "main": "server.js",
                       "scripts": { "start": "node server.js", "test": "node --test" } }"#;
    let project = Project::new(&[("server.js", server), ("server.test.js", test), ("package.json", package)]);
    project.passes(&["npm install", "npm test", "npm start"]);
}

/// Packages of others come over the network, so these are of the long versions.
#[test]
fn flask_and_a_package_with_pytest() {
    if !long() || !have(&["python3"]) || !have_sandbox() {
        return;
    }
    let app = r#"
import sqlite3

from flask import Flask, jsonify

app = Flask(__name__)


@app.route("/health")
def health():
    with sqlite3.connect("shop.db") as db:
        return jsonify(items=db.execute("SELECT count(*) FROM items").fetchone()[0])


if __name__ == "__main__":
    app.run(port=@PORT@)
"#;
    let test = "from app import app\n\n\ndef test_health():\n    \
                assert app.test_client().get('/health').json['items'] == 2\n";
    let files = [("app.py", app), ("tests/test_app.py", test), ("requirements.txt", "flask\n")];
    let install = ".venv/bin/pip install -r requirements.txt pytest";
    let (pytest, serve) = (".venv/bin/python -m pytest", ".venv/bin/python app.py");
    Project::new(&files).passes(&["python3 -m venv .venv", install, pytest, serve]);

    let manifest = "[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n\n\
                    [project]\nname = \"shop\"\nversion = \"0.1.0\"\ndependencies = [\"flask\"]\n\n\
                    [project.optional-dependencies]\ntest = [\"pytest\"]\n\n[tool.setuptools]\npy-modules = [\"app\"]\n";
    let files = [("app.py", app), ("tests/test_app.py", test), ("pyproject.toml", manifest)];
    let install = ".venv/bin/pip install '.[test]'";
    Project::new(&files).passes(&["python3 -m venv .venv", install, pytest, serve]);
}
