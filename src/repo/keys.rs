//! The writer's key: Ed25519 in OpenSSH form, its signatures in the SSH signature format, so that
//! stock `ssh-keygen -Y verify` checks them.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::{HashAlg, LineEnding, PrivateKey, SshSig};

use super::{RepoError, Result};
use crate::base::id::{hex_of, sha256};

/// The public half: who may have written.
#[derive(Clone)]
pub struct PublicKey {
    key: ssh_key::PublicKey,
    file: Vec<u8>,
}

/// The private half, which signs documents and records.
pub struct WriterKey {
    key: PrivateKey,
    public: PublicKey,
}

fn bad(what: &str, why: impl std::fmt::Display) -> RepoError {
    RepoError::Key(format!("{what}: {why}"))
}

impl PublicKey {
    /// Reads a line in OpenSSH's form.
    ///
    /// # Errors
    /// If it is none, or not an Ed25519 key.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = str::from_utf8(bytes).map_err(|e| bad("the public key is not text", e))?;
        let key = ssh_key::PublicKey::from_openssh(text.trim())
            .map_err(|e| bad("the public key cannot be read", e))?;
        if key.key_data().ed25519().is_none() {
            return Err(bad("the public key", "it is not an Ed25519 key"));
        }
        Ok(Self { key, file: bytes.to_vec() })
    }

    /// The file that holds it in a repository.
    pub fn file_bytes(&self) -> &[u8] {
        &self.file
    }

    /// Hash of that file, 64 digits.
    pub fn file_hash(&self) -> String {
        String::from_utf8_lossy(&hex_of(&sha256(&self.file))).into_owned()
    }

    /// The short name under which records are filed.
    pub fn writer_name(&self) -> String {
        self.file_hash()[..16].to_owned()
    }

    /// The fingerprint that `ssh-keygen -l` shows.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// True if these are the very bytes that this program writes for the signature they hold: what
    /// else a reader would take for it has been touched.
    pub fn is_canonical(signature: &[u8]) -> bool {
        let Ok(read) = SshSig::from_pem(signature) else { return false };
        // the parser takes a version before the first for one too (PROTOCOL.sshsig has only 1)
        read.version() == SshSig::VERSION
            && read.to_pem(LineEnding::LF).is_ok_and(|text| text.as_bytes() == signature)
    }

    /// True if this key signed these bytes for this purpose.
    pub fn verifies(&self, namespace: &str, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = SshSig::from_pem(signature) else { return false };
        self.key.verify(namespace, message, &signature).is_ok()
    }
}

impl WriterKey {
    /// A new random key.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn generate(comment: &str) -> Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| bad("no random bytes", e))?;
        let pair = Ed25519Keypair::from(Ed25519PrivateKey::from_bytes(&seed));
        let key = PrivateKey::new(KeypairData::Ed25519(pair), comment).map_err(|e| bad("a new key", e))?;
        Self::from_private(key)
    }

    fn from_private(key: PrivateKey) -> Result<Self> {
        let mut line = key.public_key().to_openssh().map_err(|e| bad("the public key", e))?;
        line.push('\n');
        let public = PublicKey { key: key.public_key().clone(), file: line.into_bytes() };
        Ok(Self { key, public })
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] inside [`RepoError::Io`] if there is none.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(RepoError::io("read the writer's key"))?;
        let shown = path.display().to_string();
        let key = PrivateKey::from_openssh(text)
            .map_err(|e| bad(&format!("the writer's key {shown} cannot be read"), e))?;
        if key.key_data().ed25519().is_none() {
            return Err(bad(&format!("the writer's key {shown}"), "it is not an unencrypted Ed25519 key"));
        }
        Self::from_private(key)
    }

    /// Reads the key file, or makes one that only its owner can read.
    ///
    /// # Errors
    /// If it can neither be read nor made.
    pub fn load_or_create(path: &Path, comment: &str) -> Result<Self> {
        match Self::load(path) {
            Err(RepoError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let made = Self::generate(comment)?;
        match made.save(path) {
            Ok(()) => Ok(made),
            // another process was quicker: its key is the one
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(e) => Err(RepoError::Io { act: "write the writer's key", source: e }),
        }
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let text = self.key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
        // whole or not at all: written beside, then linked, which never replaces
        let mut file = tempfile::Builder::new().prefix(".writer-key-").tempfile_in(parent)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        fs::hard_link(file.path(), path)?;
        fs::File::open(parent)?.sync_all()?;
        let mut public = path.as_os_str().to_owned();
        public.push(".pub");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644);
        options.open(public)?.write_all(self.public.file_bytes())
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A signature of these bytes, in PEM.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>> {
        let signed =
            self.key.sign(namespace, HashAlg::Sha512, message).map_err(|e| bad("signing failed", e))?;
        Ok(signed.to_pem(LineEnding::LF).map_err(|e| bad("signing failed", e))?.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_hold_for_their_bytes_and_purpose_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/writer");
        let key = WriterKey::load_or_create(&path, "test").unwrap();
        let again = WriterKey::load_or_create(&path, "test").unwrap();
        assert_eq!(key.public().file_hash(), again.public().file_hash());
        let signature = key.sign("a", b"message").unwrap();
        let public = PublicKey::parse(again.public().file_bytes()).unwrap();
        assert!(public.verifies("a", b"message", &signature));
        assert!(!public.verifies("b", b"message", &signature));
        assert!(!public.verifies("a", b"other", &signature));
        assert!(!WriterKey::generate("x").unwrap().public().verifies("a", b"message", &signature));
        assert!(!public.verifies("a", b"message", b"garbage"));
    }
}
