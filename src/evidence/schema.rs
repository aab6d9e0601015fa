//! The JSON Schema of the record, from the types.

use super::record::Evidence;

/// The schema (draft 2020-12) that every record of version 1 meets. Published as
/// `docs/schema/drill-record.schema.json`.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Evidence)
}
