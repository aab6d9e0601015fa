//! Where hosts keep what opens other doors: covered in every sandbox, as no application's recovery should need it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Of the host.
const SYSTEM: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/pki/tls/private",
    "/etc/letsencrypt",
    "/etc/wireguard",
    "/etc/krb5.keytab",
    "/etc/kubernetes",
    "/etc/rancher",
    "/etc/docker/key.json",
    "/etc/lifeboat",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/systemd/credential.secret",
];
/// In every home directory.
const HOME: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".pgpass",
    ".my.cnf",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".vault-token",
    ".password-store",
    ".bash_history",
    ".zsh_history",
    ".psql_history",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".config/gcloud",
    ".config/gh",
    ".config/git/credentials",
    ".config/lifeboat",
    ".config/restic",
    ".config/borg",
    ".local/share/keyrings",
    ".mozilla",
    ".config/chromium",
    ".config/google-chrome",
];
const HOST_KEYS: &str = "/etc/ssh";

/// All such places that there are on this host, as far as this user can see them.
pub(super) fn places() -> Vec<PathBuf> {
    let system = SYSTEM.iter().map(PathBuf::from);
    let homes = homes().into_iter().flat_map(|home| HOME.iter().map(move |name| home.join(name)));
    let keys = listed(Path::new(HOST_KEYS)).filter(|path| path.to_string_lossy().ends_with("_key"));
    let found: BTreeSet<PathBuf> =
        system.chain(homes).chain(keys).filter_map(|path| path.canonicalize().ok()).collect();
    found.into_iter().collect()
}

fn homes() -> BTreeSet<PathBuf> {
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = table.lines().filter_map(|line| line.split(':').nth(5)).map(PathBuf::from);
    // a directory service's users do not stand in the table
    named
        .chain(listed(Path::new("/home")))
        .filter(|home| home.is_absolute() && home.parent().is_some())
        .collect()
}

fn listed(directory: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}
