//! A run: from the start to the stop, over all of its generations.

use crate::batch::backpressure::Bounds;
use crate::batch::commit::{Committer, OnCommit};
use crate::batch::publish::{OnPublish, Publishing};
use crate::dataflow::topology::{Build, Description, Topology, describe};
use crate::ids::{GenerationNumber, SinkIndex};
use crate::run::generations::Generations;
use crate::run::housekeeping;
use crate::run::start::{self, ClaimedSink, StartedStore};
use crate::run::threads::{PUBLISHER, caught, spawn};
use crate::runtime::starting::Starting;
use crate::runtime::{Facts, Runtime};
use crate::settings::Settings;
use crate::source::AnySource;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidemill_state::resolve::Decision;
use tidemill_state::{Error, Kind, Points, Result, SourceId, Store, Txid};

/// A topology that runs in this process. Dropping it stops it, and waits.
pub struct Engine {
    runtime: Arc<Runtime>,
    points: Arc<Points>,
    starting: Arc<Starting>,
    report: StartReport,
    supervisor: Option<JoinHandle<Result<()>>>,
}

/// The report of a run's start.
#[derive(Clone, Debug)]
pub struct StartReport {
    /// The last batch that was committed before.
    pub committed: Txid,
    /// The decision, in words.
    pub decision: String,
    /// From the call of [`Engine::start`] until the store was open and the sinks claimed; the
    /// workers load their states after that.
    pub took: Duration,
}

