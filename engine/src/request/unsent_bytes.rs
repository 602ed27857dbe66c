//! The bytes of answers that nobody has taken yet. They are bounded over all requests: clients that
//! ask and do not read take no more memory than that.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Smaller answers are not counted: what is kept of the request and its connection is as much.
const SMALL: usize = 1 << 10;

/// The count of unsent bytes, and its bound. One for a run.
#[derive(Debug)]
pub struct UnsentBytes {
    bytes: Arc<AtomicUsize>,
    most: usize,
}

/// An answer's bytes are counted until the last copy of this is dropped: what sends them holds it
/// as long.
#[derive(Clone, Debug, Default)]
pub struct UnsentGuard {
    counted: Option<Arc<Counted>>,
}

#[derive(Debug)]
struct Counted {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Relaxed);
    }
}

/// Guards are always equal: whether bytes are counted is no part of an answer's content.
impl PartialEq for UnsentGuard {
    fn eq(&self, _: &UnsentGuard) -> bool {
        true
    }
}

impl Eq for UnsentGuard {}

impl UnsentGuard {
    /// Returns whether it counts anything: small answers are not counted.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.counted.is_some()
    }
}

impl UnsentBytes {
    /// Creates a count with this bound.
    #[must_use]
    pub fn new(most: usize) -> UnsentBytes {
        UnsentBytes { bytes: Arc::default(), most }
    }

    /// Returns the greatest number of unsent bytes.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// Counts an answer of so many bytes, if there is room. One that is larger than the bound has
    /// room while there is no other.
    #[must_use]
    pub fn keep(&self, bytes: usize) -> Option<UnsentGuard> {
        if bytes < SMALL {
            return Some(UnsentGuard::default());
        }
        let before = self.bytes.fetch_add(bytes, Relaxed);
        let counted = Counted { bytes, of: Arc::clone(&self.bytes) };
        (before == 0 || before + bytes <= self.most)
            .then(|| UnsentGuard { counted: Some(Arc::new(counted)) })
    }

    /// Counts so many bytes of a stream that has begun, and cannot be refused any more.
    #[must_use]
    pub fn count(&self, bytes: usize) -> UnsentGuard {
        if bytes < SMALL {
            return UnsentGuard::default();
        }
        self.bytes.fetch_add(bytes, Relaxed);
        let counted = Counted { bytes, of: Arc::clone(&self.bytes) };
        UnsentGuard { counted: Some(Arc::new(counted)) }
    }
}

#[cfg(test)]
mod tests {
    use crate::request::unsent_bytes::*;

    #[test]
    fn there_is_room_up_to_the_bound_and_again_when_an_answer_is_taken() {
        let unsent = UnsentBytes::new(10_000);
        let first = unsent.keep(6_000).expect("there is room");
        assert!(unsent.keep(5_000).is_none(), "there is no room for both");
        let copy = first.clone();
        drop(first);
        assert!(unsent.keep(5_000).is_none(), "a copy is still there");
        assert!(
            unsent.keep(10).is_some_and(|kept| !kept.is_counted()),
            "a small one is not counted"
        );
        drop(copy);
        let large = unsent.keep(50_000).expect("it is the only one");
        assert!(unsent.keep(5_000).is_none());
        drop(large);
        let stream = unsent.count(20_000);
        assert!(unsent.keep(5_000).is_none(), "a stream takes room, whatever there is");
        drop(stream);
        assert_eq!(unsent.bytes.load(Relaxed), 0);
    }
}
