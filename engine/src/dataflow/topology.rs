//! The user's program: what the closure that builds it is given, and what is known of it before it
//! runs.

use crate::batch::BatchLimits;
use crate::batch::intake::Intake;
use crate::batch::latch::Latch;
use crate::clock::Clock;
use crate::dataflow::context::{Context, Shared};
use crate::dataflow::declared::{Convert, Declared};
use crate::panics;
use crate::plan::Plan;
use crate::request::codec::QueryCodec;
use crate::request::hub::{QueryLimits, RequestHub};
use crate::sink::AnySink;
use crate::source::AnySource;
use crate::table::codec::StateCodec;
use std::rc::Rc;
use std::sync::Arc;
use tidemill_state::keys::KEY_GROUPS;
use tidemill_state::schema::{Program, Schema};
use tidemill_state::{Error, Points, Result, Txid};
use timely::dataflow::Scope;

/// A topology that is being built, on one worker. Sources are its methods; everything else is a
/// method of what they give.
///
/// The closure that builds it is called once per worker, and again when a generation begins anew;
/// it must declare the same sources, operators, states and sinks, in the same order, each time.
pub struct Topology<'s> {
    pub(crate) scope: Scope<'s, u64>,
    pub(crate) context: Rc<Context>,
}

/// A topology that was built once to see what it is made of.
pub(crate) struct Description {
    pub(crate) program: Program,
    pub(crate) plan: Plan,
    pub(crate) codecs: Vec<Arc<dyn StateCodec>>,
    /// In the program's order.
    pub(crate) sources: Vec<Arc<dyn AnySource>>,
    /// In the program's order.
    pub(crate) sinks: Vec<Arc<dyn AnySink>>,
    pub(crate) queries: Vec<Arc<dyn QueryCodec>>,
    /// The conversions that migrations call, by the number in their changes.
    pub(crate) conversions: Vec<Convert>,
}

/// The declarations of a program that does not run: to look at the program or at its store.
pub struct Outline {
    /// Its states, sources and sinks.
    pub program: Program,
    /// Its dataflow.
    pub plan: Plan,
    /// Its states' types, in the order of `program.states`.
    pub codecs: Vec<Arc<dyn StateCodec>>,
}

/// Calls the closure that builds a topology once, and says what it declares.
///
/// # Errors
/// Kind Config: two things of one name, or nothing to do. Kind UserCode: the closure panics.
pub fn outline<F>(build: &F) -> Result<Outline>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    let Description { program, plan, codecs, .. } = describe(build)?;
    Ok(Outline { program, plan, codecs })
}

/// Returns the error of a closure that has panicked while it built a topology.
pub(crate) fn build_failed(why: &str) -> Error {
    Error::user_code(format!(
        "building the topology {why}. Nothing was read or written: mend the closure that builds it"
    ))
}

/// Calls the user's closure without running anything.
///
/// # Errors
/// Kind Config: two things of one name, or nothing to do. Kind UserCode: the closure panics.
pub(crate) fn describe<F>(build: &F) -> Result<Description>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    let limits = BatchLimits::default();
    let shared = Shared {
        peers: 1,
        latch: Arc::new(Latch::default()),
        points: Arc::new(Points::none()),
        intake: Arc::new(Intake::new(limits, Clock::default(), Txid::NONE, 1)),
        committed: Arc::default(),
        schema: Schema::default(),
        key_groups: KEY_GROUPS,
        after: Txid::NONE,
        sinks: Arc::default(),
        excluded: Arc::default(),
        trial: None,
        work: Arc::default(),
        hub: Arc::new(RequestHub::new(
            Arc::default(),
            1,
            Vec::new(),
            QueryLimits { running: 1, ..QueryLimits::default() },
        )),
    };
    let context = Context::new(0, shared);
    let allocator = timely::communication::Allocator::Thread(Default::default());
    let mut worker = timely::worker::Worker::new(timely::WorkerConfig::default(), allocator, None);
    let built = panics::located(|| {
        worker.dataflow(|scope| build(&Topology { scope, context: Rc::clone(&context) }))
    });
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
    built.map_err(|why| build_failed(&why))?;
    let declared = context.declared.take();
    if let Some(error) = context.plan.borrow().clash().or(declared.error) {
        return Err(error);
    }
    if declared.program.sources.is_empty() {
        return Err(Error::config(
            "the topology has no source: begin with topology.source(name, source)",
        ));
    }
    let Declared { program, codecs, sources, sinks, queries, conversions, .. } = declared;
    Ok(Description {
        program,
        plan: context.plan.take(),
        codecs,
        sources,
        sinks,
        queries,
        conversions,
    })
}

/// The user's closure that builds the topology.
pub(crate) type Build = dyn Fn(&Topology<'_>) + Send + Sync;
