//! Environment variables: the only place that reads them. (clap reads `LIFEBOAT_REPOSITORY`, which
//! it shows beside `--repo`.)

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// Where the repository is, unless `--repo` says it.
pub const REPOSITORY: &str = "LIFEBOAT_REPOSITORY";
/// The file with the writer's key, unless it is at its usual place.
pub const WRITER_KEY: &str = "LIFEBOAT_WRITER_KEY";
/// Where what a host remembers of applications lies, unless it is at its usual place.
pub const STATE_DIR: &str = "LIFEBOAT_STATE_DIR";

/// What a variable says. An empty one is one that is not set: that is what shells make of `X= command`.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// What the variable says of where the repository is.
pub fn repository() -> Option<OsString> {
    variable(REPOSITORY)
}

/// The file with the writer's key; `None` if neither a variable nor a home directory says where.
pub fn writer_key() -> Option<PathBuf> {
    variable(WRITER_KEY)
        .map(PathBuf::from)
        .or_else(|| Some(config_dir(variable("XDG_CONFIG_HOME"), variable("HOME"))?.join("writer_ed25519")))
}

// As the XDG base directory specification says: relative values are ignored.
fn config_dir(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    let base = xdg.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".config")))?;
    Some(base.join("lifeboat"))
}

/// The directory of what is remembered of applications on this host; `None` if nothing says where.
pub fn state_dir() -> Option<PathBuf> {
    if let Some(directory) = variable(STATE_DIR) {
        return Some(PathBuf::from(directory)).filter(|path| path.is_absolute());
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/lifeboat"));
    }
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    let home = || Some(variable("HOME").and_then(absolute)?.join(".local/state"));
    Some(variable("XDG_STATE_HOME").and_then(absolute).or_else(home)?.join("lifeboat"))
}

/// What this process is a step of, if a runbook started it.
pub fn within() -> Option<OsString> {
    variable(crate::runbook::WITHIN)
}

/// Where the runbook that started this process will look for how it ended.
pub fn outcome() -> Option<PathBuf> {
    variable(crate::runbook::OUTCOME).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Where systemd looks for units: those of the system for root, else those of the user; `None` if nothing says
/// where the home directory is.
pub fn units_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/etc/systemd/system"));
    }
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    let home = || Some(variable("HOME").and_then(absolute)?.join(".config"));
    Some(variable("XDG_CONFIG_HOME").and_then(absolute).or_else(home)?.join("systemd/user"))
}

/// The user behind `sudo`.
pub fn sudo_user() -> Option<String> {
    variable("SUDO_USER").map(|name| crate::base::Name::from(name.as_os_str()).shown())
}

/// The file of this program.
///
/// # Errors
/// If the system does not say.
pub fn program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

/// The width that somebody chose for tables, by `COLUMNS`.
pub fn columns() -> Option<u16> {
    variable("COLUMNS")?.to_str()?.parse().ok().filter(|&width| width > 0)
}

/// The file that a program of this name stands for, as a shell would find it.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = variable("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_program(file))
}

/// The file that the system runs for the first word of a command in this directory: named by its path where it has a slash, else
/// found by `PATH`.
///
/// # Errors
/// If there is none, or none that this user may run.
pub fn runnable(word: &OsStr, directory: &Path) -> io::Result<PathBuf> {
    // without the variable the C library looks there
    runnable_by(word, directory, &variable("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin")))
}

fn runnable_by(word: &OsStr, directory: &Path, path: &OsStr) -> io::Result<PathBuf> {
    let places = match word.as_bytes().contains(&b'/') {
        true => vec![directory.to_owned()],
        false => std::env::split_paths(path).map(|place| directory.join(place)).collect(),
    };
    let mut found = io::ErrorKind::NotFound;
    for file in places.iter().map(|place| place.join(word)) {
        match file.metadata() {
            Ok(data) if data.is_file() && accessat(CWD, &file, Access::EXEC_OK, AtFlags::EACCESS).is_ok() => {
                return Ok(file);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            _ => found = io::ErrorKind::PermissionDenied,
        }
    }
    Err(found.into())
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_lies_where_xdg_says() {
        let dir = |xdg: &str, home: &str| config_dir(Some(xdg.into()), Some(home.into()));
        assert_eq!(dir("/x", "/root").unwrap(), Path::new("/x/lifeboat"));
        assert_eq!(dir("relative", "/root").unwrap(), Path::new("/root/.config/lifeboat"));
        assert_eq!(dir("", "not absolute"), None);
        assert_eq!(config_dir(None, None), None);
    }
    #[test]
    fn a_command_is_found_as_the_system_finds_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, mode: u32| {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("bin/run", 0o755);
        write("bin/text", 0o644);
        write("here", 0o755);
        let path = std::env::join_paths([dir.path().join("none"), dir.path().join("bin")]).unwrap();
        let find = |word: &str| {
            let found = runnable_by(OsStr::new(word), dir.path(), &path).map_err(|error| error.kind());
            found.map(|file| file.strip_prefix(dir.path()).unwrap().display().to_string())
        };
        assert_eq!(find("run").unwrap(), "bin/run");
        assert_eq!(find("./here").unwrap(), "here");
        assert_eq!(find("here").unwrap_err(), io::ErrorKind::NotFound);
        assert_eq!(find("text").unwrap_err(), io::ErrorKind::PermissionDenied);
        assert_eq!(find("./bin").unwrap_err(), io::ErrorKind::PermissionDenied);
        assert_eq!(find("here/x").unwrap_err(), io::ErrorKind::NotFound);
    }
}
