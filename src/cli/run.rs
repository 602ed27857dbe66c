//! `run`: starts the topology, says what an operator must know while it runs, and ends it as it
//! should.

use super::Shown;
use super::log::{self, say};
use super::output::thousands;
use super::progress::Progress;
use super::running::Running;
use super::settings::{Listen, Wanted};
use super::{limits, panics, threads};
use crate::page;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tidemill_engine::{Engine, Starting, Status, Topology, outline};
use tidemill_server::Listening;
use tidemill_state::store::move_aside;
use tidemill_state::{Error, Kind, Result, Store, Txid};

/// The interval of looks at the run. Looks are frequent until the workers are ready, since that
/// moment is reported.
const LOOK_AT_START: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(50);

/// Runs the topology until it is stopped, has ended, or fails. `began` is when the process did.
pub(super) fn run<F>(
    wanted: Wanted,
    start_over: bool,
    build: F,
    shown: Option<Shown>,
    began: Instant,
) -> Result<()>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    let Wanted { mut settings, listen, access, exit_at_end, log, kafka } = wanted;
    log::start(log)?;
    kafka.apply();
    let stop = stop_signal()?;
    let _bounded = bound_the_stop(Arc::clone(&stop), settings.drain)?;
    if start_over && settings.sink_assume.is_some() {
        return Err(Error::config(
            "--start-over and --sink-assume contradict each other: a new state has no output \
             whose fate is unknown. Leave one of them out",
        ));
    }
    let prints_records = prints_records(&settings.name, &build)?;
    let listening = match listen {
        Listen::At(address) => Some(Listening::bind(address, access)?.with_page(page::routes())),
        Listen::Nowhere => None,
    };
    if start_over {
        begin_anew(&settings.state)?;
        settings.start_over = true;
    }
    // What is read or written may be away: a signal then ends the start.
    settings.starting = Arc::new(Starting::given_up_by(Arc::clone(&stop)));
    let (name, workers) = (settings.name.clone(), settings.workers);
    let before = began.elapsed();
    let serve = |listening: Listening| {
        listening.serve_while_starting(Arc::clone(&settings.starting), &name)
    };
    let server = listening.map(serve).transpose()?;
    let Some(engine) = started(Engine::start(settings, build), &stop)? else { return Ok(()) };
    if let Some(server) = &server {
        server.go_over_to(Arc::clone(engine.runtime()));
    }
    let port = server.as_ref().map(|server| format!("http://{}", server.address()));
    let running = Running::new(Arc::clone(engine.runtime()))?;
    let mut watch = Watch {
        engine: &engine,
        running,
        name,
        workers,
        port,
        exit_at_end,
        began,
        before,
        shown,
        told: Told::default(),
    };
    watch.until_over(&stop, Progress::new(prints_records))?;
    let outcome = ended(engine);
    drop(server);
    outcome
}

/// Returns whether the topology has a sink that prints its records.
fn prints_records<F>(name: &str, build: &F) -> Result<bool>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    let outline = outline(build).map_err(|error| match error.kind() {
        Kind::UserCode => error.while_doing(&format!("topology \"{name}\"")),
        _ => error,
    })?;
    Ok(outline.program.sinks.iter().any(|sink| sink.kind == "stdout"))
}

/// Returns the engine; none if the signal to stop came while its start was waiting for something
/// that is unreachable.
fn started(engine: Result<Engine>, stop: &AtomicBool) -> Result<Option<Engine>> {
    match engine {
        Err(error) if error.kind() == Kind::Unreachable && stop.load(SeqCst) => {
            say(&format!("stopped while it waited at the start, no batch was begun: {error}"));
            Ok(None)
        }
        started => started.map(Some),
    }
}

/// Waits for the end of a run, and reports how far it came. Does not return if threads of the run
/// are left behind.
fn ended(engine: Engine) -> Result<()> {
    let from = engine.start_report().committed;
    let runtime = Arc::clone(engine.runtime());
    let outcome = engine.wait().inspect(|()| {
        say(&format!(
            "stopped after batch {}: {}{}",
            runtime.committed(),
            counted(&runtime.status(), from),
            unpublished(&runtime.status())
        ));
    });
    if runtime.has_threads() {
        // Threads that did not end still run: the destructors of an ordinary exit would run beneath
        // them.
        outcome.as_ref().err().into_iter().for_each(log::error);
        signal_hook::low_level::exit(
            outcome.err().map_or(0, |error| error.kind().exit_code().into()),
        );
    }
    outcome
}

