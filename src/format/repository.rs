//! `repository.json` (section 3).

use serde::{Deserialize, Serialize};

use super::FormatError;
use super::frame::MAX_FRAME;
use crate::base::time::Timestamp;

/// The newest format version this program reads and the one it writes.
pub const VERSION: u32 = 1;
/// No `repository.json` is larger.
pub const MAX_BYTES: u64 = 1 << 20;

/// A repository's identity and parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Always `repository`.
    pub lifeboat: String,
    /// The format's version.
    pub version: u32,
    /// 32 random hexadecimal digits.
    pub id: String,
    /// When `init` made it.
    pub created: Timestamp,
    /// What a reader must know to read it at all.
    #[serde(default)]
    pub features: Vec<String>,
    /// How files are cut.
    pub chunking: Chunking,
    /// A frame is closed before it grows beyond this many bytes, uncompressed.
    pub frame_target: u32,
    /// A pack is closed when it has this many bytes.
    pub pack_target: u32,
    /// Public keys to encrypt to; empty means plain.
    #[serde(default)]
    pub recipients: Vec<String>,
}

/// How files are cut into chunks; sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunking {
    /// Always `fastcdc-2020`.
    pub method: String,
    /// Up to this size a stream is one chunk.
    pub minimum: u32,
    /// What chunks of longer streams have about.
    pub average: u32,
    /// No chunk is larger.
    pub maximum: u32,
}

impl Default for Chunking {
    // Measured: docs/decisions/0003-chunk-sizes.md
    fn default() -> Self {
        Self { method: "fastcdc-2020".to_owned(), minimum: 128 << 10, average: 512 << 10, maximum: 2 << 20 }
    }
}

impl Repository {
    /// A new repository with the default parameters.
    pub fn new(id: String, created: Timestamp) -> Self {
        Self {
            lifeboat: "repository".to_owned(),
            version: VERSION,
            id,
            created,
            features: Vec::new(),
            chunking: Chunking::default(),
            frame_target: 2 << 20,
            pack_target: 32 << 20,
            recipients: Vec::new(),
        }
    }

    /// Reads `repository.json` and refuses what this program does not understand.
    ///
    /// # Errors
    /// If it is malformed, newer, or has a feature or parameter that is not known.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Head {
            lifeboat: String,
            version: u32,
            #[serde(default)]
            features: Vec<String>,
        }
        let bad = |why: &dyn ToString| FormatError::malformed("repository.json", why.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(|e| bad(&e))?;
        if head.lifeboat != "repository" {
            return Err(bad(&"it does not say that it is a repository"));
        }
        if head.version > VERSION {
            return Err(FormatError::Newer { have: head.version, known: VERSION });
        }
        if let Some(feature) = head.features.into_iter().next() {
            return Err(FormatError::UnknownFeature(crate::base::name::shown(feature.as_bytes())));
        }
        let repository: Self = serde_json::from_slice(bytes).map_err(|e| bad(&e))?;
        repository.check().map_err(|why| bad(&why))?;
        Ok(repository)
    }

    fn check(&self) -> Result<(), &'static str> {
        let Chunking { method, minimum, average, maximum } = &self.chunking;
        let is_id = self.id.len() == 32 && self.id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if self.version == 0 {
            return Err("version 0");
        }
        if !is_id {
            return Err("its id is not 32 hexadecimal digits");
        }
        if method != "fastcdc-2020" {
            return Err("its way of cutting files is not known");
        }
        // the limits of the fastcdc crate, which checks them in debug builds only
        let even = [minimum, average, maximum].iter().all(|n| n.is_multiple_of(2));
        let ordered = minimum <= average && average <= maximum;
        if !even || !ordered || *minimum < 64 || *minimum > 1 << 20 || *average < 256 || *average > 4 << 20 {
            return Err("its chunk sizes are out of range");
        }
        if *maximum < 1024 || *maximum > 16 << 20 {
            return Err("its chunk sizes are out of range");
        }
        if !(4096..=(MAX_FRAME as u32 / 2)).contains(&self.frame_target) || self.pack_target > 1 << 30 {
            return Err("its frame or pack size is out of range");
        }
        if !self.recipients.is_empty() {
            return Err("it is encrypted, which this version cannot read yet");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;

    #[test]
    fn newer_or_strange_repositories_are_refused() {
        let good = Repository::new("0".repeat(32), Timestamp::from_seconds(0).unwrap());
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(Repository::decode(text.as_bytes()), Ok(good));
        let refused =
            |from: &str, to: &str| Repository::decode(text.replace(from, to).as_bytes()).unwrap_err();
        assert_eq!(refused("\"version\":1", "\"version\":2"), FormatError::Newer { have: 2, known: 1 });
        assert_eq!(
            refused("\"features\":[]", "\"features\":[\"x\"]"),
            FormatError::UnknownFeature("x".into())
        );
        for (from, to) in [
            ("131072", "131073"),
            ("2097152,", "999999999,"),
            ("33554432", "9999999999"),
            ("\"repository\"", "\"pack\""),
        ] {
            assert!(matches!(refused(from, to), FormatError::Malformed { .. }), "{from} -> {to}");
        }
    }
}
