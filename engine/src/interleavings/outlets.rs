//! From a commit to the sinks: a worker, the committer, publishers, a fold, and somebody who pauses.
//!
//! - Every sink gets all committed output, in order, before the publishers end.
//! - What the backlog counts is what is committed and not confirmed: nothing at the end.
//! - The worker continues after each change that removes the last reason to wait.
//! - A publisher that waits is woken by output and by the end.

use crate::batch::BatchLimits;
use crate::batch::backpressure::{Backpressure, Bounds};
use crate::batch::outlets::{Outlets, SinkStatus};
use crate::ids::SinkIndex;
use crate::interleavings::intake::{IntakeModel, commit_in_order, work};
use crate::interleavings::{dawdle, explore, random, thread};
use crate::sync::AtomicU64;
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tidemill_state::{SinkId, Txid};

const SINKS: usize = 2;

/// The number of batches, each with one record, one byte of changes and some output.
const BATCHES: u64 = 5;

/// From how many unfolded bytes on the sources wait, and from how many on a fold is due.
const UNFOLDED: (u64, u64) = (3, 2);

struct OutletsModel {
    counted: Arc<IntakeModel>,
    outlets: Outlets,
    pressure: Backpressure,
    committed: AtomicU64,
    /// The lock of the status (`Runtime`), under which a commit and a confirmation are shown.
    status: shuttle::sync::Mutex<()>,
    /// The store: the outbox of each sink, and the bytes that are not folded.
    outbox: [std::sync::Mutex<Vec<(Txid, usize)>>; SINKS],
    unfolded: std::sync::atomic::AtomicU64,
}

impl OutletsModel {
    fn new() -> Arc<OutletsModel> {
        let limits = BatchLimits {
            max_records: 1,
            max_bytes: 1 << 30,
            max_delay: Duration::from_secs(3600),
            max_in_flight: 2,
        };
        let sink = |id| SinkStatus { id: Some(SinkId(id)), ..SinkStatus::default() };
        let outbox_bytes = 1 + usize::try_from(random(3)).expect("small");
        let bounds = Bounds { unfolded_bytes: UNFOLDED.0, outbox_bytes };
        let model = OutletsModel {
            counted: IntakeModel::new(limits, Txid::NONE, 1),
            outlets: Outlets::new((0..).map(sink).take(SINKS).collect()),
            pressure: Backpressure::new(bounds),
            committed: AtomicU64::new(0),
            status: shuttle::sync::Mutex::new(()),
            outbox: Default::default(),
            unfolded: 0.into(),
        };
        model.pressure.set_intake(Some(Arc::clone(&model.counted.intake)));
        Arc::new(model)
    }

    /// Commits a batch, as `Committer::commit_complete` and `Runtime::committed` do.
    fn commit(&self, txid: Txid, fold: &Sender<()>) {
        let mut outputs = Vec::new();
        for (sink, outbox) in (0..).zip(&self.outbox) {
            // Some batches have no output for a sink.
            if let bytes @ 1.. = usize::try_from(random(3)).expect("small") {
                outbox.lock().expect("not poisoned").push((txid, bytes));
                outputs.push((SinkId(sink), txid, bytes));
            }
        }
        self.unfolded.fetch_add(1, SeqCst);
        let status = self.status.lock().expect("not poisoned");
        self.committed.store(txid.0, SeqCst);
        self.outlets.add(outputs);
        if self.pressure.commit(1, self.outlets.backlog_bytes()) >= UNFOLDED.1 {
            let _ = fold.send(());
        }
        drop(status);
        self.counted.commit(txid);
        self.counted.intake.committed(txid);
    }

    /// Publishes as `Publishing::run` does. Returns the batches that the sink got.
    fn publish(&self, sink: SinkIndex) -> Vec<Txid> {
        let (mut cursor, mut got) = (Txid::NONE, Vec::new());
        loop {
            let stopping = self.outlets.ends().is_some();
            let mut entries = Vec::new();
            if self.outlets.last_output(sink) > cursor {
                let committed = Txid(self.committed.load(SeqCst));
                let outbox = self.outbox[sink.0].lock().expect("not poisoned");
                entries
                    .extend(outbox.iter().filter(|(txid, _)| *txid > cursor && *txid <= committed));
            }
            if let Some((last, _)) = entries.last() {
                cursor = *last;
                let bytes = entries.iter().map(|(_, bytes)| bytes).sum();
                got.extend(entries.iter().map(|(txid, _)| *txid));
                self.outlets.confirm(sink, cursor, bytes);
                let _status = self.status.lock().expect("not poisoned");
                self.pressure.set_backlog(self.outlets.backlog_bytes());
            } else if stopping {
                return got;
            } else {
                self.outlets.wait_for_output(sink);
            }
        }
    }

    /// Folds whenever it is due, as `fold_loop` does.
    fn fold(&self, due: &Receiver<()>) {
        for () in due {
            self.unfolded.store(0, SeqCst);
            dawdle();
            self.pressure.set_unfolded(self.unfolded.load(SeqCst));
        }
    }

    /// Pauses and resumes, and finds the disk full for a while.
    fn disturb(&self) {
        self.pressure.set_paused(true);
        dawdle();
        self.pressure.set_full_disk(Some("the disk is full".into()));
        dawdle();
        self.pressure.set_paused(false);
        dawdle();
        self.pressure.set_full_disk(None);
    }
}

#[test]
fn every_sink_gets_what_is_committed_and_the_sources_go_on() {
    explore(|| {
        let model = OutletsModel::new();
        let run = |name: &str, body: Box<dyn FnOnce(&OutletsModel) + Send>| {
            let model = Arc::clone(&model);
            thread(name, move || body(&model))
        };
        let (left, of_worker) = channel();
        let (looked, news) = channel();
        let (fold, due) = channel();
        let of_committer = looked.clone();
        let mut threads = vec![
            run(
                "worker",
                Box::new(move |model| {
                    let read = work(&model.counted, 0, BATCHES, &left, &looked);
                    assert_eq!(read, BATCHES);
                }),
            ),
            run(
                "committer",
                Box::new(move |model| {
                    commit_in_order(&of_worker, 1, |txid| {
                        model.commit(txid, &fold);
                        let _ = of_committer.send(());
                    });
                }),
            ),
            run("fold", Box::new(move |model| model.fold(&due))),
            run("disturber", Box::new(OutletsModel::disturb)),
        ];
        let publish = |sink: SinkIndex| {
            run(
                &format!("publisher {}", sink.0),
                Box::new(move |model| {
                    let got = model.publish(sink);
                    let outbox = model.outbox[sink.0].lock().expect("not poisoned");
                    assert!(
                        got.iter().eq(outbox.iter().map(|(txid, _)| txid)),
                        "{sink:?}: {got:?}"
                    );
                }),
            )
        };
        let publishers: Vec<_> = (0..SINKS).map(SinkIndex).map(publish).collect();
        for () in &news {
            if model.counted.intake.all_ended_and_committed() {
                model.counted.intake.stop();
            }
        }
        threads.drain(..).for_each(|thread| thread.join().expect("it ends"));
        model.outlets.end_at(Instant::now() + Duration::from_secs(3600));
        publishers.into_iter().for_each(|thread| thread.join().expect("a publisher ends"));
        model.counted.is_at_rest(BATCHES);
        assert!(model.outlets.are_confirmed());
        assert_eq!(model.outlets.backlog_bytes(), 0, "everything is confirmed");
        assert_eq!(model.pressure.reason(), None);
    });
}