/// A flag that SIGINT and SIGTERM raise; the second of them ends the process at once, which is as
/// safe.
fn stop_signal() -> Result<Arc<AtomicBool>> {
    let raised = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&raised))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&raised)))
            .map_err(|why| {
                Error::try_again(format!(
                    "the operating system does not let this process listen to signals: {why}"
                ))
            })?;
    }
    Ok(raised)
}

/// Ends the process if a stop is not over in time, whatever it waits for: a call over a network
/// during a start, say. The run itself is over before, and names what it has left behind.
fn bound_the_stop(stop: Arc<AtomicBool>, drain: Duration) -> Result<Bounded> {
    const LOOK_EVERY: Duration = Duration::from_millis(200);
    let bounded = Bounded(Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&bounded.0);
    let watch = move || {
        let mut since: Option<Instant> = None;
        while since.is_none_or(|since| since.elapsed() < drain.saturating_add(STOP_PATIENCE)) {
            std::thread::sleep(LOOK_EVERY);
            if over.load(SeqCst) {
                return;
            }
            since = since.or_else(|| stop.load(SeqCst).then(Instant::now));
        }
        say("the stop is not over in time: the process ends now, which is as safe as a crash; \
             nothing is lost");
        signal_hook::low_level::exit(0);
    };
    let no_thread =
        |why| Error::try_again(format!("the operating system gives this process no thread: {why}"));
    threads::spawn("stop watch", watch).map(|_| bounded).map_err(no_thread)
}

/// Ends the watch over a stop when the run is over, however it ended.
struct Bounded(Arc<AtomicBool>);

impl Drop for Bounded {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// The time after that of `--drain` at which a stop that is not over ends the process.
const STOP_PATIENCE: Duration = Duration::from_secs(6);

/// Moves the state aside, so that the run begins with batch 1.
fn begin_anew(dir: &Path) -> Result<()> {
    if !Store::exists(dir)? {
        say(&format!(
            "--start-over: there is no state in {} that would have to be moved aside",
            dir.display()
        ));
        return Ok(());
    }
    let txid: Option<Txid> = match Store::inspect(dir) {
        Ok(store) => Some(store.committed().txid()),
        Err(error) if error.kind() == Kind::TryAgain => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "the state that is moved aside cannot be read");
            None
        }
    };
    let aside = move_aside(dir, txid)?;
    say(&format!(
        "--start-over: the state was moved to {}; it begins anew with batch 1, under a new name \
         outside. A file that holds output of the old state refuses the new one: give it another \
         path. A Kafka topic gets everything again",
        aside.display()
    ));
    Ok(())
}

/// Returns how much a run has committed since the batch that it began after, and how much of that
/// was left out.
fn counted(status: &Status, from: Txid) -> String {
    let some = |number: u64, one: &str, more: &str| {
        format!("{} {}", thousands(number), if number == 1 { one } else { more })
    };
    let batches = some(status.committed.0.saturating_sub(from.0), "batch", "batches");
    let mut text = format!("{} in {batches} committed", some(status.records, "record", "records"));
    for (number, what) in [
        (status.set_aside.values().sum(), "set aside"),
        (
            status.partitions.iter().map(|partition| partition.skipped).sum::<u64>(),
            "skipped by policy",
        ),
    ] {
        if number > 0 {
            text += &format!(", {} {what}", thousands(number));
        }
    }
    text
}

/// Returns the sinks that have not confirmed all output; nothing is lost by that.
fn unpublished(status: &Status) -> String {
    let behind = status.sinks.iter().filter(|sink| sink.backlog_bytes > 0);
    let named: Vec<String> = behind.map(|sink| format!("\"{}\"", sink.name)).collect();
    if named.is_empty() {
        String::new()
    } else {
        format!(". Output for {} is not confirmed: the next start sends it", named.join(", "))
    }
}

