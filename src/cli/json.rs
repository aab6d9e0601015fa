//! Answers for programs whose texts may be names that are not UTF-8: `serde_json::json!` panics on them, for its values
//! hold Rust strings, while these are written as they are (with lone surrogates).

use serde::Serialize;
use serde::ser::{Error as _, SerializeMap as _, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// An object, built field by field; see [`object`].
#[derive(Default)]
pub struct Object(Vec<(&'static str, Result<Box<RawValue>, serde_json::Error>)>);

impl Object {
    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &impl Serialize) -> Self {
        self.0.push((name, to_raw_value(value)));
        self
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            match value {
                Ok(value) => map.serialize_entry(name, value)?,
                Err(error) => return Err(S::Error::custom(error)),
            }
        }
        map.end()
    }
}

/// `object! { "name": value, … }`, as an [`Object`].
macro_rules! object {
    ($($name:literal : $value:expr),* $(,)?) => {
        $crate::cli::json::Object::default()$(.with($name, &$value))*
    };
}
pub(crate) use object;

#[cfg(test)]
mod tests {
    use crate::base::name::Name;

    #[test]
    fn names_that_are_not_utf_8_are_written() {
        let object = object! {"path": Name(b"a\xff".to_vec()), "inner": [object! {"n": 1}]};
        assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"path":"a\udcff","inner":[{"n":1}]}"#);
    }
}
