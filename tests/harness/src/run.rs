//! How a subject is run: its workers, and its bounds.

use super::random::Random;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tidemill::{Durability, Settings};

/// How a subject is run. As JSON it makes a process of a test binary one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The number of workers.
    pub workers: usize,
    /// When a commit is on the disk.
    pub durability: Durability,
    /// The most records of a batch.
    pub batch_records: u64,
    /// The bytes of log after which it is folded.
    pub fold_bytes: u64,
    /// The most bytes of the outbox.
    pub outbox_bytes: usize,
}

impl Run {
    /// Small batches, several folds, and sinks that are waited for every few batches.
    pub fn with_workers(workers: usize) -> Run {
        Run {
            workers,
            durability: Durability::Sync,
            batch_records: 50,
            fold_bytes: 4 << 10,
            outbox_bytes: 16 << 10,
        }
    }

    /// Any of many.
    pub fn random(random: &mut Random) -> Run {
        Run {
            workers: random.one_of(&[1, 2, 4]),
            durability: random.one_of(&[Durability::Sync, Durability::Sync, Durability::Process]),
            batch_records: random.one_of(&[20, 50, 300]),
            fold_bytes: random.one_of(&[1, 4 << 10, 64 << 10]),
            outbox_bytes: random.one_of(&[1, 16 << 10, 1 << 20]),
        }
    }

    /// The same for the engine.
    pub fn settings(&self, name: &str, state: PathBuf) -> Settings {
        let mut settings = Settings {
            workers: self.workers,
            durability: self.durability,
            fold_bytes: self.fold_bytes,
            // So that there are as many folds, however slowly the machine does them.
            unfolded_bytes: Some(self.fold_bytes.max(4 << 10)),
            outbox_bytes: self.outbox_bytes,
            disk_reserve: 0,
            ..Settings::new(name, state)
        };
        settings.batches.max_records = self.batch_records;
        // Few share a write then: the points around it are reached often enough.
        settings.batches.max_in_flight = 2;
        settings
    }
}
