//! The search for the records to blame when a batch fails as a whole: in a combiner, a reducer, an
//! update of a state, where no one record is at hand.
//!
//! The batch's source records are halved and each half is tried: a generation that reads exactly
//! those, from the last committed batch on, and never commits. What fails is halved again, until
//! single records are left (as in delta debugging; Zeller and Hildebrandt, 2002, but each half must
//! fail alone to be followed). A record that fails alone may only lack one of its batch that it
//! relies on: each that is found is tried once more, among all records that are not.

use crate::batch::Range;
use crate::batch::chunk::Place;
use crate::batch::latch::Suspect;
use crate::clock::micros;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};
use tidemill_state::{Error, Txid};

/// The number of trials one batch is given.
pub(crate) const MOST_TRIALS: u32 = 200;

/// The time they may take in all. What comes before and after a trial does not count: waiting for a
/// source that is away, and loading the states.
const LONGEST: Duration = Duration::from_secs(30);

/// Why a search has ended without a result.
#[derive(Debug)]
pub(crate) enum GivenUp {
    /// The topology is to stop.
    Stopped,
    /// A trial has failed for another reason.
    Failed(Error),
    /// There is no single record to blame, or it would take too long to find.
    NotFound(String),
}

/// The number of trials that are left for a batch, and how much of their time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget(std::sync::Arc<Spent>);

#[derive(Debug, Default)]
struct Spent {
    trials: AtomicUsize,
    us: AtomicU64,
}

impl Budget {
    /// A trial has run for so long.
    pub(crate) fn spend(&self, took: Duration) {
        self.0.us.fetch_add(micros(took), SeqCst);
    }

    /// Takes one trial, if there is one.
    pub(crate) fn take_one(&self) -> Result<(), GivenUp> {
        if self.0.trials.fetch_add(1, SeqCst) >= MOST_TRIALS as usize
            || self.0.us.load(SeqCst) >= micros(LONGEST)
        {
            return Err(GivenUp::NotFound(format!(
                "the records to blame were not found within {MOST_TRIALS} trials or {} s",
                LONGEST.as_secs()
            )));
        }
        Ok(())
    }
}

/// Records of one batch that are left out of it, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Excluded {
    /// The batch that they are found in: the one after the last committed.
    pub(crate) of: Txid,
    /// The trials that are left for it.
    pub(crate) budget: Budget,
    /// By source and partition, then by offset.
    records: BTreeMap<(String, String), BTreeMap<u64, Suspect>>,
}

impl Excluded {
    /// None yet, of this batch.
    pub(crate) fn of(txid: Txid) -> Excluded {
        Excluded { of: txid, ..Excluded::default() }
    }

    pub(crate) fn insert(&mut self, place: Place, why: Suspect) {
        self.records.entry((place.source, place.partition)).or_default().insert(place.offset, why);
    }

    /// Those of one partition, if there are any.
    pub(crate) fn of_partition(
        &self,
        source: &str,
        partition: &str,
    ) -> Option<&BTreeMap<u64, Suspect>> {
        if self.records.is_empty() {
            None
        } else {
            self.records.get(&(source.to_string(), partition.to_string()))
        }
    }
}

/// The input of a trial, and its result so far.
pub(crate) struct Trial {
    /// Up to where each partition is read, by source and partition.
    ends: BTreeMap<(String, String), u64>,
    /// The records that are given; `None` for all.
    only: Option<BTreeMap<(String, String), BTreeSet<u64>>>,
    seen: Mutex<BTreeMap<(String, String), Vec<u64>>>,
    left: AtomicUsize,
    began: OnceLock<Instant>,
}

impl Trial {
    pub(crate) fn new(ranges: &[Range], only: Option<&[Place]>, workers: usize) -> Trial {
        let key = |source: &str, partition: &str| (source.to_string(), partition.to_string());
        let ends = ranges
            .iter()
            .map(|range| (key(&range.source_name, &range.partition), range.end.offset))
            .collect();
        let only = only.map(|places| {
            let mut by_partition: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
            for place in places {
                by_partition
                    .entry(key(&place.source, &place.partition))
                    .or_default()
                    .insert(place.offset);
            }
            by_partition
        });
        Trial {
            ends,
            only,
            seen: Mutex::default(),
            left: AtomicUsize::new(workers),
            began: OnceLock::new(),
        }
    }

