//! The discovery of new partitions while a generation runs.

use crate::batch::feed::Assignment;
use crate::batch::intake::Intake;
use crate::clock::A_YEAR;
use crate::ids::{GenerationNumber, SourceIndex};
use crate::run::start::KnownPartitions;
use crate::runtime::Runtime;
use crate::source::AnySource;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tidemill_state::{Kind, Result, SourceId, Store};

/// A source whose partitions may grow in number.
pub(crate) struct PartitionDiscovery {
    pub(crate) index: SourceIndex,
    pub(crate) id: SourceId,
    pub(crate) name: String,
    pub(crate) source: Arc<dyn AnySource>,
    pub(crate) every: Duration,
    pub(crate) known: KnownPartitions,
}

/// Looks for new partitions of a generation's sources, and gives them to the workers in turn.
pub(crate) struct Discovery {
    pub(crate) sources: Vec<PartitionDiscovery>,
    /// Not held: a look that ends after the run would keep the folder in use.
    pub(crate) store: Weak<Store>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) generation: GenerationNumber,
    pub(crate) workers: usize,
    /// Its other end is dropped when the generation ends.
    pub(crate) ended: Receiver<()>,
}

impl Discovery {
    /// Looks until the generation ends, which it does not hold up: a look over a network may take
    /// long, and whoever ends the generation does not wait for it. What comes of such a late look
    /// reaches nobody.
    pub(crate) fn run(mut self) {
        let began = Instant::now();
        let mut due: Vec<Instant> =
            self.sources.iter().map(|source| began + source.every.min(A_YEAR)).collect();
        let mut failing = vec![false; self.sources.len()];
        let mut next = self.sources.iter().map(|source| source.known.len()).sum::<usize>();
        while let Some((at, when)) = due.iter().copied().enumerate().min_by_key(|(_, when)| *when) {
            let wait = when.saturating_duration_since(Instant::now());
            if !matches!(self.ended.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
                return;
            }
            for (source, partition) in self.runtime.take_retired(self.generation) {
                for growing in self.sources.iter_mut().filter(|growing| growing.name == source) {
                    growing.known.remove(&partition);
                }
            }
            match self.look(at, &mut next) {
                Ok(()) => {
                    if std::mem::take(&mut failing[at]) {
                        tracing::info!(
                            source = self.sources[at].name,
                            "new partitions can be looked for again"
                        );
                    }
                }
                Err(error) if error.kind() == Kind::SourceLost => {
                    self.intake.end_with(error);
                    return;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing[at], true) {
                        let source = &self.sources[at].name;
                        tracing::warn!(source, %error, "looking for new partitions failed; the \
                            known ones are read on");
                    }
                    self.runtime.note_error(&error);
                }
            }
            due[at] = Instant::now() + self.sources[at].every.min(A_YEAR);
        }
    }

    fn look(&mut self, at: usize, next: &mut usize) -> Result<()> {
        let PartitionDiscovery { index, id, name, source, known, .. } = &mut self.sources[at];
        self.runtime.looks.fetch_add(1, SeqCst);
        let found = source.discover(known);
        self.runtime.looks.fetch_sub(1, SeqCst);
        self.runtime.set_notices(name, source.notices());
        if found.is_ok() {
            let left_out = source.left_out();
            self.runtime
                .while_it_runs(self.generation, || true)
                .then(|| self.runtime.set_left_out(name, left_out));
        }
        let mut found = found.map_err(|error| error.while_doing(&format!("source \"{name}\"")))?;
        found.retain(|(partition, _)| !known.contains_key(partition));
        // All of them are recorded with the first commit of any: a file that was missed is looked
        // for only as long as none that came after it is known.
        let begins = found
            .iter()
            .filter_map(|(partition, from)| Some((*id, partition.clone(), from.clone()?)));
        let record = || self.store.upgrade().map(|store| store.move_on(begins)).is_some();
        if !self.runtime.while_it_runs(self.generation, record) {
            return Ok(());
        }
        for (partition, from) in found {
            tracing::info!(source = &**name, partition, "a partition joins");
            known.insert(partition.clone(), from.clone());
            let assignment = Assignment { source: *index, partition, from };
            self.runtime.inboxes.assign(self.generation, *next % self.workers, assignment);
            *next += 1;
        }
        Ok(())
    }
}
