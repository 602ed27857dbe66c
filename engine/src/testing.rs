//! A topology in one test process: fed by hand, stepped batch by batch, crashed at a named point,
//! started again.
//!
//! ```
//! use tidemill_engine::aggregates::Count;
//! use tidemill_engine::testing::{CrashPoint, Kit};
//!
//! let mut kit = Kit::new(|topology, io| {
//!     topology.source("words", io.source::<String>("words")).group_by(|word| word.clone()).persistent_aggregate("counts", Count);
//! });
//! kit.feed("words", ["tide".to_string(), "tide".to_string()]);
//! kit.crash(CrashPoint::BeforeWrite);
//! kit.restart();
//! kit.step();
//! assert_eq!(kit.state::<String, u64>("counts")["tide"], 2);
//! ```

mod exactly_once;
mod io;

use crate::clock::Clock;
use crate::dataflow::topology::Topology;
use crate::record::Data;
use crate::request::ask::QueryError;
use crate::run::engine::Engine;
use crate::settings::Settings;
pub use exactly_once::{assert_exactly_once, assert_exactly_once_with};
pub use io::{CollectingSink, FedSource, Io};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_state::keys::{self, Key};
pub use tidemill_state::points::Effect;
pub use tidemill_state::{CrashPoint, Txid};
use tidemill_state::{Error, Points, Result, codec};

/// The time a step, a start or an answer may take before the kit gives up: long enough for any
/// machine.
const PATIENCE: Duration = Duration::from_secs(60);

