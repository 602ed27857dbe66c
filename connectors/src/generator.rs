//! Records computed from a seed: for tests, benchmarks and first steps, without any input.

use rand::SeedableRng;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_engine::source::{Data, ReadStatus, Reader, Records, Source};
use tidemill_state::{Error, Position, Result};

/// The random numbers that a [`Generator`]'s closure is given: the same for the same seed on every
/// machine and in every release.
pub type GeneratorRng = rand::rngs::Xoshiro256PlusPlus;

/// Records that are a pure function of a seed and their number, so that any of them can be made
/// again.
///
/// The closure gets random numbers seeded by (seed, number) and the record's number, from 0, over
/// all partitions: with `n` partitions, partition `p` gives the numbers `p`, `p + n`, `p + 2n`, …
/// It must use nothing else, no clock and no state: then a restart gives the same records again,
/// and the records are the same for every number of partitions.
///
/// Offsets count a partition's records. For the limits of a batch a record counts as its size in
/// memory without what it points to.
///
/// ```
/// use rand::RngExt;
/// use tidemill_connectors::Generator;
///
/// let rolls = Generator::new(7, |rng, number| (number, rng.random_range(1..=6u32))).partitions(2).records(1_000);
/// ```
pub struct Generator<F> {
    make: Arc<F>,
    seed: u64,
    partitions: u64,
    records: Option<u64>,
    rate: Option<f64>,
}

impl<F> Generator<F> {
    /// Endless records from one partition, as fast as they are taken.
    pub fn new<T>(seed: u64, make: F) -> Generator<F>
    where
        F: Fn(&mut GeneratorRng, u64) -> T + Send + Sync + 'static,
        T: Data,
    {
        Generator { make: Arc::new(make), seed, partitions: 1, records: None, rate: None }
    }

    /// The number of partitions, named `0`, `1`, …; they share the records. It cannot change over a
    /// recorded position.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Generator<F> {
        self.partitions = u64::from(partitions);
        self
    }

    /// Sets the number of records in all partitions together. After them the source is exhausted.
    #[must_use]
    pub fn records(mut self, records: u64) -> Generator<F> {
        self.records = Some(records);
        self
    }

    /// At most so many records a second in all partitions together, counted from the first read
    /// after a start. A topology that falls behind catches up afterwards as fast as it can.
    #[must_use]
    pub fn rate(mut self, records_per_second: f64) -> Generator<F> {
        self.rate = Some(records_per_second);
        self
    }

    /// Returns the number of records partition `index` gives in all.
    fn share(&self, index: u64) -> u64 {
        match self.records {
            Some(records) => {
                records / self.partitions + u64::from(index < records % self.partitions)
            }
            None => u64::MAX,
        }
    }
}

impl<T, F> Source for Generator<F>
where
    F: Fn(&mut GeneratorRng, u64) -> T + Send + Sync + 'static,
    T: Data,
{
    type Item = T;

    fn kind(&self) -> String {
        "generator".into()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        if self.partitions == 0 {
            return Err(Error::config("the generator has 0 partitions; give it at least 1"));
        }
        if let Some(rate) = self.rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return Err(Error::config(format!(
                "the generator's rate is {rate} records a second; give it a number above 0"
            )));
        }
        Ok((0..self.partitions).map(|index| index.to_string()).collect())
    }

    fn is_bounded(&self) -> bool {
        self.records.is_some()
    }

    fn open(&self, partition: &str, from: Option<&Position>) -> Result<Box<dyn Reader<T>>> {
        let index = match partition.parse::<u64>() {
            Ok(index) if index < self.partitions => index,
            _ => {
                return Err(Error::source_lost(format!(
                    "the generator has no partition {partition}, but only 0 to {}; give it as \
                     many as before, or begin anew with --start-over",
                    self.partitions.saturating_sub(1)
                )));
            }
        };
        let reader = GeneratorReader {
            make: Arc::clone(&self.make),
            index,
            identity: Identity { seed: self.seed, partitions: self.partitions },
            next: from.map_or(0, |from| from.offset),
            end: self.share(index),
            pace: self.rate.map(|rate| Pace {
                seconds_per_record: self.partitions as f64 / rate,
                since: None,
            }),
        };
        if let Some(from) = from {
            reader.check(from)?;
        }
        Ok(Box::new(reader))
    }
}

/// The values that the records of a position depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    seed: u64,
    partitions: u64,
}

impl Identity {
    const FORMAT: u8 = 1;

