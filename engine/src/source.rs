//! The traits that a source implements, and the records that a source gives.

mod erased;
mod records;

pub use crate::dead_letter::{DeadLetter, DeadLetterSink, LetterHeader};
pub use crate::record::Data;
pub(crate) use erased::AnySource;
pub use records::Records;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tidemill_state::{Error, Kind, Position, Result};

/// An origin of records: a set of partitions, each read in order from a position.
///
/// One value describes the source to all workers and generations; a [`Reader`] does the reading,
/// one per partition.
///
/// # Contract
///
/// 1. *Checked at start.* [`Source::kind`] does not change between runs over the same input.
/// 2. *Checked by the suite.* [`Source::partitions`] lists every partition that can be read now,
///    each name once. A partition that was listed may be missing later only if it was read to its
///    end; otherwise its input is lost ([`tidemill_state::Kind::SourceLost`]).
/// 3. *Checked by the suite.* A reader opened at position P gives exactly the records that a reader
///    of the whole partition gives after P: none twice, none left out, also when the records in
///    between differ in number (offsets need not be dense).
/// 4. *Checked by the suite.* A reader opened at a position that its input no longer matches fails;
///    it never starts elsewhere. What only a look over a network can tell may be left to
///    [`Source::begin`], which comes before.
/// 5. *Not checkable.* `open`, `read` and `committed` return within a few milliseconds: they run on
///    a worker, or on the thread that commits. Waiting is said with [`ReadStatus::Idle`], never
///    done by blocking. `partitions` and `begin` may take as long as a network does.
/// 6. *Not checkable.* What is away, such as a broker, is an error of kind Unreachable when a run
///    begins ([`Source::begin`], [`Source::partitions`]): it waits for it. Later a reader has
///    nothing to give meanwhile, and says why ([`Reader::trouble`]). Every other error ends the
///    run: [`tidemill_state::Kind`] has a table of the kinds.
/// 7. *Not checkable.* Nothing outside changes before [`Source::committed`]: no topic or group is
///    created, no record is acknowledged or removed, no position is stored. The command `check`
///    calls [`Source::begin`], which may list and open partitions, and no run follows; the command
///    `plan` only builds the topology. A start may also be refused after `begin`.
pub trait Source: Send + Sync + 'static {
    /// The type of the source's records.
    type Item: Data;

    /// Returns the kind of this source and of its decoding, in one short line. The line is recorded
    /// in the store, and a restart with another one is refused: a change here means that recorded
    /// positions no longer mean the same. Addresses and globs do not belong in it.
    fn kind(&self) -> String;

    /// The names of the partitions that can be read now, in a stable order.
    ///
    /// # Errors
    /// Whatever keeps the list from being made; a source with nothing to read says so here (kind
    /// Config).
    fn partitions(&self) -> Result<Vec<String>>;

    /// Returns the interval at which to ask again for [`Source::partitions`]; `None` for a fixed
    /// set. New ones join at a batch boundary.
    fn discover_every(&self) -> Option<Duration> {
        None
    }

    /// Returns the partitions that have appeared since the last look, each with the position at
    /// which it begins (`None`: its beginning). Called every [`Source::discover_every`] while the
    /// source is read, from a thread of its own.
    ///
    /// `known` holds every partition of this run by name, with the position that the start or an
    /// earlier look gave it: partitions that are read, those at their end, and those that a start
    /// left out. A retired partition ([`ReadStatus::Retired`]) leaves it once its position is
    /// removed from the store. A source whose partitions have an identity besides their name keeps
    /// it in that position's witness, and compares it here.
    ///
    /// As given, it lists [`Source::partitions`] and returns the unknown names.
    ///
    /// # Errors
    /// Kind SourceLost: a known partition is no longer the one that was read. Everything read so
    /// far is committed, then the run ends with this error. Any other error is logged, and the next
    /// look comes after the usual period.
    fn discover(
        &self,
        known: &BTreeMap<String, Option<Position>>,
    ) -> Result<Vec<(String, Option<Position>)>> {
        let listed = self.partitions()?.into_iter();
        Ok(listed
            .filter(|partition| !known.contains_key(partition))
            .map(|partition| (partition, None))
            .collect())
    }

    /// Returns the position at which each partition begins or continues. Called before the workers
    /// open the partitions. Nothing has been changed yet, and this call must not change anything.
    ///
    /// The default implementation lists [`Source::partitions`], continues from the recorded
    /// positions, begins new partitions at their beginning, and opens each once to see that it can
    /// be opened. A partition whose records are gone is left out, with a warning, if the start
    /// continues after losses: nothing more is read of that partition.
    ///
    /// # Errors
    /// A partition cannot be read, or its input does not match what is recorded (kind SourceLost);
    /// kind Config for a beginning that the source does not know; kind Unreachable.
    fn begin(&self, start: &Start<'_>) -> Result<Begun> {
        if start.first.is_some_and(|first| first != StartAt::Earliest) && !start.begun {
            return Err(Error::config(
                "this source can be read from its beginning only: leave --from out, or say --from \
                 earliest",
            ));
        }
        let mut partitions: Vec<(String, Option<Position>)> = start
            .recorded
            .iter()
            .map(|(partition, from)| (partition.clone(), Some(from.clone())))
            .collect();
        let new = self
            .partitions()?
            .into_iter()
            .filter(|partition| !start.recorded.contains_key(partition));
        partitions.extend(new.map(|partition| (partition, None)));
        let mut begun = Begun::default();
        for (partition, from) in partitions {
            match self.open(&partition, from.as_ref()) {
                Ok(_) => begun.partitions.push((partition, from)),
                Err(error)
                    if error.kind() == Kind::SourceLost && start.on_loss != OnLoss::Refuse =>
                {
                    begun.warnings.push(format!("nothing more is read of {partition}: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(begun)
    }

    /// Returns whether every partition comes to an end and no more join: the run can then end with
    /// its sources (`--exit-at-end`). Called after [`Source::begin`], which may have given
    /// partitions an end ([`Start::to_end`]).
    ///
    /// As given, a source whose partitions may grow in number has no end.
    fn is_bounded(&self) -> bool {
        self.discover_every().is_none()
    }

    /// Takes the facts that [`Source::begin`] returned. Called on each instance of the source that
    /// opens partitions, before the first. A source that wraps another passes them on; one that
    /// returns none is never given any.
    fn adopt(&self, facts: &StartFacts) {
        let _ = facts;
    }

    /// Returns the input that is not read though it belongs to the source: its name, and why, such
    /// as a file that may not be read. Called after [`Source::begin`] and after each
    /// [`Source::discover`]. The status, the metrics and the page show each as a partition with
    /// that trouble.
    fn left_out(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Returns everything that the operator should know of the source now though the source
    /// continues to be read: a pattern that nothing matches, say. Each notice is shown in the
    /// status for as long as it is returned, and logged once. Called after [`Source::begin`] and
    /// after each [`Source::discover`].
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// Called after a commit, with the positions up to which everything is committed, for sources
    /// that report their progress outside. The store never resumes before these positions. While
    /// nothing is committed, called about once a second without positions, so that a report that is
    /// late is still sent.
    fn committed(&self, positions: &[(String, Position)]) {
        let _ = positions;
    }

    /// Returns the sink for records that cannot be decoded, if the source sets them aside
    /// ([`Records::set_aside`]).
    fn dead_letters(&self) -> Option<DeadLetterSink> {
        None
    }

    /// A reader of `partition`, from `from`, or from the beginning for `None`. It may open its
    /// input lazily, at the first read.
    ///
    /// # Errors
    /// The partition cannot be read, or its input does not match `from`.
    fn open(&self, partition: &str, from: Option<&Position>)
    -> Result<Box<dyn Reader<Self::Item>>>;
}

/// The start's input to a source, see [`Source::begin`].
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// The topology, by the name that its traces outside have: for a consumer group, say.
    pub topology: &'a str,
    /// True if there is no store yet, and nobody has ordered to start over: whatever the topology
    /// has left outside is then not this state's.
    pub is_new: bool,
    /// True if the store has begun this source before. Its first start is over then, also if it had
    /// no partition yet.
    pub begun: bool,
    /// The position at which each partition continues, as recorded in the store.
    pub recorded: &'a BTreeMap<String, Position>,
    /// The place at which to begin a source that was never begun, as set by the operator; `None`
    /// for the source's own default.
    pub first: Option<StartAt>,
    /// The action if records are gone that were not read.
    pub on_loss: OnLoss,
    /// True if the run ends with its sources (`--exit-at-end`): a source that has no end of its own
    /// ends where its partitions end now, if it can, and then is bounded ([`Source::is_bounded`]).
    pub to_end: bool,
}

/// The facts that a start hands to the instances of its source that read: see [`Begun::facts`].
pub type StartFacts = Arc<dyn Any + Send + Sync>;

/// A source's answer to a start, see [`Source::begin`].
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// Every partition that is there or recorded, and where it is begun; `None` for its beginning.
    pub partitions: Vec<(String, Option<Position>)>,
    /// Recorded partitions that have ended for good: their positions are removed from the store by
    /// this start. They are not among `partitions`.
    pub retired: Vec<String>,
    /// Warnings for the operator that do not prevent the start: records that were lost, say.
    pub warnings: Vec<String>,
    /// Facts for the instances of the source that open partitions: each worker builds its own.
    /// `None` if they need none.
    pub facts: Option<StartFacts>,
}

/// The place at which a source begins that was never read (`--from`). A restart always continues
/// from the store, whatever this value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartAt {
    /// With the oldest record that is there.
    Earliest,
    /// With the records that come after the start.
    Latest,
    /// With the first record of this time or a later one, in milliseconds since 1970.
    Time(i64),
}

/// The action if records are gone at the source before they were read (`--on-loss`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Refuse to go on.
    #[default]
    Refuse,
    /// Go on with the oldest record that is there, and report what was skipped.
    Earliest,
    /// Go on with the records that come after the start, and report what was skipped.
    Latest,
}

/// Reads one partition, on the worker that owns it.
pub trait Reader<T>: Send {
    /// Appends records to `into`, at most up to its limits ([`Records::is_full`]), and says what to
    /// expect next. It may give fewer, and then say [`ReadStatus::More`]. One call should take no
    /// longer than about 200 µs.
    ///
    /// # Errors
    /// The input cannot be read, or a record cannot be decoded and the source's policy is to stop.
    /// The error names partition and position.
    ///
    /// After an error of kind SourceLost the records appended before it are committed with their
    /// batch, and the run ends after that; [`Reader::position`] must lie after exactly those
    /// records. The reader is not read again. After any other error the batch is dropped.
    fn read(&mut self, into: &mut Records<T>) -> Result<ReadStatus>;

    /// The position after the last record that was appended: what a restart would be given if the
    /// batch ended here.
    fn position(&self) -> Position;

    /// Returns the offset of [`Reader::position`]. Called some times a second, also while nothing
    /// comes: a reader whose positions are costly to make returns the offset without one.
    fn offset(&self) -> u64 {
        self.position().offset
    }

    /// Returns the known amount that is left to read, in the unit of offsets; for metrics only.
    fn lag(&self) -> Option<u64> {
        None
    }

    /// Takes the waker of this partition, once, before the first read. Returns whether the reader
    /// uses it: it then calls [`Waker::wake_by_ref`] whenever something may have come since a read
    /// returned [`ReadStatus::Idle`], from any thread, and is read before its time.
    /// [`Reader::woken`] is not called, and neither are the others but after a read: one that rests
    /// costs nothing.
    fn wake_with(&mut self, waker: Waker) -> bool {
        drop(waker);
        false
    }

    /// Returns whether something has come since the last read returned [`ReadStatus::Idle`]: the
    /// reader is then read before its time. A reader that returns true also unparks the thread that
    /// last called [`Reader::read`]. Called at each turn of the worker: a source of many partitions
    /// uses [`Reader::wake_with`].
    fn woken(&self) -> bool {
        false
    }

    /// Returns the reason why nothing comes, if there is a fault that passes without help, such as
    /// an unreachable broker.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Returns the number of records that were skipped by policy since the last call; for metrics
    /// and the log.
    fn take_skipped(&mut self) -> u64 {
        0
    }
}

/// The prospect of the next [`Reader::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStatus {
    /// There may be more right now.
    More,
    /// Nothing for now: ask again after this long.
    Idle(Duration),
    /// The partition is exhausted for good.
    End,
    /// The partition is exhausted for good, and nothing will be read of it at any later start: its
    /// position is removed from the store once everything read from it is committed.
    Retired,
}

