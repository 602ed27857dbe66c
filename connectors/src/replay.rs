//! Records of another source at the pace of their own times, once or over and over: for
//! demonstrations, and for loads that look like life.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tidemill_engine::source::{ReadStatus, Reader, Records, Source};
use tidemill_state::{Error, Position, Result, keys};

/// A source whose records are given as long after one another as they happened, or a factor faster.
/// Made by [`Replay::of`].
///
/// The source is loaded into memory once, until it is exhausted. Its partitions come one after the
/// other, as one partition `0`. Each record comes with the number of its round, from 0. A record
/// that happened before the one before it comes at once. Offsets count records, over all rounds.
///
/// A restart continues with the next record at once, and keeps the pace from there. A restart on a
/// source that has other records now is refused (kind SourceLost).
///
/// ```
/// use std::time::Duration;
/// use tidemill_connectors::{Generator, Replay};
///
/// // 100 records, one a second, as if a minute took a second.
/// let clicks = Generator::new(7, |_, number| (number * 1_000, "click".to_string())).records(100);
/// let clicks = Replay::of(clicks, |(time_ms, _)| *time_ms).speed(60.0).endless(Duration::from_secs(100));
/// ```
pub struct Replay<S: Source> {
    source: S,
    time_ms: Box<TimeOf<S::Item>>,
    speed: f64,
    /// The time a round is, if there is another after it.
    period: Option<Duration>,
    loaded: OnceLock<Arc<Loaded<S::Item>>>,
}

impl<S: Source> Replay<S> {
    /// One round, as fast as it happened. `time_ms` says when a record happened, in milliseconds of
    /// any clock.
    pub fn of(source: S, time_ms: impl Fn(&S::Item) -> u64 + Send + Sync + 'static) -> Replay<S> {
        Replay {
            source,
            time_ms: Box::new(time_ms),
            speed: 1.0,
            period: None,
            loaded: OnceLock::new(),
        }
    }

    /// Sets the number of times faster it goes than it happened.
    #[must_use]
    pub fn speed(mut self, factor: f64) -> Replay<S> {
        self.speed = factor;
        self
    }

    /// Begins again, without end: each round this long after the one before, in the records' own
    /// time.
    #[must_use]
    pub fn endless(mut self, period: Duration) -> Replay<S> {
        self.period = Some(period);
        self
    }

    /// Reads the source to its end, once.
    fn load(&self) -> Result<Arc<Loaded<S::Item>>> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(Arc::clone(loaded));
        }
        let (mut items, mut ends) = (Vec::new(), Vec::new());
        for partition in self.source.partitions()? {
            let mut reader = self.source.open(&partition, None)?;
            loop {
                let mut records = Records::with_limits(4_096, 1 << 20);
                let status = reader.read(&mut records)?;
                items.extend(records.iter().map(|(_, record)| record.clone()));
                match status {
                    ReadStatus::End => break,
                    ReadStatus::Idle(_) if records.is_empty() => {
                        return Err(Error::config(format!(
                            "a replay reads its source to the end, and {partition} has none: \
                             replay files that are not followed"
                        )));
                    }
                    _ => {}
                }
            }
            let Position { offset, witness } = reader.position();
            ends.extend(offset.to_le_bytes());
            ends.extend(witness);
        }
        if items.is_empty() {
            return Err(Error::config("a replay has no records: give it a source that has some"));
        }
        let first = (self.time_ms)(&items[0]);
        let mut due = Vec::with_capacity(items.len());
        for item in &items {
            let since_first = Duration::from_millis((self.time_ms)(item).saturating_sub(first));
            due.push(due.last().map_or(since_first, |before| since_first.max(*before)));
        }
        let witness = keys::hash_key(&ends);
        Ok(Arc::clone(self.loaded.get_or_init(|| Arc::new(Loaded { items, due, witness }))))
    }
}

/// Says when a record happened, in milliseconds.
type TimeOf<T> = dyn Fn(&T) -> u64 + Send + Sync;

/// The records of a source.
struct Loaded<T> {
    items: Vec<T>,
    /// The time from the first record to each one; never less than that of the one before.
    due: Vec<Duration>,
    /// Of what was read.
    witness: u64,
}

impl<S: Source> Source for Replay<S>
where
    S::Item: Clone + Sync,
{
    type Item = (u64, S::Item);

    fn kind(&self) -> String {
        format!("replay of {}", self.source.kind())
    }

    fn partitions(&self) -> Result<Vec<String>> {
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err(Error::config(format!(
                "the replay's speed is {}: give it a number above 0",
                self.speed
            )));
        }
        self.source.partitions()?;
        Ok(vec!["0".into()])
    }

    fn is_bounded(&self) -> bool {
        self.period.is_none()
    }

    fn open(
        &self,
        partition: &str,
        from: Option<&Position>,
    ) -> Result<Box<dyn Reader<Self::Item>>> {
        if partition != "0" {
            return Err(Error::source_lost(format!(
                "a replay has one partition, 0, and not {partition}"
            )));
        }
        let loaded = self.load()?;
        let next = from.map_or(0, |from| from.offset);
        let end = if self.period.is_some() { u64::MAX } else { loaded.items.len() as u64 };
        if from.is_some_and(|from| from.witness != loaded.witness.to_le_bytes()) || next > end {
            return Err(Error::source_lost(format!(
                "the replay at record {next}: its source has other records now; give it those \
                 that it had, or begin anew with --start-over"
            )));
        }
        Ok(Box::new(ReplayReader {
            loaded,
            next,
            end,
            speed: self.speed,
            period: self.period.unwrap_or_default(),
            since: None,
        }))
    }
}