/// The messages that were printed already.
#[derive(Default)]
struct Told {
    ready: bool,
    first_commit: bool,
    at_end: bool,
    stopping: bool,
    /// When values were shown last, and of which batch.
    shown: Option<(Instant, Txid)>,
}

/// Looks at a run, and says each thing once.
struct Watch<'a> {
    engine: &'a Engine,
    running: Running,
    name: String,
    workers: usize,
    port: Option<String>,
    exit_at_end: bool,
    began: Instant,
    /// From the beginning of the process to the engine's start.
    before: Duration,
    shown: Option<Shown>,
    told: Told,
}

impl Watch<'_> {
    /// Looks at the run until it is over.
    ///
    /// # Errors
    /// The program's own code fails at what it shows.
    fn until_over(&mut self, stop: &AtomicBool, mut progress: Progress) -> Result<()> {
        while !self.engine.is_over() {
            self.look(stop)?;
            if self.told.ready {
                progress.look(self.engine.runtime());
            }
            std::thread::sleep(if self.told.ready { LOOK } else { LOOK_AT_START });
        }
        drop(progress);
        self.tell_first_commit();
        Ok(())
    }

    /// # Errors
    /// The program's own code fails at what it shows.
    fn look(&mut self, stop: &AtomicBool) -> Result<()> {
        if stop.load(SeqCst) && !self.told.stopping {
            self.told.stopping = true;
            say("stopping: the batch in hand is finished, and sinks get what is committed; a \
                 second signal ends it at once, and nothing is lost");
            self.engine.stop();
        }
        if !self.told.ready {
            self.tell_ready();
        }
        if self.told.ready {
            self.tell_first_commit();
            let at_end = !self.told.at_end && self.engine.runtime().is_at_end();
            self.show(at_end)?;
            if at_end {
                self.tell_end();
            }
        }
        Ok(())
    }

    fn tell_ready(&mut self) {
        if !self.engine.runtime().is_ready() {
            return;
        }
        self.told.ready = true;
        let report = self.engine.start_report();
        let verb = if report.committed == Txid::NONE { "ready" } else { "recovered" };
        let workers = if self.workers == 1 {
            "1 worker".to_string()
        } else {
            format!("{} workers", self.workers)
        };
        let port = self
            .port
            .as_ref()
            .map_or("not listening".to_string(), |port| format!("listening on {port}"));
        let took = self.began.elapsed().as_secs_f64();
        say(&format!(
            "tidemill {}: {} ({verb} in {took:.2} s, {workers}), {port}",
            self.name, report.decision
        ));
        limits::in_words().iter().for_each(|limit| say(limit));
    }

    fn tell_first_commit(&mut self) {
        if self.told.first_commit {
            return;
        }
        if let Some(after) = self.engine.runtime().first_commit() {
            self.told.first_commit = true;
            let first = self.engine.start_report().committed.next();
            say(&format!(
                "first commit: batch {first}, {:.2} s after the start",
                (self.before + after).as_secs_f64()
            ));
        }
    }

    /// Lets the program show its values: if batches were committed since it last did, and it is
    /// time, or the end.
    fn show(&mut self, at_end: bool) -> Result<()> {
        let Some(Shown { every, show }) = &mut self.shown else { return Ok(()) };
        let committed = self.engine.runtime().committed();
        let due = self
            .told
            .shown
            .is_none_or(|(when, of)| of != committed && (at_end || when.elapsed() >= *every));
        if due && committed != Txid::NONE {
            self.told.shown = Some((Instant::now(), committed));
            log::hide_progress();
            let is_read = panics::shown(|| show(&self.running))?;
            self.shown.take_if(|_| !is_read);
        }
        Ok(())
    }

    fn tell_end(&mut self) {
        self.told.at_end = true;
        let runtime = self.engine.runtime();
        let counted = counted(&runtime.status(), self.engine.start_report().committed);
        let next = match &self.port {
            _ if self.exit_at_end => "; ending".to_string(),
            Some(port) => format!("; serving on {port} until it is stopped"),
            None => "; waiting until it is stopped".to_string(),
        };
        say(&format!("all sources are at their end: {counted}{next}"));
        if self.exit_at_end {
            self.engine.stop();
        }
    }
}