    fn witness(self) -> Vec<u8> {
        let mut witness = vec![Identity::FORMAT];
        witness.extend_from_slice(&self.seed.to_le_bytes());
        witness.extend_from_slice(&self.partitions.to_le_bytes());
        witness
    }

    fn read(witness: &[u8]) -> Option<Identity> {
        match (witness.first()?, witness[1..].as_chunks::<8>()) {
            (&Identity::FORMAT, (&[seed, partitions], [])) => Some(Identity {
                seed: u64::from_le_bytes(seed),
                partitions: u64::from_le_bytes(partitions),
            }),
            _ => None,
        }
    }
}

struct GeneratorReader<F> {
    make: Arc<F>,
    index: u64,
    identity: Identity,
    next: u64,
    end: u64,
    pace: Option<Pace>,
}

impl<F> GeneratorReader<F> {
    fn check(&self, from: &Position) -> Result<()> {
        let Identity { seed, partitions } = self.identity;
        let lost = |what: String| {
            Err(Error::source_lost(format!(
                "the generator's partition {}, at record {}: {what}; set it as before, or begin \
                 anew with --start-over",
                self.index, from.offset
            )))
        };
        match Identity::read(&from.witness) {
            None => lost(
                "the recorded position was not written by this version of the generator".into(),
            ),
            Some(before) if before.seed != seed => {
                lost(format!("the seed is {seed} and was {}", before.seed))
            }
            Some(before) if before.partitions != partitions => {
                lost(format!("it has {partitions} partitions and had {}", before.partitions))
            }
            Some(_) if from.offset > self.end => {
                lost(format!("it ends at record {} now", self.end))
            }
            Some(_) => Ok(()),
        }
    }
}

impl<T, F> Reader<T> for GeneratorReader<F>
where
    F: Fn(&mut GeneratorRng, u64) -> T + Send + Sync + 'static,
    T: Data,
{
    fn read(&mut self, into: &mut Records<T>) -> Result<ReadStatus> {
        /// Bounds one call's time, when the closure is not slow.
        const MOST_RECORDS: u64 = 1_024;
        if self.next >= self.end {
            return Ok(ReadStatus::End);
        }
        let due = match &mut self.pace {
            Some(pace) => match pace.due() {
                Ok(due) => due,
                Err(wait) => return Ok(ReadStatus::Idle(wait)),
            },
            None => MOST_RECORDS,
        };
        let mut given = 0;
        while given < due.min(MOST_RECORDS) && self.next < self.end && !into.is_full() {
            let number = self.next * self.identity.partitions + self.index;
            let mut rng = GeneratorRng::seed_from_u64(spread(self.identity.seed) ^ number);
            into.push(self.next, size_of::<T>().max(1), (self.make)(&mut rng, number));
            self.next += 1;
            given += 1;
        }
        if let Some(pace) = &mut self.pace {
            pace.gave(given);
        }
        Ok(if self.next >= self.end { ReadStatus::End } else { ReadStatus::More })
    }

    fn position(&self) -> Position {
        Position { offset: self.next, witness: self.identity.witness() }
    }

    fn lag(&self) -> Option<u64> {
        (self.end < u64::MAX).then(|| self.end - self.next)
    }
}

/// Moves neighbouring seeds far apart, so that seed 1 is not seed 0 with its records swapped (a
/// round of splitmix64).
fn spread(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Records come together that are due within this many seconds.
const GROUP: f64 = 0.001;

/// One partition's share of the rate.
struct Pace {
    seconds_per_record: f64,
    /// When the first record was asked for, and how many were given since.
    since: Option<(Instant, u64)>,
}

impl Pace {
    /// Returns the number of records that are due now, at least one; or how long until the next one
    /// is.
    fn due(&mut self) -> Result<u64, Duration> {
        let (start, given) = *self.since.get_or_insert_with(|| (Instant::now(), 0));
        let elapsed = start.elapsed().as_secs_f64();
        // In groups: records that are due one by one would keep a worker at it all the time.
        let group = (elapsed / GROUP).floor() * GROUP;
        // The first record is due at once. A float holds every count that a run of years can reach.
        let due = (group / self.seconds_per_record) as u64 + 1;
        if due > given {
            return Ok(due - given);
        }
        let wait = (given as f64 * self.seconds_per_record).max(group + GROUP) - elapsed;
        Err(Duration::from_secs_f64(wait.clamp(0.0, 60.0)))
    }

    fn gave(&mut self, records: u64) {
        if let Some((_, given)) = &mut self.since {
            *given += records;
        }
    }
}
