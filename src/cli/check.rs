//! `check` and `plan`: what a program would do, and what it is made of, without its running.

use super::arguments::PlanFormat;
use super::log;
use super::output::{pretty, print};
use super::settings::Wanted;
use serde_json::json;
use tidemill_engine::{Engine, Topology, outline};
use tidemill_state::{Error, Result, printable};

/// Prints the decision of a start, if it is not refused.
pub(super) fn check<F>(wanted: Wanted, build: F) -> Result<()>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    log::start(wanted.log)?;
    wanted.kafka.apply();
    print(&printable::lines(&Engine::check(&wanted.settings, build)?))
}

/// Prints the dataflow.
pub(super) fn plan<F>(name: &str, format: PlanFormat, build: &F) -> Result<()>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    let plan = outline(build)?.plan;
    match format {
        PlanFormat::Text => print(&plan.to_text()),
        PlanFormat::Dot => print(&plan.to_dot()),
        PlanFormat::Json => {
            let plan = serde_json::to_value(&plan)
                .map_err(|why| Error::bug(format!("the plan cannot be written as JSON: {why}")))?;
            print(&pretty(&json!({"name": name, "nodes": plan["nodes"]})))
        }
    }
}
