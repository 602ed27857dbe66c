//! Which requests are alive: a table of numbers that every worker can look into, and only a
//! request's home changes.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A request's number: its home, its place there, and a count. Never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RequestId(u64);

/// The number of requests that can run at once on one worker: 2^16.
pub(crate) const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 16;
const COUNT_BITS: u32 = 40;

impl RequestId {
    fn new(home: usize, place: usize, count: u64) -> RequestId {
        RequestId(
            (home as u64) << (PLACE_BITS + COUNT_BITS)
                | (place as u64) << COUNT_BITS
                | count & ((1 << COUNT_BITS) - 1),
        )
    }

    /// The worker where it arrived and is answered.
    pub(crate) fn home(self) -> u64 {
        self.0 >> (PLACE_BITS + COUNT_BITS)
    }

    /// Its place on that worker.
    pub(crate) fn place(self) -> usize {
        (self.0 >> COUNT_BITS) as usize & (PLACES - 1)
    }
}

/// See the module's documentation. One for all workers and generations of a run.
pub(crate) struct LiveRequests {
    homes: Vec<Home>,
    /// The number of requests that have ended before everything of them was home: what is left of
    /// them is to be dropped.
    given_up: AtomicUsize,
}

struct Home {
    places: Box<[AtomicU64]>,
    begun: AtomicU64,
}

impl LiveRequests {
    /// A table for so many workers, each with so many requests at once.
    pub(crate) fn new(workers: usize, places: usize) -> LiveRequests {
        assert!(places <= PLACES, "a worker has at most {PLACES} places");
        let home = || Home {
            places: (0..places).map(|_| AtomicU64::new(0)).collect(),
            begun: AtomicU64::new(1),
        };
        LiveRequests {
            homes: (0..workers).map(|_| home()).collect(),
            given_up: AtomicUsize::new(0),
        }
    }

    /// Returns the number of requests that can run at once on one worker.
    pub(crate) fn places(&self) -> usize {
        self.homes.first().map_or(0, |home| home.places.len())
    }

    /// A request begins at a place of its home that is free.
    pub(crate) fn begin(&self, home: usize, place: usize) -> RequestId {
        let of_home = &self.homes[home];
        let id = RequestId::new(home, place, of_home.begun.fetch_add(1, Ordering::Relaxed));
        of_home.places[place].store(id.0, Ordering::Release);
        id
    }

    /// A request is over; `early` if not everything of it is home.
    pub(crate) fn end(&self, id: RequestId, early: bool) {
        self.homes[id.home() as usize].places[id.place()].store(0, Ordering::Release);
        if early {
            self.given_up.fetch_add(1, Ordering::Release);
        }
    }

    pub(crate) fn is_live(&self, id: RequestId) -> bool {
        self.homes[id.home() as usize].places[id.place()].load(Ordering::Acquire) == id.0
    }

    /// A number that changes when a request is given up.
    pub(crate) fn given_up(&self) -> usize {
        self.given_up.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use crate::request::live_requests::*;

    #[test]
    fn a_number_says_where_it_is_at_home_and_is_used_once() {
        let live = LiveRequests::new(3, 8);
        let first = live.begin(2, 5);
        assert_eq!((first.home(), first.place()), (2, 5));
        assert!(live.is_live(first));
        live.end(first, false);
        assert!(!live.is_live(first));
        let second = live.begin(2, 5);
        assert!(second != first && live.is_live(second) && !live.is_live(first));
        assert_eq!(live.given_up(), 0);
        live.end(second, true);
        assert_eq!(live.given_up(), 1);
    }
}
