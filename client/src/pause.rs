//! The pause before a request is sent again. The pause grows with each attempt, and differs between
//! clients: those that a restart has cut off do not come back all at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const MOST: Duration = Duration::from_secs(1);

/// The pause after so many attempts (at least one), for a random number from 0 to 1.
pub(crate) fn after(attempts: u32, random: f64) -> Duration {
    let longest = FIRST.saturating_mul(1 << (attempts.saturating_sub(1)).min(16)).min(MOST);
    longest.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        for (attempts, shortest, longest) in
            [(1, 5, 10), (2, 10, 20), (4, 40, 80), (8, 500, 1000), (u32::MAX, 500, 1000)]
        {
            assert_eq!(after(attempts, 0.0), Duration::from_millis(shortest));
            assert_eq!(after(attempts, 1.0), Duration::from_millis(longest));
        }
    }
}
