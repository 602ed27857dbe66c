//! Beliefs about a registry: when an answer that could pass is taken for its last word, and for how
//! long.
//!
//! One of several registries may be behind the others, and a proxy in front of them answers for a
//! registry that is being restarted. So the same answer must come for a while before a message is
//! given up for it, or a run ends.

use super::rest::{Access, Failure};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The time all answers must be the same before they are believed.
pub(super) const BELIEVED_AFTER: Duration = Duration::from_secs(8);

/// As [`BELIEVED_AFTER`], for a refusal by a registry that was of use before.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// The time a belief lasts. Then the registry is queried again.
const BELIEVED_FOR: Duration = Duration::from_secs(60);

/// A request to a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Request {
    /// For the schema of an id.
    Schema(u32),
    /// For the id of a sink's schema under a subject.
    Subject(String),
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Beliefs {
    /// True if the registry was ever of use to this user.
    was_of_use: Arc<AtomicBool>,
    /// Since when it refuses a request, as far as that is not believed. By request: what it answers
    /// to another one is no word about this.
    refused_since: HashMap<Request, Instant>,
    /// The refusal that is believed, and since when.
    refused: Option<(Instant, String)>,
    /// Since when the registry does not know an id, as far as that is not believed.
    doubted: HashMap<u32, Instant>,
    /// The ids that it does not know, with its answer, and since when that is believed.
    unknown: HashMap<u32, (Instant, String)>,
}

impl Beliefs {
    /// No beliefs about the registry that is reached so, but whether it was ever of use in this
    /// process: each worker has a registry value of its own, and another after a failure.
    pub(super) fn of(access: &Access) -> Beliefs {
        static OF_USE: Mutex<Option<HashMap<Access, Arc<AtomicBool>>>> = Mutex::new(None);
        let mut of_use = OF_USE.lock().expect("no holder of this lock panics");
        let was_of_use =
            Arc::clone(of_use.get_or_insert_default().entry(access.clone()).or_default());
        Beliefs { was_of_use, ..Beliefs::default() }
    }

    /// The refusal that is believed: nothing can be fetched before the settings are corrected.
    pub(super) fn refusal(&mut self, now: Instant) -> Option<&str> {
        let is_old = |(since, _): &mut (Instant, String)| {
            now.saturating_duration_since(*since) >= BELIEVED_FOR
        };
        if self.refused.take_if(is_old).is_some() {
            self.refused_since.clear();
        }
        self.refused.as_ref().map(|(_, why)| why.as_str())
    }

    /// The answer for an id of which it is believed that the registry does not know it.
    pub(super) fn unknown(&mut self, id: u32, now: Instant) -> Option<&str> {
        let is_old =
            |(since, _): &(Instant, String)| now.saturating_duration_since(*since) >= BELIEVED_FOR;
        if self.unknown.get(&id).is_some_and(is_old) {
            self.unknown.remove(&id);
        }
        self.unknown.get(&id).map(|(_, why)| why.as_str())
    }

    /// Takes the answer to a request, or why there is none. [`Failure::Never`] becomes
    /// [`Failure::Config`] once it is believed, and [`Failure::Unreachable`] before.
    pub(super) fn hear<A>(
        &mut self,
        request: &Request,
        answer: Result<A, Failure>,
        now: Instant,
    ) -> Result<A, Failure> {
        match answer {
            Err(Failure::Never { why, is_certain }) => {
                let since = *self.refused_since.entry(request.clone()).or_insert(now);
                if now.saturating_duration_since(since)
                    < doubted_for(is_certain, self.was_of_use.load(SeqCst))
                {
                    return Err(Failure::Unreachable(why));
                }
                self.refused = Some((now, why.clone()));
                Err(Failure::Config(why))
            }
            Err(Failure::Config(why)) => {
                self.refused = Some((now, why.clone()));
                Err(Failure::Config(why))
            }
            Err(Failure::Unreachable(why)) => {
                self.refused_since.remove(request);
                Err(Failure::Unreachable(why))
            }
            answer => {
                self.was_of_use.store(true, SeqCst);
                self.refused_since.remove(request);
                answer
            }
        }
    }

    /// Takes the answer that the registry does not know an id. Returns whether that is believed
    /// now.
    pub(super) fn hear_unknown(&mut self, id: u32, why: &str, now: Instant) -> bool {
        let since = *self.doubted.entry(id).or_insert(now);
        let is_believed = now.saturating_duration_since(since) >= BELIEVED_AFTER;
        if is_believed {
            self.doubted.remove(&id);
            // Messages of another kind may name any id, each once.
            self.unknown
                .retain(|_, (since, _)| now.saturating_duration_since(*since) < BELIEVED_FOR);
            self.unknown.insert(id, (now, why.to_string()));
        }
        is_believed
    }

    /// Forgets all doubts: there are no more requests.
    pub(super) fn forget_doubts(&mut self) {
        self.doubted.clear();
        self.refused_since.clear();
    }

    /// Forgets that the registry may not know an id: it knows it, or has answered otherwise, or not
    /// at all.
    pub(super) fn forget_unknown(&mut self, id: u32) {
        self.doubted.remove(&id);
    }
}

