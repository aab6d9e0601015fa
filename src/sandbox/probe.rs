//! What isolation this host allows: found out by doing it.

use std::path::Path;

use rustix::thread::CapabilitySet;
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

/// What decides about the way out where isolation is refused.
#[derive(Clone, Debug, Default)]
struct Host {
    user: u32,
    /// Whether this process has CAP_SYS_ADMIN.
    capable: bool,
    contained: bool,
    /// `kernel.apparmor_restrict_unprivileged_userns`, empty where there is none.
    apparmor: String,
    /// `kernel.unprivileged_userns_clone`.
    clone: String,
    /// `user.max_user_namespaces`.
    most: String,
}

impl Host {
    fn here() -> Self {
        let setting = |name: &str| {
            std::fs::read_to_string(format!("/proc/sys/{name}"))
                .map(|t| t.trim().to_owned())
                .unwrap_or_default()
        };
        let sets = rustix::thread::capabilities(None);
        Self {
            user: rustix::process::geteuid().as_raw(),
            capable: sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN)),
            contained: ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists()),
            apparmor: setting("kernel/apparmor_restrict_unprivileged_userns"),
            clone: setting("kernel/unprivileged_userns_clone"),
            most: setting("user/max_user_namespaces"),
        }
    }

    fn who(&self) -> String {
        match (self.user, self.capable) {
            (0, true) => "root".to_owned(),
            (0, false) => "root without CAP_SYS_ADMIN".to_owned(),
            (user, _) => format!("user {user}"),
        }
    }

    // What forbids most comes first: a container's rules go before those of the kernel that it shares.
    fn fix(&self, step: &str) -> &'static str {
        const CONTAINER: &str = "start the container with `--privileged`, or with `--cap-add SYS_ADMIN --cap-add NET_ADMIN \
             --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt \
             systempaths=unconfined`, or run the drill on the host";
        let ordinary = self.user != 0;
        match () {
            () if ordinary && self.most == "0" => {
                "run it as root, or allow user namespaces: `sysctl -w user.max_user_namespaces=15000`"
            }
            () if ordinary && self.clone == "0" => {
                "run it as root, or allow user namespaces: `sysctl -w kernel.unprivileged_userns_clone=1`"
            }
            () if ordinary && self.apparmor == "1" => {
                "run it as root, or allow this program user namespaces: `printf 'abi <abi/4.0>,\\ninclude \
                 <tunables/global>\\nprofile lifeboat /usr/bin/lifeboat flags=(unconfined) {\\n  userns,\\n}\\n' > \
                 /etc/apparmor.d/lifeboat && apparmor_parser -r /etc/apparmor.d/lifeboat` (with the path where lifeboat \
                 is), or everybody: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
            }
            () if self.contained || (!ordinary && !self.capable) => CONTAINER,
            () if step.contains("namespace") => {
                "run it as root on the host, with a kernel that has namespaces (CONFIG_NAMESPACES, CONFIG_USER_NS)"
            }
            () => {
                "use Linux 5.12 or newer, as root or as a user who may make user namespaces; then ask lifeboat doctor"
            }
        }
    }
}

/// Who this process is, and what opens the way for the step that was forbidden.
pub(super) fn advice(step: &str) -> (String, String) {
    let host = Host::here();
    (host.who(), host.fix(step).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(change: impl FnOnce(&mut Host)) -> &'static str {
        let mut host = Host { user: 1000, most: "96365".into(), ..Host::default() };
        change(&mut host);
        host.fix("make a user namespace")
    }

    #[test]
    fn the_fix_is_for_what_forbids() {
        assert!(fix(|host| host.most = "0".into()).contains("user.max_user_namespaces=15000"));
        assert!(fix(|host| host.clone = "0".into()).contains("kernel.unprivileged_userns_clone=1"));
        let profile = fix(|host| host.apparmor = "1".into());
        assert!(profile.contains("userns,") && profile.contains("apparmor_restrict_unprivileged_userns=0"));
        assert!(fix(|host| host.contained = true).contains("--privileged"));
        assert!(fix(|host| host.user = 0).contains("--privileged"), "root without CAP_SYS_ADMIN");
        assert!(fix(|_| {}).contains("CONFIG_USER_NS"));
        // a setting for ordinary users says nothing about root
        let root = |host: &mut Host| (host.user, host.capable, host.most) = (0, true, "0".into());
        assert!(!fix(root).contains("max_user_namespaces"));
    }

    #[test]
    fn who_is_decided_by_rights_and_not_by_number() {
        let root = Host { capable: true, ..Host::default() };
        assert_eq!(root.who(), "root");
        assert_eq!(Host::default().who(), "root without CAP_SYS_ADMIN");
        assert_eq!(Host { user: 7, ..root }.who(), "user 7");
    }
}
