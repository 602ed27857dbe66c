//! A slice of a worker's time: no operator of the engine holds its worker for longer.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The time an operator may go on before it lets the others have their turn.
const SLICE: Duration = Duration::from_micros(150);

/// The same while requests come and go: several slices make a turn, and a request takes several
/// turns.
const SLICE_BESIDE_REQUESTS: Duration = Duration::from_micros(40);

/// The number of items that are handled between two looks at the clock.
const ITEMS_PER_LOOK: u32 = 32;

thread_local! {
    static LENGTH: Cell<Duration> = const { Cell::new(SLICE) };
    static LONGEST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// One slice, begun. Ask [`TimeSlice::is_over`] after each item.
pub(crate) struct TimeSlice {
    began: Instant,
    length: Duration,
    left: u32,
    over: bool,
}

impl TimeSlice {
    pub(crate) fn begin() -> TimeSlice {
        TimeSlice {
            began: Instant::now(),
            length: LENGTH.with(Cell::get),
            left: ITEMS_PER_LOOK,
            over: false,
        }
    }

    /// Returns whether the operator should stop here and activate itself again.
    #[inline]
    pub(crate) fn is_over(&mut self) -> bool {
        self.left -= 1;
        if self.left == 0 {
            self.left = ITEMS_PER_LOOK;
            self.look();
        }
        self.over
    }

    /// As [`TimeSlice::is_over`], for items of which one may take long: code of a query's. It looks
    /// after the first of them, and after each if that took long.
    #[inline]
    pub(crate) fn is_over_after_one(&mut self, slow: &mut Option<bool>) -> bool {
        match *slow {
            Some(false) => return self.is_over(),
            Some(true) => self.look(),
            None => {
                let took = self.began.elapsed();
                *slow = Some(took >= SLICE_BESIDE_REQUESTS / 4);
                self.over |= took >= self.length;
            }
        }
        self.over
    }

    /// Looks at the clock now: after a group of items.
    pub(crate) fn look(&mut self) {
        self.over |= self.began.elapsed() >= self.length;
    }

    /// Returns whether the slice was found to be over.
    pub(crate) fn was_over(&self) -> bool {
        self.over
    }
}

impl Drop for TimeSlice {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        LONGEST.with(|longest| longest.set(longest.get().max(took)));
    }
}

/// The longest slice of this thread since the last call.
pub(crate) fn take_longest() -> Duration {
    LONGEST.with(|longest| longest.replace(Duration::ZERO))
}

/// Returns whether requests come and go on this worker: its slices are then shorter.
pub(crate) fn beside_requests(requests: bool) {
    LENGTH.with(|length| length.set(if requests { SLICE_BESIDE_REQUESTS } else { SLICE }));
}