/// Returns the time a refusal is doubted.
fn doubted_for(is_certain: bool, was_of_use: bool) -> Duration {
    match (is_certain, was_of_use) {
        (_, true) => REFUSED_FOR,
        (true, false) => Duration::ZERO,
        (false, false) => BELIEVED_AFTER,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rest::Authorization;
    use super::*;

    fn never(is_certain: bool) -> Result<(), Failure> {
        Err(Failure::Never { why: "no".into(), is_certain })
    }

    #[test]
    fn an_error_that_never_passes_is_believed_after_a_doubt_that_fits_it() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        for (was_of_use, is_certain, believed_at) in
            [(false, true, 0), (false, false, 8), (true, true, 60), (true, false, 60)]
        {
            let mut beliefs =
                Beliefs { was_of_use: Arc::new(was_of_use.into()), ..Beliefs::default() };
            let believed = (0..100).find(|second| {
                matches!(
                    beliefs.hear(&Request::Schema(5), never(is_certain), at(*second)),
                    Err(Failure::Config(_))
                )
            });
            assert_eq!(believed, Some(believed_at), "{was_of_use} {is_certain}");
            assert!(beliefs.refusal(at(believed_at + 59)).is_some(), "it is believed for a minute");
            assert!(beliefs.refusal(at(believed_at + 60)).is_none(), "and asked anew");
            assert!(beliefs.refused_since.is_empty());
        }
    }

    #[test]
    fn a_registry_that_was_of_use_was_so_for_every_value_with_the_same_access() {
        let refused_at_once = |access: &Access| {
            let refused =
                Beliefs::of(access).hear(&Request::Schema(5), never(true), Instant::now());
            matches!(refused, Err(Failure::Config(_)))
        };
        let access = Access::of("http://of-use");
        let other =
            Access { authorization: Some(Authorization::Bearer("x".into())), ..access.clone() };
        assert!(refused_at_once(&access));
        Beliefs::of(&access)
            .hear(&Request::Schema(5), Ok(()), Instant::now())
            .expect("a good answer");
        assert!(!refused_at_once(&access) && refused_at_once(&other));
    }

    #[test]
    fn a_good_answer_and_silence_end_the_agreement_of_refusals() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        for between in [
            Ok(()),
            Err(Failure::Unreachable("no answer".into())),
            Err(Failure::Unknown("no such id".into())),
        ] {
            let mut beliefs = Beliefs::default();
            assert!(matches!(
                beliefs.hear(&Request::Schema(5), never(false), at(0)),
                Err(Failure::Unreachable(_))
            ));
            assert_eq!(beliefs.hear(&Request::Schema(5), between.clone(), at(7)), between);
            assert!(
                matches!(
                    beliefs.hear(&Request::Schema(5), never(false), at(9)),
                    Err(Failure::Unreachable(_))
                ),
                "{between:?}"
            );
        }
    }

    #[test]
    fn a_request_that_is_refused_again_and_again_is_believed_whatever_others_get() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        for other in [
            Ok(()),
            Err(Failure::Unreachable("500".into())),
            Err(Failure::Unknown("no such id".into())),
        ] {
            let mut beliefs = Beliefs { was_of_use: Arc::new(true.into()), ..Beliefs::default() };
            for second in 0..=60 {
                let outcome = beliefs.hear(&Request::Schema(5), never(true), at(second));
                assert_eq!(
                    matches!(outcome, Err(Failure::Config(_))),
                    second == 60,
                    "{other:?} {second}"
                );
                assert_eq!(beliefs.hear(&Request::Schema(6), other.clone(), at(second)), other);
            }
        }
    }

    #[test]
    fn an_unknown_id_is_asked_for_before_it_is_believed_and_again_after_a_while() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut beliefs = Beliefs::default();
        assert!(!beliefs.hear_unknown(5, "no", at(0)) && !beliefs.hear_unknown(5, "no", at(7)));
        assert!(!beliefs.hear_unknown(6, "no", at(8)), "each id is doubted by itself");
        assert_eq!(beliefs.unknown(5, at(8)), None);
        assert!(beliefs.hear_unknown(5, "no", at(8)));
        assert!(beliefs.unknown(5, at(67)).is_some() && beliefs.unknown(6, at(67)).is_none());
        assert_eq!(beliefs.unknown(5, at(68)), None, "a later record has it asked anew");
        assert!(!beliefs.hear_unknown(5, "no", at(68)));
        // It has come.
        beliefs.forget_unknown(5);
        assert!(!beliefs.hear_unknown(5, "no", at(100)));
        // Ids that nobody asks for again are forgotten.
        for id in 0..300_u32 {
            beliefs.hear_unknown(1_000 + id, "no", at(200 + u64::from(id)));
            beliefs.hear_unknown(1_000 + id, "no", at(208 + u64::from(id)));
        }
        assert_eq!(
            (beliefs.unknown.len(), beliefs.doubted.len()),
            (60, 2),
            "5 and 6 are asked for"
        );
    }
}
