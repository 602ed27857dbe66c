//! Trials: a batch that failed is run again, in generations that never commit, until the records to
//! blame are found.

use super::{Failed, Generations, Mode};
use crate::batch::Range;
use crate::batch::chunk::Place;
use crate::batch::latch::Suspect;
use crate::failure::search::{self, Excluded, GivenUp, Trial};
use crate::run::retry::{self, Next};
use std::sync::Arc;
use tidemill_state::Result;

/// The outcome of a search for the records to blame.
enum SearchOutcome {
    /// The records to blame are excluded: none, if the batch did not fail again.
    Blamed,
    /// The topology is to stop.
    Stopped,
    /// There is no single record to blame, or it would take too long to find: the reason.
    Nothing(String),
}

/// The outcome of a trial.
struct TrialOutcome {
    trial: Arc<Trial>,
    /// The failure, if the batch has failed again.
    failure: Option<Suspect>,
}

impl Generations {
    /// Searches a batch for the records to blame. Returns what follows, and why none were found.
    pub(super) fn searched(
        &mut self,
        facts: retry::Facts,
        suspect: &Suspect,
        ranges: &[Range],
        mode: &mut Mode,
    ) -> Result<(Next, Option<String>)> {
        match self.search(suspect, ranges, mode) {
            Ok(found) => {
                let facts = retry::Facts { stopping: self.is_stopping(), ..facts };
                let why = match found {
                    SearchOutcome::Blamed | SearchOutcome::Stopped => None,
                    SearchOutcome::Nothing(why) => Some(why),
                };
                Ok((retry::after_search(facts, why.is_none()), why))
            }
            // The batch is not there any more to be searched: losses are dealt with here too.
            Err(gone)
                if retry::Facts { perhaps_elsewhere: gone.is_perhaps_elsewhere(), ..facts }
                    .passes_over(gone.kind()) =>
            {
                self.runtime.note_error(&gone);
                Ok((Next::Alone(facts.committed.next()), None))
            }
            Err(error) => Err(error),
        }
    }

    /// Searches the batch after the last committed one for the records to blame, in trials that
    /// never commit, and excludes them.
    fn search(
        &mut self,
        suspect: &Suspect,
        ranges: &[Range],
        mode: &mut Mode,
    ) -> Result<SearchOutcome> {
        let mut excluded = Excluded::clone(&mode.excluded);
        tracing::warn!(batch = %suspect.txid, operator = suspect.operator, error = suspect.message, "a batch failed; its records are searched for what is to blame");
        let found = excluded.budget.take_one().and_then(|()| {
            let whole = self.try_records(suspect, ranges, None, &excluded)?;
            let records = whole.trial.seen();
            let Some(again) = whole.failure else {
                // Not every time, then: it is tried again as a whole, as long as there are trials
                // left.
                tracing::warn!(batch = %suspect.txid, "the batch did not fail again");
                return Ok(Vec::new());
            };
            search::search(&records, again, &excluded.budget, |some| {
                self.try_records(suspect, ranges, Some(some), &excluded).map(|tried| tried.failure)
            })
        });
        match found {
            Ok(found) => {
                for (place, suspect) in found {
                    tracing::warn!(%place, batch = %suspect.txid, operator = suspect.operator, error = suspect.message, "a record is set aside");
                    excluded.insert(place, suspect);
                }
                mode.excluded = Arc::new(excluded);
                Ok(SearchOutcome::Blamed)
            }
            Err(GivenUp::Stopped) => Ok(SearchOutcome::Stopped),
            Err(GivenUp::Failed(error)) => Err(error),
            Err(GivenUp::NotFound(why)) => Ok(SearchOutcome::Nothing(why)),
        }
    }

    /// Runs the batch once more without the excluded records: all of the others, or these.
    fn try_records(
        &mut self,
        suspect: &Suspect,
        ranges: &[Range],
        only: Option<&[Place]>,
        excluded: &Excluded,
    ) -> std::result::Result<TrialOutcome, GivenUp> {
        let trial = Arc::new(Trial::new(ranges, only, self.settings.workers));
        let mode = Mode {
            careful_until: suspect.txid,
            excluded: Arc::new(excluded.clone()),
            trial: Some(Arc::clone(&trial)),
        };
        let outcome = self.generation(None, &mode);
        excluded.budget.spend(trial.took());
        if self.is_stopping() {
            return Err(GivenUp::Stopped);
        }
        match outcome {
            Ok(()) => Ok(TrialOutcome { trial, failure: None }),
            Err(Failed { suspected: Some(suspected), .. }) => {
                Ok(TrialOutcome { trial, failure: Some(suspected.0) })
            }
            Err(Failed { error, .. }) => Err(GivenUp::Failed(error)),
        }
    }
}