impl Engine {
    /// Opens or makes the store, decides whether the program fits it, claims the sinks, and starts
    /// the workers.
    ///
    /// # Errors
    /// The start was refused, with what to do. Nothing was changed then, but that a refusal after
    /// the decision (a sink that cannot be claimed) may have used an incarnation.
    pub fn start<F>(settings: Settings, build: F) -> Result<Engine>
    where
        F: Fn(&Topology<'_>) + Send + Sync + 'static,
    {
        Engine::start_with_points(settings, build, Arc::new(Points::from_env()?))
    }

    /// As [`Engine::start`], with crash points armed by the caller: for tests.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_with_points<F>(settings: Settings, build: F, points: Arc<Points>) -> Result<Engine>
    where
        F: Fn(&Topology<'_>) + Send + Sync + 'static,
    {
        let started = Instant::now();
        validate(&settings)?;
        let description = described(&settings, &build)?;
        let begun = start::start(&settings, &description, &points)?;
        let report = StartReport {
            committed: begun.decision.after,
            decision: begun.in_words(),
            took: started.elapsed(),
        };
        let runtime = Arc::new(Runtime::new(
            Facts {
                topology: settings.name.clone(),
                workers: settings.workers,
                plan: description.plan.clone(),
                codecs: description.codecs.clone(),
                sources: description
                    .program
                    .sources
                    .iter()
                    .map(|source| source.name.clone())
                    .collect(),
                key_groups: begun.store.key_groups(),
                lineage: begun.store.lineage(),
                incarnation: begun.incarnation,
                fold_bytes: settings.fold_bytes,
                bounds: Bounds {
                    unfolded_bytes: settings.most_unfolded(),
                    outbox_bytes: settings.outbox_bytes,
                },
                started,
            },
            begun.store.committed(),
            begun.publishers.iter().map(ClaimedSink::status).collect(),
            description.queries.clone(),
            settings.queries.clone(),
        ));
        let starting = Arc::clone(&settings.starting);
        let run = Run {
            settings,
            build: Arc::new(build),
            description,
            begun,
            runtime: Arc::clone(&runtime),
            points: Arc::clone(&points),
        };
        let supervisor = spawn("supervisor", move || run.supervise())?;
        Ok(Engine { runtime, points, starting, report, supervisor: Some(supervisor) })
    }

    /// Would this program start on its store? The decision in words; nothing is changed.
    ///
    /// # Errors
    /// The start would be refused.
    pub fn check<F>(settings: &Settings, build: F) -> Result<String>
    where
        F: Fn(&Topology<'_>) + Send + Sync + 'static,
    {
        validate(settings)?;
        let decision: Decision = start::check(settings, &described(settings, &build)?)?;
        let warnings: Vec<String> =
            decision.warnings.iter().map(|warning| format!("; warning: {warning}")).collect();
        Ok(format!("{decision}{}", warnings.concat()))
    }

    /// Returns the report of the start.
    #[must_use]
    pub fn start_report(&self) -> &StartReport {
        &self.report
    }

    /// Returns the run as seen from outside.
    #[must_use]
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Finishes the batch in hand, publishes for up to [`Settings::drain`], and ends. Returns at
    /// once; see [`Engine::wait`].
    pub fn stop(&self) {
        self.runtime.stop();
        self.starting.give_up();
    }

    /// Returns whether the run has ended, well or not.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.supervisor.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the run has ended.
    ///
    /// # Errors
    /// What ended it, if it was not stopped.
    pub fn wait(mut self) -> Result<()> {
        self.join()
    }

    /// Ends the run as a crash of the process would: nothing is finished, nothing tidied up. For
    /// tests.
    pub fn crash(mut self) {
        self.points.stop();
        self.starting.give_up();
        self.runtime.fail(Error::new(Kind::TryAgain, "simulated crash"));
        let _ = self.join();
    }

    fn join(&mut self) -> Result<()> {
        match self.supervisor.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => Err(Error::bug(format!(
                "the supervisor panicked: {}",
                crate::panics::panic_message(panic.as_ref())
            ))),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        let _ = self.join();
    }
}

/// Describes the topology; a panic of its closure names it.
fn described<F>(settings: &Settings, build: &F) -> Result<Description>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    describe(build).map_err(|error| match error.kind() {
        Kind::UserCode => error.while_doing(&format!("topology \"{}\"", settings.name)),
        _ => error,
    })
}

fn validate(settings: &Settings) -> Result<()> {
    let limits = &settings.batches;
    let wrong = [
        (settings.workers == 0, "workers is 0: give at least 1"),
        (
            settings.workers > 256,
            "workers is more than 256, the number of key groups: give at most 256",
        ),
        (limits.max_records == 0, "max_batch_records is 0: give at least 1"),
        (limits.max_bytes == 0, "max_batch_bytes is 0: give at least 1"),
        (limits.max_in_flight == 0, "max_batches_in_flight is 0: give at least 1"),
        (settings.name.is_empty(), "the topology's name is empty: give it one with --name"),
        (
            settings.name.contains(char::is_control),
            "the topology's name has control characters in it: give it another with --name",
        ),
        (
            settings.queries.running == 0,
            "queries_running is 0, with which no request could begin: give at least 1",
        ),
        (
            settings.queries.time_out.is_zero(),
            "query_time_out is 0, in which nothing is answered: give at least 1ms",
        ),
        (
            settings.queries.request_bytes == 0,
            "request_bytes is 0, with which nothing can be asked: give at least 1",
        ),
    ];
    wrong.iter().find(|(wrong, _)| *wrong).map_or(Ok(()), |(_, why)| Err(Error::config(*why)))
}

/// The program's sources with their numbers.
fn sources(decision: &Decision, description: &Description) -> Vec<(SourceId, Arc<dyn AnySource>)> {
    let sources = description.program.sources.iter().zip(&description.sources);
    let numbered = sources.filter_map(|(decl, source)| {
        Some((decision.schema.source(&decl.name)?, Arc::clone(source)))
    });
    numbered.collect()
}

/// The publication of a claimed sink, the run's `index`th.
fn publishing(
    index: SinkIndex,
    sink: ClaimedSink,
    store: &Arc<Store>,
    runtime: &Arc<Runtime>,
    points: &Arc<Points>,
) -> Publishing {
    Publishing {
        id: sink.id,
        index,
        name: sink.name,
        exactly_once: sink.exactly_once,
        sink: sink.sink,
        owner: sink.owner,
        publisher: Some(sink.publisher),
        cursor: sink.cursor,
        store: Arc::clone(store),
        outlets: Arc::clone(&runtime.outlets),
        run: Arc::clone(runtime) as Arc<dyn OnPublish>,
        points: Arc::clone(points),
    }
}

/// Everything of a run, in the hands of its supervisor.
struct Run {
    settings: Settings,
    build: Arc<Build>,
    description: Description,
    begun: StartedStore,
    runtime: Arc<Runtime>,
    points: Arc<Points>,
}

impl Run {
    /// Starts the threads that outlive generations, runs generations until the end, and ends those
    /// threads in the order in which they depend on each other.
    fn supervise(self) -> Result<()> {
        let Run { settings, build, description, begun, runtime, points } = self;
        let StartedStore { store, decision, publishers, listing, known_as, .. } = begun;
        let store = Arc::new(store);
        runtime.set_store(&store);
        runtime.set_stored(store.unfolded_bytes(), store.table_bytes());
        let (deltas, messages) = crossbeam_channel::unbounded();
        let last_output = publishers.iter().map(|sink| (sink.id, sink.last)).collect();
        let committer = Committer {
            store: Arc::clone(&store),
            run: Arc::clone(&runtime) as Arc<dyn OnCommit>,
            points: Arc::clone(&points),
            workers: settings.workers,
            last_output,
            waiting: BTreeMap::new(),
            generation: None,
            moved: Vec::new(),
            sources: sources(&decision, &description),
        };
        let watched = |name: &str, body: Box<dyn FnOnce() -> Result<()> + Send>| {
            let runtime = Arc::clone(&runtime);
            spawn(name, move || caught(body).inspect_err(|error| runtime.fail(error.clone())))
        };
        let committer = watched("committer", Box::new(move || committer.run(&messages)))?;
        let mut others = Vec::new();
        // A thread that there is not ends the run as one that fails does: those that are there are
        // ended in order.
        let mut other =
            |name: &str, body: Box<dyn FnOnce() -> Result<()> + Send>| match watched(name, body) {
                Ok(thread) => others.push(thread),
                Err(error) => runtime.fail(error),
            };
        for (index, sink) in publishers.into_iter().enumerate() {
            let publishing = publishing(SinkIndex(index), sink, &store, &runtime, &points);
            other(PUBLISHER, Box::new(move || publishing.run()));
        }
        let (bytes, reserve) = (settings.fold_bytes, settings.disk_reserve);
        let (s, r, p) = (Arc::clone(&store), Arc::clone(&runtime), Arc::clone(&points));
        other("folder", Box::new(move || housekeeping::fold_loop(&s, &r, &p, bytes, reserve)));
        let (s, r, p) = (Arc::clone(&store), Arc::clone(&runtime), Arc::clone(&points));
        other(
            "disk",
            Box::new(move || {
                housekeeping::disk_loop(&s, &r, &p, reserve);
                Ok(())
            }),
        );
        let generations = Generations {
            settings,
            build,
            description,
            decision,
            store: Arc::clone(&store),
            runtime: Arc::clone(&runtime),
            points,
            deltas,
            known_as,
            last: GenerationNumber::default(),
            found_elsewhere: Default::default(),
        };
        let (generations, outcome) = generations.run(listing);
        generations.end(outcome, committer, others, store)
    }
}
