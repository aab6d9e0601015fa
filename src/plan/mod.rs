//! The plan, `lifeboat.toml`: what an application is, how it comes back, and how one sees that it works.
//!
//! Read strictly: an unknown key, a wrong type or value, and a name that leads nowhere are errors with
//! file, line and column. `docs/plan.md` and the JSON Schema are made from the types here.

pub mod calendar;
pub mod detect;
mod load;
mod places;
mod references;
pub mod schema;
pub mod step;
pub mod types;

pub use detect::detect;
pub use load::{FILE, PlanError, Problem, nearest};
pub use places::Place;
pub use references::TOLD;
pub use schema::schema;
pub use step::{Operation, Step};
pub use types::{
    App, Capacity, Database, DatabaseKind, Drill, Hotfix, Limits, Maintenance, Metrics, Network, Notify,
    NotifyFormat, NotifyOn, Objectives, OnFailure, OnInconclusive, OnMiss, Plan, Repository, Retention,
    Rotate, RotateMethod, Runbook, Security, Service, Thresholds,
};

/// Where programs are looked for in a drill, unless the plan says otherwise (`drill.environment`).
pub const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
