//! Identities. Everything stored is named by a SHA-256; each kind of thing has its own type,
//! so that a pack's name cannot be used where a chunk's is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// Why a text is not an id.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("an id has 64 lower-case hexadecimal digits, this has {0:?}")]
pub struct BadId(pub String);

/// Writes 32 bytes as 64 lower-case hexadecimal digits.
pub fn hex_of(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 64];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

/// Reads 64 lower-case hexadecimal digits; anything else is `None`.
///
/// Upper case is refused, so that an object has one name only.
pub fn from_hex(text: &[u8]) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.try_into().ok()?;
    let mut out = [0; 32];
    // digits are below 16, everything else is 255: one test at the end finds all mistakes
    let mut wrong = 0;
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (DIGIT_VALUES[usize::from(pair[0])], DIGIT_VALUES[usize::from(pair[1])]);
        wrong |= high | low;
        *byte = high << 4 | low;
    }
    (wrong < 16).then_some(out)
}

const DIGIT_VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    values
};

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The SHA-256 of some bytes in hexadecimal: the name of what is named by its hash.
pub fn name_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&hex_of(&sha256(bytes))).into_owned()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The id of these bytes: their SHA-256.
            pub fn of(bytes: &[u8]) -> Self {
                Self(sha256(bytes))
            }

            /// 64 lower-case hexadecimal digits.
            pub fn to_hex(self) -> String {
                self.to_string()
            }

            /// The first eight digits, as people see it in tables.
            pub fn short(self) -> String {
                self.to_string()[..8].to_owned()
            }

            /// Reads 64 lower-case hexadecimal digits.
            pub fn from_hex(text: &str) -> Result<Self, BadId> {
                from_hex(text.as_bytes())
                    .map(Self)
                    .ok_or_else(|| BadId(text.chars().take(80).collect()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let hex = hex_of(&self.0);
                f.write_str(str::from_utf8(&hex).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::from_hex(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("64 lower-case hexadecimal digits")
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::from_hex(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    )*};
}

ids! {
    /// SHA-256 of a chunk's content.
    ChunkId;
    /// SHA-256 of a pack's stored bytes; also its file name.
    PackId;
    /// SHA-256 of an index object's stored bytes; also its file name.
    IndexId;
    /// SHA-256 of a snapshot document; also its file name.
    SnapshotId;
    /// SHA-256 of a logbook record.
    RecordId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_both_ways_and_is_lower_case_only() {
        let id = ChunkId::of(b"");
        assert_eq!(id.to_hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(ChunkId::from_hex(&id.to_hex()), Ok(id));
        assert!(ChunkId::from_hex(&id.to_hex().to_uppercase()).is_err());
        assert!(ChunkId::from_hex("e3b0").is_err());
    }
}