struct ReplayReader<T> {
    loaded: Arc<Loaded<T>>,
    next: u64,
    end: u64,
    speed: f64,
    period: Duration,
    /// When the first record was read, and when it was due.
    since: Option<(Instant, Duration)>,
}

impl<T> ReplayReader<T> {
    /// The round of a record, and its place in it.
    fn place(&self, number: u64) -> (u64, usize) {
        let records = self.loaded.items.len() as u64;
        (
            number / records,
            usize::try_from(number % records).expect("an index of what is in memory"),
        )
    }

    /// When a record is due, in its own time since the first one of round 0.
    fn due(&self, number: u64) -> Duration {
        let (round, index) = self.place(number);
        self.loaded.due[index] + Duration::from_secs_f64(self.period.as_secs_f64() * round as f64)
    }
}

/// Records that are due within this long come together: one by one they would keep a worker at it
/// all the time.
const GROUP: Duration = Duration::from_millis(5);

impl<T: Clone + Send + Sync> Reader<(u64, T)> for ReplayReader<T> {
    fn read(&mut self, into: &mut Records<(u64, T)>) -> Result<ReadStatus> {
        if self.next >= self.end {
            return Ok(ReadStatus::End);
        }
        let (start, first_due) = match self.since {
            Some(since) => since,
            None => *self.since.insert((Instant::now(), self.due(self.next))),
        };
        let now = first_due + start.elapsed().mul_f64(self.speed);
        while self.next < self.end && self.due(self.next) <= now && !into.is_full() {
            let (round, index) = self.place(self.next);
            into.push(self.next, size_of::<T>().max(1), (round, self.loaded.items[index].clone()));
            self.next += 1;
        }
        if self.next >= self.end {
            return Ok(ReadStatus::End);
        }
        let wait = self.due(self.next).saturating_sub(now).div_f64(self.speed);
        Ok(if wait.is_zero() {
            ReadStatus::More
        } else {
            ReadStatus::Idle(wait.clamp(GROUP, Duration::from_secs(1)))
        })
    }

    fn position(&self) -> Position {
        Position { offset: self.next, witness: self.loaded.witness.to_le_bytes().to_vec() }
    }

    fn lag(&self) -> Option<u64> {
        (self.end < u64::MAX).then(|| self.end - self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;

    fn numbers(records: u64) -> Generator<impl Fn(&mut crate::GeneratorRng, u64) -> u64> {
        Generator::new(1, |_, number| number * 100).records(records)
    }

    #[test]
    fn it_keeps_the_contract_of_a_source() {
        let expected = (0..300).map(|number| (0, number * 100)).collect();
        tidemill_engine::conformance::source(
            || Replay::of(numbers(300), |time| *time).speed(1e9),
            &[("0", expected)],
        );
        let changed = std::sync::atomic::AtomicBool::new(false);
        let make = || {
            let records = if changed.load(std::sync::atomic::Ordering::SeqCst) { 200 } else { 300 };
            Replay::of(numbers(records), |time| *time).speed(1e9)
        };
        tidemill_engine::conformance::damaged_source(make, "0", 10, || {
            changed.store(true, std::sync::atomic::Ordering::SeqCst)
        });
    }

    #[test]
    fn records_come_at_their_pace_and_round_after_round() {
        // Ten records a second apart, as if a second took two milliseconds: 20 ms a round.
        let source = || {
            let spaced = Generator::new(1, |_, number| number * 1_000).records(10);
            Replay::of(spaced, |time| *time).speed(500.0).endless(Duration::from_secs(10))
        };
        let mut reader = source().open("0", None).expect("it opens");
        let (began, mut given) = (Instant::now(), Vec::new());
        while given.len() < 35 {
            let mut records = Records::with_limits(100, 1 << 20);
            let status = reader.read(&mut records).expect("it can be read");
            given.extend(records.iter().map(|(offset, record)| (offset, *record)));
            let ReadStatus::Idle(wait) = status else { continue };
            std::thread::sleep(wait);
        }
        assert!(
            began.elapsed() >= Duration::from_millis(68),
            "the 35th is due after 34 seconds of its own time: {:?}",
            began.elapsed()
        );
        for (number, (offset, record)) in given.iter().enumerate() {
            let number = number as u64;
            assert_eq!((*offset, *record), (number, (number / 10, number % 10 * 1_000)));
        }
        let again = source().open("0", Some(&reader.position())).expect("it goes on");
        assert_eq!(again.position(), reader.position());
    }

    #[test]
    fn what_cannot_be_replayed_is_refused() {
        let error = |replay: Replay<Generator<_>>| {
            replay
                .partitions()
                .and_then(|_| replay.open("0", None).map(|_| ()))
                .expect_err("refused")
        };
        let none = Replay::of(numbers(0), |time: &u64| *time);
        assert!(error(none).to_string().contains("no records"));
        for speed in [0.0, -1.0, f64::NAN] {
            assert!(
                error(Replay::of(numbers(1), |time: &u64| *time).speed(speed))
                    .to_string()
                    .contains("above 0")
            );
        }
    }
}
