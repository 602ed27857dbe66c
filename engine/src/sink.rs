//! The traits that a sink implements: the destination to which committed output is published.

use crate::record::Data;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;
use tidemill_state::{Incarnation, Points, Result, Txid};

/// A destination of committed output.
///
/// One value serves all workers and generations of a run; records are encoded there
/// ([`Sink::encode`]), travel through the outbox with the batch, and are published after the commit
/// by one [`Publisher`] on a thread of its own.
///
/// # Contract
///
/// 1. *Checked at start.* [`Sink::kind`] and [`Sink::delivery`] do not change between runs.
/// 2. *Not checkable.* [`Sink::encode`] refuses what can never be published (too large a record):
///    after the commit it is too late.
/// 3. *Checked by the suite.* The bytes given to [`Publisher::prepare`] are published exactly as
///    they were encoded, in order.
/// 4. *Checked by the suite, for [`Delivery::ExactlyOnce`], for a crash between `prepare` and
///    `commit` and for one after `commit`.* [`Publisher::marker`] names the last txid whose output
///    the sink holds, after a crash at any moment: output and marker become visible together, or
///    output without its marker is removed before the next [`Publisher::prepare`], in
///    [`Publisher::take_over`] or [`Publisher::claim`].
/// 5. *Checked by the suite, for [`Delivery::ExactlyOnce`].* After a claim by a newer incarnation,
///    an older publisher's `prepare` or `commit` fails with kind [`tidemill_state::Kind::Foreign`],
///    and leaves no output.
/// 6. *Not checkable.* Clause 4 also holds for a kill inside of `commit`, between the write of the
///    output and that of the marker: the suite cannot end a process there. If no transaction covers
///    both, write the output first and the marker after it. The next run must be able to find the
///    output that has no marker, and to remove it: by the length of the file that the marker
///    records, or by the txid of each row. A marker that is written first would name output that
///    the sink lacks, and that output would be lost. Test this clause with a process of your own
///    that ends between the two writes.
/// 7. *Not checkable.* [`Publisher::take_over`] fences every earlier run before it returns, also
///    if the marker stays as it was. The engine decides by the marker that `take_over` returns. An
///    older run that commits between `take_over` and [`Publisher::claim`] would make that decision
///    wrong, and its batch would be published twice. So fence by something besides the marker: an
///    epoch of the target, a lock that the publisher holds from [`Sink::open`] on, or a record of
///    the newest incarnation that `take_over` writes and `commit` compares.
/// 8. *Not checkable.* Between `prepare` and `commit` the publisher holds no lock for which another
///    run or a reader of the output would wait, because the process may be suspended there for any
///    length of time. Take such locks inside of `commit`. A lock that another run cannot get fails
///    its [`Sink::open`] immediately, with kind TryAgain.
/// 9. *Checked by the suite, for the output.* [`Sink::open`], [`Publisher::is_settled`] and
///    [`Publisher::marker`] change no output and no marker, and fence nobody. The command `check`
///    calls no other method of a publisher: for [`Owner::only_looks`] nothing is created at the
///    target, except for a lock file.
///
/// [`tidemill_state::Kind`] has a table of the errors of sinks, and of what the engine does after
/// each.
pub trait Sink: Send + Sync + 'static {
    /// The type of the sink's records.
    type Item: Data;

    /// Returns the kind of this sink, in one short line. The kind is recorded in the store; a
    /// restart with another one is refused. Addresses do not belong in it.
    fn kind(&self) -> String;

    /// Returns the sink's guarantee.
    fn delivery(&self) -> Delivery;

    /// Appends the bytes to publish for `item` to `into`, on the worker, before the commit.
    ///
    /// # Errors
    /// The item cannot be serialized, or can never be published. The batch does not commit. Whatever
    /// its kind, the error is a failure of the record ([`crate::Topology::on_failure`]).
    fn encode(&self, item: &Self::Item, into: &mut Vec<u8>) -> Result<()>;

    /// Opens the sink, without changing anything that a reader of its output sees.
    ///
    /// # Errors
    /// Kind Config if it can never work, TryAgain if another process holds it, Unreachable if a run
    /// is to wait for it.
    fn open(&self, owner: &Owner) -> Result<Box<dyn Publisher>>;
}

/// The publisher's identity: the topology, the sink's name in the topology, and the run.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The topology's name.
    pub topology: String,
    /// The sink's name.
    pub sink: String,
    /// This run. Its counter is higher than that of every earlier run on the same store.
    pub incarnation: Incarnation,
    /// The run's crash points, for a sink whose steps are tested one by one; else of no concern.
    pub points: Arc<Points>,
}

impl Owner {
    /// Returns whether nothing is published under this identity: a start reads the marker before
    /// it decides, and so does the command `check`. Nothing outside may then be changed.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        self.incarnation.counter == u64::MAX
    }

    /// Returns whether the marker is of an earlier run on the same store. One that is not, and not
    /// of this run, is of somebody who has taken over.
    #[must_use]
    pub fn is_newer_than(&self, marker: &Marker) -> bool {
        self.incarnation.counter > marker.incarnation.counter
    }
}

