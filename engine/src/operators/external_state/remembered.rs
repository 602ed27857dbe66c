//! The answers of an external state that are kept for some batches, and let go of batch by batch.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use tidemill_state::Txid;

/// The number of answers that are let go of at once beside as many as the last batch brought: some
/// 200 us.
const AT_ONCE: usize = 2048;

/// Answers by key, and which keys each batch brought.
///
/// An answer that is too old is not given any more. It is let go of in steps, so that the work of a
/// batch depends on how many answers it brings, and not on how many are kept.
pub(super) struct Remembered<K, V> {
    /// For how many batches an answer is given, that of its own counted.
    batches: u64,
    answers: HashMap<K, (Option<V>, Txid)>,
    /// The keys of each batch that brought answers, the oldest first.
    brought: VecDeque<(Txid, Vec<K>)>,
    /// The number of answers the last of them brought.
    last: usize,
}

impl<K: Eq + Hash + Clone, V> Remembered<K, V> {
    pub(super) fn new(batches: u64) -> Remembered<K, V> {
        Remembered {
            batches: batches.max(1),
            answers: HashMap::new(),
            brought: VecDeque::new(),
            last: 0,
        }
    }

    /// The answer for a key that may be given in batch `txid`: `Some(None)` is that it has no
    /// value.
    pub(super) fn get(&self, key: &K, txid: Txid) -> Option<&Option<V>> {
        self.answers.get(key).filter(|(_, of)| self.is_fresh(*of, txid)).map(|(value, _)| value)
    }

    fn is_fresh(&self, of: Txid, txid: Txid) -> bool {
        of.0.saturating_add(self.batches) > txid.0
    }

    /// Keeps the answers that batch `of` asked for.
    pub(super) fn keep(&mut self, of: Txid, answers: Vec<(K, Option<V>)>) {
        self.last = answers.len();
        self.brought.push_back((of, answers.iter().map(|(key, _)| key.clone()).collect()));
        self.answers.extend(answers.into_iter().map(|(key, value)| (key, (value, of))));
    }

    /// Lets go of answers that are too old for batch `txid`, some of them. More go than come.
    pub(super) fn forget_some(&mut self, txid: Txid) {
        let mut left = AT_ONCE + self.last;
        while left > 0
            && let Some((of, keys)) = self.brought.front_mut()
            && of.0.saturating_add(self.batches) <= txid.0
        {
            let of = *of;
            let keep = keys.len().saturating_sub(left);
            left -= keys.len() - keep;
            for key in keys.drain(keep..) {
                // A later batch may have asked for it again.
                if self.answers.get(&key).is_some_and(|(_, newest)| *newest == of) {
                    self.answers.remove(&key);
                }
            }
            if keep == 0 {
                self.brought.pop_front();
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.answers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_given_for_so_many_batches_and_then_let_go_of() {
        let mut remembered = Remembered::new(3);
        remembered.keep(Txid(5), vec![("a", Some(1)), ("b", None)]);
        for (txid, there) in [(5, true), (7, true), (8, false), (u64::MAX, false)] {
            assert_eq!(remembered.get(&"a", Txid(txid)), there.then_some(&Some(1)), "{txid}");
            assert_eq!(remembered.get(&"b", Txid(txid)), there.then_some(&None), "{txid}");
        }
        assert_eq!(remembered.get(&"c", Txid(5)), None);
        remembered.forget_some(Txid(7));
        assert_eq!(remembered.len(), 2);
        // Asked for again: the newer answer stays when the older batch goes.
        remembered.keep(Txid(8), vec![("a", Some(2))]);
        remembered.forget_some(Txid(8));
        assert_eq!((remembered.len(), remembered.get(&"a", Txid(8))), (1, Some(&Some(2))));
        remembered.forget_some(Txid(11));
        assert_eq!((remembered.len(), remembered.brought.len()), (0, 0));
    }

    #[test]
    fn a_step_depends_on_what_comes_and_not_on_what_is_kept() {
        let mut remembered = Remembered::new(10);
        remembered.keep(Txid(1), (0..100_000u32).map(|key| (key, Some(key))).collect());
        remembered.keep(Txid(2), vec![(100_000, None)]);
        let mut before = remembered.len();
        let mut steps = 0;
        while before > 1 {
            remembered.forget_some(Txid(11));
            let gone = before - remembered.len();
            assert!(gone > 0 && gone <= AT_ONCE + 1, "{gone} go at once");
            assert_eq!(
                remembered.get(&99_999, Txid(11)),
                None,
                "what is too old is not given, gone or not"
            );
            before = remembered.len();
            steps += 1;
        }
        assert!(steps > 40, "they go in steps: {steps}");
        assert_eq!(remembered.get(&100_000, Txid(11)), Some(&None));
    }
}