    /// A worker has loaded its states, and begins.
    pub(crate) fn begin(&self) {
        self.began.get_or_init(Instant::now);
    }

    /// Returns the time it has run.
    pub(crate) fn took(&self) -> Duration {
        self.began.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Up to where a partition is read; `None` if it is not.
    pub(crate) fn end_of(&self, source: &str, partition: &str) -> Option<u64> {
        self.ends.get(&(source.to_string(), partition.to_string())).copied()
    }

    /// Notes the records that were read of a partition, and says which of them are given.
    pub(crate) fn choose(&self, source: &str, partition: &str, offsets: &[u64]) -> Vec<bool> {
        let key = (source.to_string(), partition.to_string());
        let chosen = self.only.as_ref().map(|only| only.get(&key));
        let is_chosen =
            |offset: &u64| chosen.is_none_or(|only| only.is_some_and(|only| only.contains(offset)));
        let chosen = offsets.iter().map(is_chosen).collect();
        self.seen
            .lock()
            .expect("no holder of this lock panics")
            .entry(key)
            .or_default()
            .extend(offsets);
        chosen
    }

    /// The records that were read, partition by partition, in order.
    pub(crate) fn seen(&self) -> Vec<Place> {
        let seen = self.seen.lock().expect("no holder of this lock panics");
        let places = seen.iter().flat_map(|((source, partition), offsets)| {
            let place = move |offset: &u64| Place {
                source: source.clone(),
                partition: partition.clone(),
                offset: *offset,
            };
            offsets.iter().map(place)
        });
        places.collect()
    }

    /// A worker has completed the batch.
    pub(crate) fn worker_is_through(&self) {
        self.left.fetch_sub(1, SeqCst);
    }

    /// Returns whether all workers have.
    pub(crate) fn is_through(&self) -> bool {
        self.left.load(SeqCst) == 0
    }
}

/// Finds the records to blame among `records`, which fail together for `why`: each with what is
/// said of it alone. `trial` says whether some of them fail, and why.
///
/// # Errors
/// [`GivenUp::NotFound`] if some fail together and neither half does alone, if none fails among the
/// others, or if the budget is spent; and what `trial` gives.
pub(crate) fn search(
    records: &[Place],
    why: Suspect,
    budget: &Budget,
    mut trial: impl FnMut(&[Place]) -> Result<Option<Suspect>, GivenUp>,
) -> Result<Vec<(Place, Suspect)>, GivenUp> {
    let (mut failing, mut found) = (vec![(records, why)], Vec::new());
    while let Some((some, why)) = failing.pop() {
        match some {
            [] => return Err(GivenUp::NotFound("it fails without any record".into())),
            [one] => found.push((one.clone(), why)),
            some => {
                let (first, second) = some.split_at(some.len() / 2);
                let mut alone = Vec::new();
                for half in [first, second] {
                    budget.take_one()?;
                    alone.extend(trial(half)?.map(|why| (half, why)));
                }
                if alone.is_empty() {
                    return Err(GivenUp::NotFound(format!(
                        "the {} records from {} to {} fail only together: neither half of them \
                         does alone",
                        some.len(),
                        some[0],
                        some[some.len() - 1]
                    )));
                }
                failing.extend(alone);
            }
        }
    }
    blamed(records, found, budget, trial)
}

/// Those of the records that were found which fail among all that were not. One that does not was
/// found because, alone, it lacked another: that is not its fault, and it is one of the others from
/// then on.
fn blamed(
    records: &[Place],
    mut found: Vec<(Place, Suspect)>,
    budget: &Budget,
    mut trial: impl FnMut(&[Place]) -> Result<Option<Suspect>, GivenUp>,
) -> Result<Vec<(Place, Suspect)>, GivenUp> {
    let mut fails = |left_out: &BTreeSet<Place>, but: Option<&Place>| {
        let some = records.iter().filter(|place| Some(*place) == but || !left_out.contains(*place));
        budget.take_one()?;
        trial(&some.cloned().collect::<Vec<_>>())
    };
    // All records are known to fail.
    while found.len() > 1 {
        let left_out: BTreeSet<Place> = found.iter().map(|(place, _)| place.clone()).collect();
        let mut still = Vec::new();
        for (place, _) in found {
            still.extend(fails(&left_out, Some(&place))?.map(|why| (place, why)));
        }
        found = still;
        if found.len() == left_out.len() {
            break;
        }
    }
    let left_out = found.iter().map(|(place, _)| place.clone()).collect();
    if found.is_empty() || fails(&left_out, None)?.is_some() {
        return Err(GivenUp::NotFound(
            "no record fails among the others so that they do not fail without it: it fails only \
             together"
                .into(),
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use crate::failure::search::*;

    fn places(number: u64) -> Vec<Place> {
        (0..number)
            .map(|offset| Place { source: "s".into(), partition: "p".into(), offset })
            .collect()
    }

    fn suspect() -> Suspect {
        Suspect { txid: Txid(1), operator: "o".into(), message: "m".into(), letters: None }
    }

    /// Searches `number` records of which those at `bad` fail; gives what was found, and the number
    /// of trials.
    fn check(number: u64, fails: impl Fn(&[u64]) -> bool) -> (Result<Vec<u64>, GivenUp>, usize) {
        let (budget, mut trials) = (Budget::default(), 0);
        let found = search(&places(number), suspect(), &budget, |some| {
            trials += 1;
            let offsets: Vec<u64> = some.iter().map(|place| place.offset).collect();
            Ok(fails(&offsets).then(suspect))
        });
        let sorted = found.map(|found| {
            let mut offsets: Vec<u64> = found.iter().map(|(place, _)| place.offset).collect();
            offsets.sort_unstable();
            offsets
        });
        (sorted, trials)
    }

    #[test]
    fn one_and_two_bad_records_are_found_among_ten_thousand() {
        for bad in [&[7_321][..], &[0, 9_999], &[5_000, 5_001]] {
            let (found, trials) =
                check(10_000, |some| some.iter().any(|offset| bad.contains(offset)));
            assert_eq!(found.expect("they are found"), bad);
            assert!(trials <= 59, "{trials}");
        }
        assert_eq!(check(1, |some| !some.is_empty()).0.expect("it is the only one"), [0]);
    }

    #[test]
    fn a_record_that_only_lacks_another_is_not_blamed() {
        // 700 is bad; 900 relies on 2, and fails without it.
        let (found, _) =
            check(1000, |some| some.contains(&700) || some.contains(&900) && !some.contains(&2));
        assert_eq!(found.expect("it is found"), [700]);
        // 950 relies on 900, which relies on 2: they are cleared one after the other.
        let chain = |some: &[u64]| {
            some.contains(&950) && !some.contains(&900) || some.contains(&900) && !some.contains(&2)
        };
        let (found, _) = check(1000, |some| some.contains(&700) || chain(some));
        assert_eq!(found.expect("it is found"), [700]);
        // 600 and 900 fail together, and each of them without 2.
        let both = |some: &[u64]| some.contains(&600) && some.contains(&900);
        let lacking =
            |some: &[u64]| (some.contains(&600) || some.contains(&900)) && !some.contains(&2);
        let (found, _) = check(1000, |some| both(some) || lacking(some));
        assert!(matches!(found, Err(GivenUp::NotFound(why)) if why.contains("only together")));
    }

    #[test]
    fn waiting_is_not_counted() {
        let budget = Budget::default();
        budget.spend(LONGEST / 2);
        assert!(budget.take_one().is_ok());
        budget.spend(LONGEST / 2);
        assert!(budget.take_one().is_err());
    }

    #[test]
    fn what_fails_only_together_is_not_blamed_on_one() {
        let (found, trials) = check(1000, |some| some.contains(&3) && some.contains(&900));
        assert!(matches!(found, Err(GivenUp::NotFound(why)) if why.contains("fail only together")));
        assert_eq!(trials, 2);
    }

    #[test]
    fn too_many_bad_records_are_given_up() {
        let (found, trials) = check(10_000, |_| true);
        assert!(matches!(found, Err(GivenUp::NotFound(why)) if why.contains("200 trials")));
        assert_eq!(trials, MOST_TRIALS as usize);
    }
}