/// A shared source is a source.
impl<S: Source> Source for Arc<S> {
    type Item = S::Item;

    fn kind(&self) -> String {
        (**self).kind()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        (**self).partitions()
    }

    fn discover_every(&self) -> Option<Duration> {
        (**self).discover_every()
    }

    fn discover(
        &self,
        known: &BTreeMap<String, Option<Position>>,
    ) -> Result<Vec<(String, Option<Position>)>> {
        (**self).discover(known)
    }

    fn begin(&self, start: &Start<'_>) -> Result<Begun> {
        (**self).begin(start)
    }

    fn is_bounded(&self) -> bool {
        (**self).is_bounded()
    }

    fn adopt(&self, facts: &StartFacts) {
        (**self).adopt(facts);
    }

    fn left_out(&self) -> Vec<(String, String)> {
        (**self).left_out()
    }

    fn notices(&self) -> Vec<String> {
        (**self).notices()
    }

    fn committed(&self, positions: &[(String, Position)]) {
        (**self).committed(positions);
    }

    fn dead_letters(&self) -> Option<DeadLetterSink> {
        (**self).dead_letters()
    }

    fn open(
        &self,
        partition: &str,
        from: Option<&Position>,
    ) -> Result<Box<dyn Reader<Self::Item>>> {
        (**self).open(partition, from)
    }
}
