//! Requests that wait until something is committed, in the order in which they are due.
//!
//! A commit wakes one of those that wait, the first: it looks which are due, and wakes those. All
//! others sleep on, and the committer has no part in it: the look happens on the thread of the one
//! that was woken, which is the port's. With W requests that wait in P partitions, a commit costs P
//! looks instead of W wake-ups.

use crate::request::ask::AtLeast;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;
use tidemill_state::Txid;
use tokio::sync::oneshot;

/// The requests that wait.
#[derive(Default)]
pub(crate) struct Waits {
    table: Mutex<Table>,
    /// Whoever has it looks after a commit which are due.
    lead: tokio::sync::Mutex<()>,
}

/// In the order in which they are due: by what they wait for, and a number of their own.
type InOrder<K> = BTreeMap<(K, u64), oneshot::Sender<()>>;

#[derive(Default)]
struct Table {
    next: u64,
    by_txid: InOrder<Txid>,
    /// By source and partition. A request waits for the record at an offset.
    by_offset: HashMap<String, HashMap<String, InOrder<u64>>>,
}

/// The place of a request in the table.
enum Place {
    Txid(Txid),
    Offset { source: String, partition: String, offset: u64 },
}

/// One request that waits. It is forgotten when this is dropped.
pub(crate) struct Wait<'w> {
    waits: &'w Waits,
    place: Place,
    number: u64,
    due: oneshot::Receiver<()>,
}

/// The right and the duty to look after each commit which requests are due.
pub(crate) struct Lead<'w>(
    #[expect(dead_code, reason = "dropped, it is the next one's")] tokio::sync::MutexGuard<'w, ()>,
);

impl Waits {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of this lock panics")
    }

    /// Begins to wait. What was committed before may be overlooked: look once more afterwards.
    pub(crate) fn begin(&self, wanted: &AtLeast<'_>) -> Wait<'_> {
        let (tell, due) = oneshot::channel();
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        let place = match *wanted {
            AtLeast::Txid(txid) => {
                table.by_txid.insert((txid, number), tell);
                Place::Txid(txid)
            }
            AtLeast::Position { source, partition, offset } => {
                let of_source = table.by_offset.entry(source.to_string()).or_default();
                let waiting = of_source.entry(partition.to_string()).or_default();
                waiting.insert((offset, number), tell);
                Place::Offset { source: source.into(), partition: partition.into(), offset }
            }
        };
        drop(table);
        Wait { waits: self, place, number, due }
    }

    /// Wakes those that wait for no more than this: `next` returns the first offset of a partition
    /// that is not committed.
    pub(crate) fn wake_due(&self, committed: Txid, next: impl Fn(&str, &str) -> Option<u64>) {
        let mut due: Vec<oneshot::Sender<()>> = Vec::new();
        let mut table = self.lock();
        let later = table.by_txid.split_off(&(committed.next(), 0));
        due.extend(std::mem::replace(&mut table.by_txid, later).into_values());
        for (source, partitions) in &mut table.by_offset {
            for (partition, waiting) in partitions {
                let Some(next) = next(source, partition) else { continue };
                let later = waiting.split_off(&(next, 0));
                due.extend(std::mem::replace(waiting, later).into_values());
            }
        }
        drop(table);
        for tell in due {
            // It may have given up meanwhile.
            let _ = tell.send(());
        }
    }
}

impl<'w> Wait<'w> {
    /// Returns whether it is due.
    pub(crate) fn is_due(&mut self) -> bool {
        self.due.try_recv().is_ok()
    }

    /// Waits until it is due (`None`), or the lead has come to it.
    pub(crate) async fn due_or_leads(&mut self) -> Option<Lead<'w>> {
        let mut lead = pin!(self.waits.lead.lock());
        poll_fn(|context| match Pin::new(&mut self.due).poll(context) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => lead.as_mut().poll(context).map(|guard| Some(Lead(guard))),
        })
        .await
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut table = self.waits.lock();
        match &self.place {
            Place::Txid(txid) => drop(table.by_txid.remove(&(*txid, self.number))),
            Place::Offset { source, partition, offset } => {
                let Some(partitions) = table.by_offset.get_mut(source) else { return };
                let Some(waiting) = partitions.get_mut(partition) else { return };
                waiting.remove(&(*offset, self.number));
                // Names of partitions come from requests: none may stay.
                if waiting.is_empty() {
                    partitions.remove(partition);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;
    use std::task::{Context, Wake, Waker};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn those_that_are_due_are_woken_and_no_others() {
        let waits = Waits::default();
        let at = |offset| AtLeast::Position { source: "s", partition: "p", offset };
        let wanted = [AtLeast::Txid(Txid(3)), AtLeast::Txid(Txid(4)), at(7), at(8), at(8)];
        let mut all: Vec<Wait<'_>> = wanted.iter().map(|wanted| waits.begin(wanted)).collect();
        let mut due = |committed, next: Option<u64>| {
            waits.wake_due(Txid(committed), |source, partition| {
                assert_eq!((source, partition), ("s", "p"));
                next
            });
            all.iter_mut().map(Wait::is_due).collect::<Vec<_>>()
        };
        assert_eq!(due(2, None), [false; 5]);
        assert_eq!(due(3, Some(7)), [true, false, false, false, false]);
        assert_eq!(due(3, Some(8)), [false, false, true, false, false]);
        assert_eq!(due(9, Some(9)), [false, true, false, true, true]);
        drop(all);
        let table = waits.lock();
        assert!(table.by_txid.is_empty() && table.by_offset["s"].is_empty());
    }

    #[test]
    fn one_leads_and_the_next_one_when_it_goes() {
        let waits = Waits::default();
        let wakes: Vec<Arc<Wakes>> = (0..3).map(|_| Arc::default()).collect();
        let mut all: Vec<Wait<'_>> = (0..3).map(|_| waits.begin(&AtLeast::Txid(Txid(9)))).collect();
        let mut all: Vec<_> = all.iter_mut().map(|wait| Box::pin(wait.due_or_leads())).collect();
        let mut poll = |at: usize| {
            let waker = Waker::from(Arc::clone(&wakes[at]));
            all[at].as_mut().poll(&mut Context::from_waker(&waker))
        };
        let Poll::Ready(Some(lead)) = poll(0) else { panic!("the first one leads") };
        assert!(poll(1).is_pending() && poll(2).is_pending());
        waits.wake_due(Txid(8), |_, _| None);
        let woken = || wakes.iter().map(|wakes| wakes.0.load(SeqCst)).collect::<Vec<_>>();
        assert_eq!(woken(), [0, 0, 0], "a commit that is not theirs wakes none of them");
        drop(lead);
        assert_eq!(woken(), [0, 1, 0]);
        let Poll::Ready(Some(lead)) = poll(1) else { panic!("the second one leads") };
        waits.wake_due(Txid(9), |_, _| None);
        assert_eq!(woken(), [1, 2, 1], "all three are due");
        assert!(matches!(poll(2), Poll::Ready(None)));
        drop(lead);
    }
}
