//! The first and the last records.

use crate::aggregates::Combiner;
use crate::record::Data;

/// The first `n` records, in order.
///
/// The order is that of the source partition, and of the batches; what comes first of two
/// partitions in one batch is not defined.
#[derive(Clone, Copy, Debug)]
pub struct FirstN(pub usize);

impl<T: Data> Combiner<T> for FirstN {
    type Value = Vec<T>;

    fn init(&self, record: &T) -> Vec<T> {
        if self.0 == 0 { Vec::new() } else { vec![record.clone()] }
    }

    fn combine(&self, into: &mut Vec<T>, other: Vec<T>) {
        let room = self.0.saturating_sub(into.len());
        into.extend(other.into_iter().take(room));
    }

    fn add(&self, into: &mut Vec<T>, record: &T) {
        if into.len() < self.0 {
            into.push(record.clone());
        }
    }

    fn zero(&self) -> Option<Vec<T>> {
        Some(Vec::new())
    }
}

/// The last `n` records, in order: see [`FirstN`].
#[derive(Clone, Copy, Debug)]
pub struct LastN(pub usize);

impl<T: Data> Combiner<T> for LastN {
    type Value = Vec<T>;

    fn init(&self, record: &T) -> Vec<T> {
        if self.0 == 0 { Vec::new() } else { vec![record.clone()] }
    }

    fn combine(&self, into: &mut Vec<T>, mut other: Vec<T>) {
        into.append(&mut other);
        into.drain(..into.len().saturating_sub(self.0));
    }

    fn zero(&self) -> Option<Vec<T>> {
        Some(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_are_kept_in_order() {
        let (first, last) = (FirstN(3), LastN(3));
        let (mut head, mut tail) = (first.init(&1), last.init(&1));
        for n in 2..6 {
            first.add(&mut head, &n);
            last.add(&mut tail, &n);
        }
        first.combine(&mut head, vec![6, 7]);
        last.combine(&mut tail, vec![6, 7]);
        assert_eq!((head, tail), (vec![1, 2, 3], vec![5, 6, 7]));
        assert_eq!((FirstN(0).init(&1), LastN(0).init(&1)), (vec![], vec![]));
    }
}
