//! Pins: readers that pin committed batches, a committer, and workers that let old values go.
//!
//! - No worker lets go of values that a pinned batch needs, unless the pin was cancelled.
//! - The floor never passes the batch that is shown as committed, and never falls.
//! - Whoever sees a batch as committed pins it, or a later one.
//! - When all pins are given back, the floor is the last commit.

use crate::interleavings::{dawdle, explore, random, thread};
use crate::request::pins::Pins;
use crate::sync;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use tidemill_state::Txid;

const WORKERS: usize = 2;

struct PinsModel {
    pins: Pins,
    committed: Arc<sync::AtomicU64>,
    /// Up to which batch each worker has let go of old values.
    released: [AtomicU64; WORKERS],
    /// The number of pins whose batch was let go of under their readers.
    lost: AtomicU64,
}

impl PinsModel {
    fn new(most_bytes: usize) -> Arc<PinsModel> {
        let committed = Arc::new(sync::AtomicU64::new(1));
        let pins = Pins::new(Arc::clone(&committed), WORKERS, most_bytes);
        Arc::new(PinsModel {
            pins,
            committed,
            released: Default::default(),
            lost: AtomicU64::new(0),
        })
    }

    fn commit(&self) {
        for txid in 2..=5 {
            self.pins.advance(Txid(txid));
            dawdle();
        }
    }

    /// Pins a batch, looks at the workers for a while, and gives it back.
    fn read(&self) {
        for _ in 0..3 {
            let shown = Txid(self.committed.load(SeqCst));
            let again = random(2) == 0 && self.pins.take_again(shown);
            let at = if again { shown } else { self.pins.take() };
            assert!(at >= shown, "batch {shown} was shown, and {at} is pinned");
            let mut lost = false;
            for _ in 0..3 {
                dawdle();
                lost |= self.released.iter().any(|released| released.load(SeqCst) > at.0);
            }
            self.lost.fetch_add(u64::from(lost), SeqCst);
            let cancelled = self.pins.cancelled();
            let lost = self.lost.load(SeqCst);
            assert!(lost <= cancelled, "{lost} pins are lost, {cancelled} cancelled, one of {at}");
            self.pins.give_back(at);
        }
    }

    /// Lets go of old values as a worker does, which keeps up to so many bytes.
    fn release(&self, worker: usize, most_bytes: u64) {
        for _ in 0..6 {
            let floor = self.pins.floor();
            let shown = Txid(self.committed.load(SeqCst));
            assert!(floor <= shown, "the floor {floor} is past the commit {shown}");
            dawdle();
            let before = self.released[worker].swap(floor.0, SeqCst);
            assert!(before <= floor.0, "the floor fell from {before} to {floor}");
            let bytes = random(most_bytes + 1);
            self.pins.keep(worker, usize::try_from(bytes).expect("small"));
            dawdle();
        }
    }
}

/// Of two workers, each keeps up to so many bytes of at most 100 in all.
fn check(bytes: u64) {
    let model = PinsModel::new(100);
    let mut threads = Vec::new();
    let mut start = |name: String, body: Box<dyn FnOnce(&PinsModel) + Send>| {
        let model = Arc::clone(&model);
        threads.push(thread(name, move || body(&model)));
    };
    start("committer".into(), Box::new(PinsModel::commit));
    for reader in 0..2 {
        start(format!("reader {reader}"), Box::new(PinsModel::read));
    }
    for worker in 0..WORKERS {
        let release = move |model: &PinsModel| model.release(worker, bytes);
        start(format!("worker {worker}"), Box::new(release));
    }
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    let committed = Txid(model.committed.load(SeqCst));
    assert_eq!(model.pins.floor(), committed, "pins were given back, and hold their batches");
    assert!(bytes > 50 || model.pins.cancelled() == 0, "there was room for all");
    assert_eq!(model.pins.take(), committed);
}

#[test]
fn no_worker_lets_go_of_what_a_pinned_batch_needs() {
    explore(|| check(50));
}

#[test]
fn a_pin_is_lost_only_if_it_was_cancelled() {
    explore(|| check(200));
}
