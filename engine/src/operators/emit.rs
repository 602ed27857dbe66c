//! `Emit`: the records that a closure gives, up to a bound.
//!
//! A closure may ask for more than there is memory: `numbers.extend(0..n)`, with an `n` that
//! somebody else has chosen. An allocation that fails ends the process, and nothing can catch that.
//! So no room is made beyond the bound of a call, and to give more is a failure of what the call
//! was for.

use crate::panics::TooMuch;
use std::panic::resume_unwind;

/// The bytes of the records that one call for a request may give, not counting what they hold
/// outside themselves.
pub(crate) const OF_REQUEST: usize = 64 << 20;

/// The same, of a call for one record of a stream.
const OF_RECORD: usize = 256 << 20;

/// The same, of a call for records of a whole batch.
pub(crate) const OF_BATCH: usize = 1 << 30;

/// Takes the records that a closure gives: see [`crate::Stream::flat_map`].
///
/// # Contract
/// All that one call gives is in memory at once, and bounded: 64 MiB for a request to a query, 256
/// MiB for one record of a stream, 1 GiB for the records of a key or a worker in a batch; not
/// counting what records hold outside themselves. More is a failure of the request, the record or
/// the batch.
pub struct Emit<U> {
    records: Vec<U>,
    /// The number of records before the running call.
    before: usize,
    /// The greatest number of records that there may be: the call fails beyond it.
    most: usize,
}

impl<U> Emit<U> {
    /// For calls that are for the records of a batch, of a key or of a worker.
    pub(crate) fn of_batch() -> Emit<U> {
        let mut emit = Emit { records: Vec::new(), before: 0, most: 0 };
        emit.begin_call(OF_BATCH);
        emit
    }

    /// For calls that are each for one record; with room for `expected` records, which the engine
    /// knows from earlier calls.
    pub(crate) fn of_record(expected: usize) -> Emit<U> {
        Emit { records: Vec::with_capacity(expected), before: 0, most: 0 }
    }

    /// Lets the next call for a record give as many more as it may.
    #[inline]
    pub(crate) fn next_record(&mut self) {
        self.begin_call(OF_RECORD);
    }

    /// Lets the next call give so many bytes more.
    #[inline]
    pub(crate) fn begin_call(&mut self, bytes: usize) {
        self.before = self.records.len();
        self.most = self.before + bytes / size_of::<U>().max(1);
    }

    /// Returns the records that were given so far.
    pub(crate) fn records(&mut self) -> &mut Vec<U> {
        &mut self.records
    }

    /// Gives one record.
    #[inline]
    pub fn push(&mut self, record: U) {
        if self.records.len() >= self.most {
            self.gives_too_much();
        }
        self.records.push(record);
    }

    /// Gives each of these records.
    #[inline]
    pub fn extend(&mut self, records: impl IntoIterator<Item = U>) {
        let (records, room) = (records.into_iter(), self.most.saturating_sub(self.records.len()));
        if records.size_hint().1.is_some_and(|most| most <= room) {
            self.records.extend(records);
        } else {
            // One more than there is room for: to see that there are more. No room is made for all
            // that they say they are.
            self.records.extend(records.take(room.saturating_add(1)));
        }
        if self.records.len() > self.most {
            self.gives_too_much();
        }
    }

    /// Ends the call: its closure would go on, perhaps for ever.
    #[cold]
    fn gives_too_much(&mut self) -> ! {
        let (most, bytes) = (self.most - self.before, size_of::<U>().max(1));
        // The memory is given back at once. What earlier calls gave stays.
        self.records.truncate(self.before);
        self.records.shrink_to_fit();
        // Not a panic of the user's: nothing is printed.
        resume_unwind(Box::new(TooMuch(format!(
            "it gives more than {most} records of {bytes} bytes at once, which is more than one \
             call may: give less, or the parts of it from different records"
        ))))
    }
}

impl<U> Extend<U> for Emit<U> {
    fn extend<I: IntoIterator<Item = U>>(&mut self, records: I) {
        Emit::extend(self, records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn given(call: impl FnOnce(&mut Emit<u64>)) -> Result<usize, String> {
        let mut emit = Emit::of_record(0);
        emit.begin_call(100 * size_of::<u64>());
        emit.extend([7, 7]);
        emit.begin_call(100 * size_of::<u64>());
        match catch_unwind(AssertUnwindSafe(|| call(&mut emit))) {
            Ok(()) => Ok(emit.records().len() - 2),
            Err(ended) => {
                assert_eq!(*emit.records(), [7, 7], "what earlier calls gave stays");
                assert!(emit.records().capacity() < 100, "the memory is given back");
                Err(ended.downcast::<TooMuch>().expect("it ends so").0)
            }
        }
    }

    #[test]
    fn a_call_gives_as_much_as_it_may_and_fails_with_more() {
        assert_eq!(given(|emit| emit.extend(0..100)), Ok(100));
        assert_eq!(given(|emit| (0..100).for_each(|n| emit.push(n))), Ok(100));
        assert_eq!(given(|emit| emit.extend((0..200).filter(|n| n % 2 == 0))), Ok(100));
        type Call = fn(&mut Emit<u64>);
        let too_much: [Call; 6] = [
            |emit| emit.extend(0..101),
            |emit| emit.extend(0..u64::MAX),
            |emit| emit.extend(std::iter::repeat(1)),
            |emit| Extend::extend(emit, 0..u64::MAX),
            |emit| loop {
                emit.push(1);
            },
            |emit| {
                emit.extend(0..60);
                emit.extend((0..).filter(|n| n % 2 == 0));
            },
        ];
        for call in too_much {
            let why = given(call).expect_err("it is too much");
            assert!(why.contains("more than 100 records of 8 bytes"), "{why}");
        }
    }

    #[test]
    fn records_without_a_size_are_counted_too() {
        let mut emit = Emit::of_record(0);
        emit.begin_call(10);
        assert!(catch_unwind(AssertUnwindSafe(|| emit.extend(std::iter::repeat(())))).is_err());
    }
}
