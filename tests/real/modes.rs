//! P26: at no instant of a restore may anybody else do more with a file than at its end. Every system call that makes
//! something or changes its mode is looked at, by `strace`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

use crate::env::{TestEnv, have, have_root, run};

const ACL: &str = "system.posix_acl_access";
const CALLS: &str = "trace=openat,mkdirat,mknodat,fchmod,chmod,fchmodat,fchown,fchownat,chown,renameat,renameat2,fsetxattr,setxattr";

// An ACL by which a named user may do everything and the owning group nothing.
fn acl() -> Vec<u8> {
    let own = u32::MAX;
    let entries = [(1u16, 6u16, own), (2, 7, 1234), (4, 0, own), (16, 7, own), (32, 0, own)];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        value.extend(id.to_le_bytes());
    }
    value
}

fn make(tree: &Path) {
    let file = |name: &str, mode: u32, owner: u32| {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for owner in [0, 1234] {
        for mode in [0o000, 0o400, 0o600, 0o640, 0o644, 0o666, 0o755, 0o777, 0o4711, 0o2755, 0o6755, 0o1644] {
            file(&format!("d{owner}/f{mode:o}"), mode, owner);
        }
        let with_acl = format!("d{owner}/acl");
        file(&with_acl, 0o600, owner);
        rustix::fs::setxattr(tree.join(&with_acl), ACL, &acl(), rustix::fs::XattrFlags::empty()).unwrap();
        for mode in [0o700, 0o711, 0o755, 0o1777, 0o2750, 0o555] {
            let path = tree.join(format!("d{owner}/dir{mode:o}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("below"), "below").unwrap();
            chown(&path, Some(owner), Some(owner)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let fifo = tree.join(format!("d{owner}/fifo"));
        run(Command::new("mkfifo").args(["-m", "620"]).arg(&fifo)).ok();
        fs::hard_link(tree.join(format!("d{owner}/f640")), tree.join(format!("d{owner}/linked"))).unwrap();
    }
}

/// What one thread did: calls with their texts.
struct Watched {
    create: Regex,
    make: Regex,
    change: Regex,
    by_number: Regex,
    owner: Regex,
    rename: Regex,
    acl: Regex,
}

impl Watched {
    fn new() -> Self {
        let regex = |text| Regex::new(text).unwrap();
        Self {
            create: regex(r#"^openat\(.*O_CREAT.*, 0?([0-7]+)\) = \d+<(.*)>$"#),
            make: regex(r#"^mk(?:dir|nod)at\(\d+<(.*)>, "(.*)", (?:S_IF\w+\|)?0?([0-7]+)(?:, .*)?\) = 0$"#),
            change: regex(r"^fchmod\(\d+<(.*)>, 0?([0-7]+)\) = 0$"),
            by_number: regex(
                r#"^(?:chmod\(|fchmodat2?\(AT_FDCWD(?:<.*?>)?, )"/proc/self/fd/(\d+)", 0?([0-7]+)(?:, .*)?\) = 0$"#,
            ),
            owner: regex(r"^fchown(?:at)?\(\d+<(.*?)>, "),
            rename: regex(r#"^renameat2?\(\d+<(.*)>, "(.*)", \d+<.*>, "(.*)"(?:, \w+)?\) = 0$"#),
            acl: regex(r#"^f?setxattr\((?:\d+<(.*)>|"/proc/self/fd/(\d+)"), "system.posix_acl_access""#),
        }
    }

    /// Looks at every call; returns how many made something or changed a mode.
    fn look(&self, text: &str, target: &Path, source: &Path) -> usize {
        let opened = Regex::new(r"^openat\(.*\) = (\d+)<(.*)>$").unwrap();
        let mut final_names: HashMap<PathBuf, PathBuf> = HashMap::new();
        for found in text.lines().filter_map(|line| self.rename.captures(line)) {
            let dir = Path::new(&found[1]);
            final_names.insert(dir.join(&found[2]), dir.join(&found[3]));
        }
        let (mut owned, mut has_acl, mut numbers) = (Vec::new(), Vec::new(), HashMap::new());
        let mut looked_at = 0;
        for line in text.lines() {
            let (path, mode) = if let Some(found) = self.create.captures(line) {
                (PathBuf::from(&found[2]), found[1].to_owned())
            } else if let Some(found) = self.make.captures(line) {
                (Path::new(&found[1]).join(&found[2]), found[3].to_owned())
            } else if let Some(found) = self.change.captures(line) {
                (PathBuf::from(&found[1]), found[2].to_owned())
            } else if let Some(found) = self.by_number.captures(line) {
                let path: &PathBuf = numbers.get(&found[1]).expect("an open file");
                (path.clone(), found[2].to_owned())
            } else {
                if let Some(found) = opened.captures(line) {
                    numbers.insert(found[1].to_owned(), PathBuf::from(&found[2]));
                }
                if let Some(found) = self.owner.captures(line) {
                    owned.push(PathBuf::from(&found[1]));
                }
                if let Some(found) = self.acl.captures(line) {
                    let by_number = || numbers[&found[2]].clone();
                    has_acl.push(found.get(1).map_or_else(by_number, |path| PathBuf::from(path.as_str())));
                }
                continue;
            };
            if let Some(found) = opened.captures(line) {
                numbers.insert(found[1].to_owned(), PathBuf::from(&found[2]));
            }
            let place = final_names.get(&path).unwrap_or(&path);
            let Ok(relative) = place.strip_prefix(target) else { continue };
            let Ok(wanted) = source.join(relative).symlink_metadata() else { continue };
            looked_at += 1;
            let mode = u32::from_str_radix(&mode, 8).unwrap();
            let mut allowed = wanted.mode() & 0o7077;
            let will_have_acl = rustix::fs::getxattr(source.join(relative), ACL, &mut [0u8; 256][..]).is_ok();
            if will_have_acl && !has_acl.contains(&path) {
                // the group's bits are the ACL's mask once it is there, and the group's own before
                allowed &= !0o070;
            }
            assert_eq!(mode & 0o7077 & !allowed, 0, "{relative:?} may have {:o}: {line}", wanted.mode());
            let is_foreign = wanted.uid() != 0;
            assert!(
                mode & 0o6000 == 0 || !is_foreign || owned.contains(&path),
                "privileges before the owner: {line}"
            );
        }
        looked_at
    }
}

#[test]
fn no_file_is_open_to_others_before_it_is_at_the_end() {
    if !have(&["strace", "mkfifo"]) || !have_root("other owners") {
        return;
    }
    let env = TestEnv::new();
    let (source, target, traces) = (env.path("source"), env.path("target"), env.path("traces"));
    make(&source);
    env.snapshot(&source);
    let what = format!("latest:{}", source.display());
    for round in ["fresh", "over what is there", "modes alone"] {
        fs::create_dir_all(&traces).unwrap();
        // nothing is taken away from what a program asks for
        let script = format!("umask 0; exec strace -ff -y -s 400 -e {CALLS} -o \"$0\"/t \"$@\"");
        let mut command = Command::new("sh");
        env.set(command.args(["-c", &script]).arg(&traces).arg(crate::env::LIFEBOAT));
        command.args(["restore", "-q", &what, "--target"]).arg(&target);
        if round != "fresh" {
            command.args([
                "--in-place",
                "--overwrite",
                if round == "modes alone" { "if-changed" } else { "always" },
            ]);
        }
        run(&mut command).ok();
        let watched = Watched::new();
        let files = fs::read_dir(&traces).unwrap().map(|entry| entry.unwrap().path());
        let looked_at: usize = files
            .map(|file| watched.look(&String::from_utf8_lossy(&fs::read(file).unwrap()), &target, &source))
            .sum();
        // 38 files and directories, a fifo each; made, and most of them changed once
        assert!(looked_at >= 26, "{round}: only {looked_at} calls were seen");
        crate::env::assert_same(&source, &target, "");
        fs::remove_dir_all(&traces).unwrap();
        // for the next round: other content, or other modes only
        for entry in walkdir::WalkDir::new(&target).into_iter().map(Result::unwrap) {
            if entry.file_type().is_file() && round == "fresh" {
                fs::write(entry.path(), "something else").unwrap();
            } else if !entry.file_type().is_symlink() && round != "fresh" {
                chown(entry.path(), Some(0), Some(0)).unwrap();
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700)).unwrap();
            }
        }
    }
}