type BuildWith = dyn Fn(&Topology<'_>, &Io) + Send + Sync;

/// A topology under test. See the module's documentation. Its methods panic, as assertions do, when
/// the topology fails.
pub struct Kit {
    build: Arc<BuildWith>,
    io: Arc<Io>,
    settings: Settings,
    points: Arc<Points>,
    engine: Option<Engine>,
    _folder: tempfile::TempDir,
}

impl Kit {
    /// Starts the topology on a new state, with one worker.
    ///
    /// # Panics
    /// If it does not start.
    pub fn new(build: impl Fn(&Topology<'_>, &Io) + Send + Sync + 'static) -> Kit {
        Kit::with(|_| {}, build)
    }

    /// As [`Kit::new`], with other settings.
    ///
    /// # Panics
    /// If it does not start.
    pub fn with(
        set: impl FnOnce(&mut Settings),
        build: impl Fn(&Topology<'_>, &Io) + Send + Sync + 'static,
    ) -> Kit {
        let folder = tempfile::tempdir().expect("a test can make a temporary folder");
        let mut settings = Settings {
            workers: 1,
            fold_bytes: 1,
            disk_reserve: 0,
            clock: Clock::stopped_at(0),
            ..Settings::new("test", folder.path().join("state"))
        };
        // Batches are closed by `step`, not by size or time.
        settings.batches.max_records = u64::MAX >> 1;
        settings.batches.max_bytes = u64::MAX >> 1;
        settings.batches.max_delay = Duration::from_secs(1 << 30);
        settings.queries.time_out = PATIENCE;
        set(&mut settings);
        let mut kit = Kit {
            build: Arc::new(build),
            io: Arc::default(),
            settings,
            points: Arc::default(),
            engine: None,
            _folder: folder,
        };
        kit.restart();
        kit
    }

    /// Puts records into the source that was made with [`Io::source`] under this name. They are
    /// read at the next [`Kit::step`].
    ///
    /// # Panics
    /// If the topology has no such source of this type.
    pub fn feed<T: Data>(&mut self, source: &str, records: impl IntoIterator<Item = T>) {
        let fed = self.io.fed::<T>(source);
        fed.records.lock().expect("no holder of this lock panics").extend(records);
    }

    /// Runs one batch of everything that was fed, until it is committed and published. Gives its
    /// number, or the last one's if nothing was fed.
    ///
    /// # Panics
    /// If the topology fails, or takes too long.
    pub fn step(&mut self) -> Txid {
        self.try_step().unwrap_or_else(|error| panic!("the step failed: {error}"))
    }

    /// As [`Kit::step`], but gives the error that ended the topology.
    ///
    /// # Errors
    /// What ended the topology. It can then be [`Kit::restart`]ed.
    ///
    /// # Panics
    /// If it takes too long.
    pub fn try_step(&mut self) -> Result<Txid> {
        let engine = self.engine.as_ref().expect("the topology runs: restart it after a crash");
        let runtime = engine.runtime();
        let before = runtime.committed();
        let pending = self.io.release();
        let began = Instant::now();
        // In this order: what was read is in a batch on its way by the time that it counts as read.
        let settled = || runtime.is_ready() && self.io.is_drained() && runtime.is_at_rest();
        while runtime.committed() == before && pending || !settled() {
            // Before all workers are ready, what an earlier run has read may still stand there as
            // read.
            if runtime.is_ready() && self.io.is_drained() {
                runtime.close_batch(&self.points)?;
            }
            if engine.is_over() {
                let engine = self.engine.take().expect("it was there above");
                return Err(engine
                    .wait()
                    .err()
                    .unwrap_or_else(|| Error::bug("the topology ended by itself")));
            }
            assert!(began.elapsed() < PATIENCE, "the step takes too long: {:?}", runtime.status());
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(runtime.committed())
    }

    /// Runs on until `point` is reached, and crashes there as if the process were gone. What was
    /// fed and not committed will be read again.
    ///
    /// # Panics
    /// If the point is not reached.
    pub fn crash(&mut self, point: CrashPoint) {
        self.points.arm(point, Effect::Stop, 1);
        let outcome = self.try_step();
        let began = Instant::now();
        while !self.points.stopped() {
            // A fold, or the trimming of the log, may come a little after the batch.
            assert!(
                began.elapsed() < PATIENCE,
                "the crash point {} was not reached: {outcome:?}",
                point.name()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        self.kill();
    }

    /// Crashes right now.
    pub fn kill(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.crash();
        }
    }

    /// Starts the topology again on its state, after a crash or a stop; stops it first if it runs.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.try_restart().unwrap_or_else(|error| panic!("the topology does not start: {error}"));
    }

    /// As [`Kit::restart`], but gives the error with which the start was refused.
    ///
    /// # Errors
    /// Why the start was refused.
    pub fn try_restart(&mut self) -> Result<()> {
        self.restart_with(Arc::default())
    }

    /// Starts the topology again, and crashes it during that start, or at the first batch after it.
    ///
    /// # Panics
    /// If the point is not reached.
    pub fn restart_and_crash(&mut self, point: CrashPoint) {
        let points = Arc::new(Points::none());
        points.arm(point, Effect::Stop, 1);
        if self.restart_with(Arc::clone(&points)).is_ok() {
            let _ = self.try_step();
        }
        assert!(points.stopped(), "the crash point {} was not reached", point.name());
        self.kill();
    }

    fn restart_with(&mut self, points: Arc<Points>) -> Result<()> {
        if let Some(engine) = self.engine.take() {
            engine.stop();
            engine.wait()?;
        }
        self.points = points;
        let (build, io) = (Arc::clone(&self.build), Arc::clone(&self.io));
        let engine = Engine::start_with_points(
            self.settings.clone(),
            move |topology| build(topology, &io),
            Arc::clone(&self.points),
        )?;
        let began = Instant::now();
        while !engine.runtime().is_ready() && !engine.is_over() {
            assert!(
                began.elapsed() < PATIENCE,
                "the start takes too long: {:?}",
                engine.runtime().status()
            );
            std::thread::sleep(Duration::from_micros(200));
        }
        self.engine = Some(engine);
        Ok(())
    }

    /// Gives the topology other code, as a new version of the program would have. Takes effect at
    /// the next [`Kit::restart`].
    pub fn change_program(&mut self, build: impl Fn(&Topology<'_>, &Io) + Send + Sync + 'static) {
        self.build = Arc::new(build);
    }

    /// Sets the time of the batches that are begun from here on ([`crate::Batch::time_ms`]): a
    /// test's clock stands still until it is set, and begins at 0.
    pub fn set_time_ms(&mut self, ms: u64) {
        self.settings.clock.set(ms);
    }

    /// The crash points of the run in hand, to be armed at will.
    #[must_use]
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// The settings, for the next [`Kit::restart`].
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// The engine that runs.
    ///
    /// # Panics
    /// After a crash, before a restart.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the topology runs: restart it after a crash")
    }

    /// The committed content of a state.
    ///
    /// # Panics
    /// If there is no such state with these types, or the topology does not run.
    #[must_use]
    pub fn state<K: Key + Ord, V: crate::record::Storable>(&self, name: &str) -> BTreeMap<K, V> {
        let mut content = BTreeMap::new();
        let scanned = self.engine().runtime().scan_committed(name, |key, value| {
            content.insert(keys::decode_key(key)?, codec::decode(value)?);
            Ok(true)
        });
        scanned.unwrap_or_else(|error| panic!("state \"{name}\" cannot be read: {error}"));
        content
    }

    /// The answer of a query, and the committed batch that it is from. A query that ends in an
    /// ungrouped aggregate gives its value, any other a vector.
    ///
    /// # Panics
    /// If there is no such query, it fails, or its types are others.
    #[must_use]
    pub fn ask<R: DeserializeOwned>(&self, query: &str, arguments: &impl Serialize) -> (Txid, R) {
        self.try_ask(query, arguments)
            .unwrap_or_else(|error| panic!("query \"{query}\" failed: {error}"))
    }

    /// As [`Kit::ask`], but gives the error.
    ///
    /// # Errors
    /// Why there is no answer.
    ///
    /// # Panics
    /// After a crash, before a restart.
    pub fn try_ask<R: DeserializeOwned>(
        &self,
        query: &str,
        arguments: &impl Serialize,
    ) -> std::result::Result<(Txid, R), QueryError> {
        self.engine().runtime().ask_typed(query, arguments)
    }

    /// Returns the records that were published to the sink that was made with [`Io::sink`] under
    /// this name.
    ///
    /// # Panics
    /// If the topology has no such sink of this type.
    #[must_use]
    pub fn output<T: Data>(&self, sink: &str) -> Vec<T> {
        let collected = self.io.collected::<T>(sink);
        let published = collected.published.lock().expect("no holder of this lock panics");
        published
            .records
            .iter()
            .map(|(_, record)| codec::decode(record).expect("the sink wrote it"))
            .collect()
    }
}