/// A sink's guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// The sink keeps a marker with its output: each committed batch's output is there once.
    ExactlyOnce,
    /// No marker: after a crash, what was not confirmed is sent again.
    AtLeastOnce,
}

/// A sink's own record of the last txid it holds, and of who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The topology that wrote it.
    pub topology: String,
    /// The last txid whose output the sink holds.
    pub txid: Txid,
    /// The run that wrote it.
    pub incarnation: Incarnation,
}

impl Marker {
    /// Returns whether a run wrote it that began after this one, or beside it. A marker of an
    /// earlier run may be seen although a later one is committed, and not visible yet.
    #[must_use]
    pub fn is_newer_than(&self, run: Incarnation) -> bool {
        self.incarnation.counter > run.counter
            || (self.incarnation.counter == run.counter && self.incarnation != run)
    }
}

/// Publishes one sink's committed output, batch by batch. Lives on the sink's own thread.
pub trait Publisher: Send {
    /// Returns whether everything that was ever committed to the sink can be seen by now. Not so
    /// while a transaction is open: it may be one whose commit was acknowledged and has not got
    /// everywhere, which [`Publisher::marker`] then does not show. Changes nothing.
    ///
    /// # Errors
    /// Kind Unreachable if the sink is unreachable.
    fn is_settled(&mut self) -> Result<bool>;

    /// Returns the marker that the sink holds now, if any. Changes nothing, and fences nobody: the
    /// marker is a hint while another run may still publish. Always `None` for
    /// [`Delivery::AtLeastOnce`].
    ///
    /// # Errors
    /// The marker cannot be read: kind Sink if it is damaged, Unreachable if the sink is
    /// unreachable.
    fn marker(&mut self) -> Result<Option<Marker>>;

    /// Keeps every other publisher of this sink from committing anything more, and then reads the
    /// marker: from here on the marker is final. If this run wrote the marker, output without a
    /// marker is removed here, and [`Publisher::prepare`] may follow. Otherwise
    /// [`Publisher::claim`] comes first, and may remove that output.
    ///
    /// The fence holds when this returns, also while the marker is that of an earlier run: see
    /// clause 7 of the contract of [`Sink`].
    ///
    /// # Errors
    /// As for [`Publisher::claim`].
    fn take_over(&mut self) -> Result<Option<Marker>>;

    /// Writes the marker with this txid and this run's incarnation, after [`Publisher::take_over`].
    ///
    /// # Errors
    /// Kind Foreign if a newer incarnation owns the sink, Sink if its output does not match its
    /// marker, Unreachable if it is unreachable.
    fn claim(&mut self, txid: Txid) -> Result<()>;

    /// Begins to publish these entries, in order of their txids, all after the marker. Nothing is
    /// confirmed until the returned value is committed; dropping it leaves the marker as it was.
    /// The returned value holds no lock for which another run or a reader would wait (clause 8).
    ///
    /// # Errors
    /// As for [`Publisher::claim`].
    fn prepare<'a>(&'a mut self, entries: &[Entry]) -> Result<Box<dyn Prepared + 'a>>;

    /// Called about twice a second while there is nothing to publish, for a client that needs
    /// regular calls. The default implementation does nothing.
    fn idle(&mut self) {}
}

/// Output that was handed to the sink and is not yet confirmed. The only thing that can be
/// committed.
pub trait Prepared {
    /// Makes output and marker durable and visible. When it returns [`Outcome::Confirmed`], the
    /// entries will never be sent again.
    ///
    /// # Errors
    /// The outcome is unknown: the publisher is dropped, and its successor reads the marker.
    fn commit(self: Box<Self>) -> Result<Outcome>;
}

/// The result of a commit that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Output and marker are durable and visible.
    Confirmed,
    /// It was said to be done, in a way that cannot be trusted: the publisher is dropped, and its
    /// successor reads the marker. The text says why.
    AskMarker(&'static str),
}

/// One committed batch's output for one sink.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The batch.
    pub txid: Txid,
    /// Its records as [`Sink::encode`] wrote them; see [`Entry::records`].
    pub payload: Arc<[u8]>,
}

impl Entry {
    /// The batch's encoded records, worker by worker, each worker's in the order in which it wrote
    /// them.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        tidemill_state::outbox::records(&self.payload)
    }
}

/// A shared sink is a sink.
impl<S: Sink + ?Sized> Sink for Arc<S> {
    type Item = S::Item;

    fn kind(&self) -> String {
        (**self).kind()
    }

    fn delivery(&self) -> Delivery {
        (**self).delivery()
    }

    fn encode(&self, item: &S::Item, into: &mut Vec<u8>) -> Result<()> {
        (**self).encode(item, into)
    }

    fn open(&self, owner: &Owner) -> Result<Box<dyn Publisher>> {
        (**self).open(owner)
    }
}

/// A sink without its type: what its publisher needs.
pub(crate) trait AnySink: Send + Sync {
    fn open(&self, owner: &crate::sink::Owner) -> Result<Box<dyn crate::sink::Publisher>>;
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<S: Sink> AnySink for S {
    fn open(&self, owner: &crate::sink::Owner) -> Result<Box<dyn crate::sink::Publisher>> {
        Sink::open(self, owner)
    }

    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
