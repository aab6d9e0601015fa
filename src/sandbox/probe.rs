//! What isolation this host allows: found out by doing it.

use std::path::Path;

use serde::Serialize;

use super::active::{Active, Level};
use super::error::SandboxError;
use super::recipe::Recipe;
use super::run::Sandbox;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Probe {
    /// As whom it was tried.
    pub who: String,
    /// The level that was reached.
    pub level: Level,
    /// What was active, if a sandbox could be started.
    pub active: Option<Active>,
    /// Why not, or why not fully; empty at the full level without downgrades.
    pub reason: String,
    /// What to do about it; empty if there is nothing to do.
    pub fix: String,
}

/// Starts a sandbox with nothing in it and ends it again. `program` is the lifeboat executable.
pub fn probe(program: &Path) -> Probe {
    let (who, _) = advice("");
    let tried = tempfile::Builder::new()
        .prefix("lifeboat-probe-")
        .tempdir()
        .map_err(|error| SandboxError::Talk("making a directory for it", error))
        .and_then(|scratch| {
            let sandbox = Sandbox::start(&Recipe::new(program, scratch.path()))?;
            let active = sandbox.active().clone();
            sandbox.close()?;
            Ok(active)
        });
    match tried {
        Ok(active) => {
            let reason = active.downgrades.join("; ");
            Probe { who, level: active.level, active: Some(active), reason, fix: String::new() }
        }
        Err(error) => {
            let fix = error.fix().to_owned();
            Probe { who, level: Level::None, active: None, reason: error.to_string(), fix }
        }
    }
}

/// Who this process is, and what opens the way for the step that was forbidden.
pub(super) fn advice(step: &str) -> (String, String) {
    let root = rustix::process::geteuid().is_root();
    let capable = !root
        || rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    let setting =
        |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let container = contained();
    let who = match (root, capable) {
        (true, true) => "root".to_owned(),
        (true, false) => "root without CAP_SYS_ADMIN".to_owned(),
        (false, _) => format!("user {}", rustix::process::geteuid().as_raw()),
    };
    let fix = if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" && !root {
        "run it as root (sudo), or allow this program user namespaces: write \
         `abi <abi/4.0>, include <tunables/global> profile lifeboat /usr/bin/lifeboat flags=(unconfined) { userns, }` \
         to /etc/apparmor.d/lifeboat and run `apparmor_parser -r /etc/apparmor.d/lifeboat`"
    } else if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" && !root {
        "run it as root, or `sysctl -w kernel.unprivileged_userns_clone=1`"
    } else if setting("/proc/sys/user/max_user_namespaces") == "0" && !root {
        "run it as root, or `sysctl -w user.max_user_namespaces=15000`"
    } else if container || !capable {
        "start the container with `--privileged`, or with `--cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt \
         seccomp=unconfined --security-opt apparmor=unconfined`, or run the drill on the host"
    } else if step.contains("namespace") {
        "run it as root on the host, with a kernel that has namespaces (CONFIG_NAMESPACES, CONFIG_USER_NS)"
    } else {
        "use Linux 5.12 or newer, as root or as a user who may make user namespaces; lifeboat doctor tries again"
    };
    (who, fix.to_owned())
}

fn contained() -> bool {
    ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists())
}
