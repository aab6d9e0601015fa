//! Production, looked at before and after: a drill that touched it would be worse than none.

use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::check::{Check, Context, Kind, Outcome};
use crate::database::sqlite;
use crate::format::manifest::{Type, write_stat};
use crate::service::ready;
use crate::sys::host::worker_count;
use crate::tree::exclude::{Excludes, Options};
use crate::tree::walk::{Choice, Filter, Item, walk};

/// What production was like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Whether its checks passed; absent if there are none, or one could not be judged.
    pub healthy: Option<bool>,
    /// Over all files that it does not write itself; absent if the tree could not be walked.
    pub fingerprint: Option<String>,
}

struct Rules(Excludes);

impl Filter for Rules {
    fn choose(&self, path: &[u8], item: &Item) -> Choice {
        if self.0.matches(path, item.live.stat.kind == Type::Dir) { Choice::Skip } else { Choice::Take }
    }
}

/// Looks at the tree at `root`. `live` are the patterns of what production writes itself, `databases` its
/// databases' paths below the root. Of the checks only those are asked that [`may_be_asked`].
pub fn look(root: &Path, live: &[String], databases: &[Vec<u8>], ready: &[&Check]) -> Sight {
    Sight { healthy: healthy(root, ready), fingerprint: fingerprint(root, live, databases) }
}

/// True if a check may be run outside the sandbox: a question to a port of this very host that changes nothing. A
/// command would run as whoever drills, with all rights, and an address elsewhere would be asked from here.
pub fn may_be_asked(check: &Check) -> bool {
    let reads = match &check.kind {
        Kind::Http(http) => {
            http.http.starts_with("http") && ["GET", "HEAD"].contains(&http.method.to_uppercase().as_str())
        }
        Kind::Port(_) => true,
        _ => false,
    };
    reads && ready::port(check).is_some()
}

fn healthy(root: &Path, ready: &[&Check]) -> Option<bool> {
    let context = Context::new(root);
    let asked = ready.iter().filter(|check| may_be_asked(check));
    let found: Vec<Outcome> = asked.map(|check| check.run(&context).outcome).collect();
    match () {
        () if found.is_empty() || found.contains(&Outcome::Error) => None,
        () => Some(!found.contains(&Outcome::Fail)),
    }
}

// Names, kinds, sizes, modes, owners and times of everything but directories, whose times change with what lies in them.
fn fingerprint(root: &Path, live: &[String], databases: &[Vec<u8>]) -> Option<String> {
    let options = Options { patterns: live.iter().map(Into::into).collect(), ..Options::default() };
    let excludes = Excludes::build(root, &options).ok()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(root, flags, Mode::empty()).ok()?;
    let mut hash = Sha256::new();
    let mut line = Vec::new();
    let done = walk(dir, &Rules(excludes), worker_count(), &mut |visit| {
        let owner = sqlite::owner_of(visit.path).unwrap_or(visit.path);
        let is_database = databases.iter().any(|path| path == owner);
        if visit.item.live.stat.kind != Type::Dir && !is_database {
            line.clear();
            write_stat(&mut line, visit.path, &visit.item.live.stat);
            line.push(b'\n');
            hash.update(&line);
        }
        Ok::<_, std::io::Error>(())
    });
    done.ok().map(|()| hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::plan::Plan;

    fn checks(text: &str) -> Vec<Check> {
        Plan::parse(text, Path::new("/srv/app/lifeboat.toml")).unwrap().check
    }

    #[test]
    fn only_ports_of_this_host_are_asked() {
        let check = |keys: &str| checks(&format!("[[check]]\nname = \"a\"\n{keys}\n")).remove(0);
        for asked in [
            "http = \"http://127.0.0.1:8000/health\"",
            "http = \"http://localhost/\"",
            "http = \"http://[::1]:80/\"",
            "port = 8000",
            "port = \"127.0.0.1:8000\"",
        ] {
            assert!(may_be_asked(&check(asked)), "{asked}");
        }
        for left in [
            "http = \"http://169.254.169.254/latest/meta-data/\"",
            "http = \"http://10.0.0.1/\"",
            "http = \"http://192.168.1.1/\"",
            "http = \"http://172.16.0.1:8000/\"",
            "http = \"http://127.0.0.1.example.org/\"",
            "http = \"http://localhost.example.org/\"",
            "http = \"http://127.0.0.1@10.0.0.1/\"",
            "http = \"http://127.0.0.1/reset\"\nmethod = \"POST\"",
            "port = \"10.0.0.1:22\"",
            "port = \"/run/app.sock\"",
            "command = \"true\"",
            "file = \"/etc/shadow\"",
        ] {
            assert!(!may_be_asked(&check(left)), "{left}");
        }
        // a URL of another kind, which the plan may or may not refuse already
        let text = "[[check]]\nname = \"a\"\nhttp = \"file:///etc/passwd\"\n";
        if let Ok(plan) = Plan::parse(text, Path::new("/srv/app/lifeboat.toml")) {
            assert!(!may_be_asked(&plan.check[0]));
        }
    }

    #[test]
    fn a_command_is_not_run_on_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let ran = dir.path().join("ran");
        let all = checks(&format!("[[check]]\nname = \"a\"\ncommand = \"touch {}\"\n", ran.display()));
        assert_eq!(healthy(dir.path(), &all.iter().collect::<Vec<_>>()), None);
        assert!(!ran.exists());
    }

    // One answer to whoever asks.
    fn answering(answer: &'static str, more: usize) -> (u16, std::thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
            let block = vec![b'x'; 1 << 20];
            (0..more).take_while(|_| stream.write_all(&block).is_ok()).count()
        });
        (port, served)
    }

    #[test]
    fn a_redirect_is_not_followed_and_a_large_answer_is_not_swallowed() {
        let dir = tempfile::tempdir().unwrap();
        let ask = |port: u16| {
            let text = format!("[[check]]\nname = \"a\"\nhttp = \"http://127.0.0.1:{port}/\"\n");
            healthy(dir.path(), &checks(&text).iter().collect::<Vec<_>>())
        };
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        elsewhere.set_nonblocking(true).unwrap();
        let to = elsewhere.local_addr().unwrap().port();
        let answer =
            format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{to}/\r\nContent-Length: 0\r\n\r\n");
        let (port, served) = answering(answer.leak(), 0);
        assert_eq!(ask(port), Some(false));
        served.join().unwrap();
        assert!(elsewhere.accept().is_err(), "the redirect was followed");
        let (port, served) = answering("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", 1024);
        assert!(ask(port).is_some());
        let sent = served.join().unwrap();
        assert!(sent < 64, "{sent} MiB were taken");
    }
}
