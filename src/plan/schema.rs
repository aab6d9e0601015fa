//! The JSON Schema of a plan, made from the types that read it.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::types::Plan;

/// The schema (JSON Schema 2020-12) of `lifeboat.toml` as a JSON value.
pub fn schema() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Plan>().to_value()
}
