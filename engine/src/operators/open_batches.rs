//! The batches that an operator has input of: what the operators that act once a batch is complete
//! have in common.

use crate::batch::slice::TimeSlice;
use crate::dataflow::guard::Guard;
use std::collections::BTreeMap;
use tidemill_state::Txid;
use timely::progress::frontier::MutableAntichain;

/// The work that is left after an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Of a batch: nothing, it can go. Of an operator: nothing until more input comes.
    Done,
    /// The slice is over: the operator is to be activated again.
    More,
    /// Something else has to come first, and activates the operator.
    Waits,
}

/// Batches that have begun, in order.
pub(super) struct OpenBatches<B> {
    open: BTreeMap<Txid, B>,
}

impl<B> OpenBatches<B> {
    pub(super) fn new() -> OpenBatches<B> {
        OpenBatches { open: BTreeMap::new() }
    }

    /// Returns the batch `txid`, which `begin` makes if this is the first of it.
    pub(super) fn entry(&mut self, txid: u64, begin: impl FnOnce() -> B) -> &mut B {
        self.open.entry(Txid(txid)).or_insert_with(begin)
    }

    /// Works on the batches that are complete, one after the other and each until it is done.
    ///
    /// A batch is complete when the frontier has passed its number: nothing more comes for it then.
    /// Nothing is done once the generation has failed.
    pub(super) fn advance(
        &mut self,
        frontier: &MutableAntichain<u64>,
        guard: &Guard,
        slice: &mut TimeSlice,
        mut work: impl FnMut(Txid, &mut B, &mut TimeSlice) -> Progress,
    ) -> Progress {
        while guard.is_running()
            && let Some(mut first) = self.open.first_entry()
            && !frontier.less_equal(&first.key().0)
        {
            let txid = *first.key();
            guard.at_batch(Some(txid.0));
            match work(txid, first.get_mut(), slice) {
                Progress::Done => first.remove(),
                left => return left,
            };
        }
        Progress::Done
    }
}
