//! What goes wrong with a broker while a subject needs it, and passes.

use super::super::broker::Broker;
use super::lane::Shown;
use std::time::{Duration, Instant};

/// What goes wrong with a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens to it.
    None,
    /// It is killed, and started again.
    Killed,
    /// It does nothing for so long; its connections stay open.
    Paused(Duration),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::None => write!(f, "broker up"),
            Fault::Killed => write!(f, "broker killed"),
            Fault::Paused(_) => write!(f, "broker paused"),
        }
    }
}

/// How long after a crash the broker is killed: see [`Broker::has_dropped_a_commit`].
const QUIET: Duration = Duration::from_millis(200);

/// A fault that has begun: it is to be ended.
#[must_use]
pub struct Begun {
    fault: Fault,
    at: Instant,
}

impl Fault {
    /// Lets it happen.
    pub fn begin(self, broker: &mut Broker) -> Begun {
        match self {
            Fault::None => {}
            Fault::Killed => {
                // What it has acknowledged has mostly got everywhere then: else it loses so much
                // that a case shows nothing time and again.
                std::thread::sleep(QUIET);
                broker.kill();
            }
            Fault::Paused(_) => broker.pause(),
        }
        Begun { fault: self, at: Instant::now() }
    }
}

impl Begun {
    /// Waits until the broker is back. Says whether it has kept what was committed to topics whose
    /// names begin so.
    pub fn end(self, broker: &mut Broker, name: &str) -> Shown {
        match self.fault {
            Fault::None => {}
            Fault::Killed => broker.restart(),
            Fault::Paused(pause) => {
                std::thread::sleep(pause.saturating_sub(self.at.elapsed()));
                broker.resume();
            }
        }
        if self.fault == Fault::Killed && broker.has_dropped_a_commit(name) {
            Shown::Nothing
        } else {
            Shown::Everything
        }
    }
}
