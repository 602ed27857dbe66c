//! Reading a state from outside without a dataflow: some keys, or a page of them in order, all as
//! of one committed batch.
//!
//! A walk over several pages stays at its batch until it ends: the batch is pinned for [`LEASE`]
//! after each page, and for [`LONGEST_WALK`] in all. If the batch is held no longer, the next page
//! is of the last committed batch, and reports that the walk has moved on.

use crate::ids::StateIndex;
use crate::request::ask::{Permit, QueryError};
use crate::request::unsent_bytes::UnsentBytes;
use crate::runtime::inbox::ToWorker;
use crate::runtime::leases::{Lease, Pin};
use crate::runtime::{Runtime, unavailable};
use crate::table::codec::StateCodec;
use crate::table::page::{PageOf, PageWay, Rows};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_state::hot::Range;
use tidemill_state::{Error, Result, Txid};
use tokio::sync::oneshot;

/// The time a batch is held for the next page.
const LEASE: Duration = Duration::from_secs(10);

/// The time a batch is held for walks in all: what later batches overwrite is kept meanwhile.
const LONGEST_WALK: Duration = Duration::from_secs(60);

/// The number of batches that are held for next pages.
const LEASES: usize = 64;

/// The most rows of a page.
pub const MOST_ROWS: usize = 10_000;

/// The number of pages that are read at once: each worker has up to a page's bytes for each.
const PAGES_AT_ONCE: usize = 16;

/// The most keys that are asked for at once: a worker answers them in one go.
const MOST_KEYS: usize = 1000;

/// Which rows a page is of.
#[derive(Clone, Debug, Default)]
pub struct PageWish {
    /// Only keys that are texts and begin with this.
    pub prefix: Option<String>,
    /// Only keys after this one, written as a person writes it.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
    /// The batch of the walk's first page.
    pub at: Option<Txid>,
}

/// Rows of a state as of one committed batch.
#[derive(Clone, Debug)]
pub struct Page {
    /// The batch.
    pub txid: Txid,
    /// True if it is another than was wished: that one is no longer held.
    pub moved_on: bool,
    /// The rows in the order of their keys, as a JSON array of `{"key":…,"value":…}`.
    pub rows: String,
    /// The key of the last row as JSON, if there may be more rows behind it.
    pub next: Option<String>,
}

impl Runtime {
    fn pin(&self, wished: Option<Txid>) -> Pin<'_> {
        let pins = &self.hub.pins;
        let at = wished.filter(|at| pins.take_again(*at)).unwrap_or_else(|| pins.take());
        Pin { runtime: self, at }
    }

    /// Asks the owning worker for the value of a key, given as a person writes it, as of the last
    /// committed batch. The answer names the batch, and has the value as JSON, as [`crate::json`]
    /// describes it.
    ///
    /// # Errors
    /// Kind Config: no state of this name, or the text is no key of it. Kind TryAgain: the workers
    /// are starting, stopping or busy.
    pub async fn read_state(&self, name: &str, key: &str) -> Result<(Txid, Option<String>)> {
        let (state, codec) = self.find_state(name)?;
        let (key, group) = codec.parse_key(key, self.facts.key_groups)?;
        let (reply, answer) = oneshot::channel();
        let most_bytes = self.hub.limits.answer_bytes;
        let read = ToWorker::Read { state, keys: vec![key.clone()], at: None, most_bytes, reply };
        self.inboxes.send(group.owner(self.facts.workers), read).map_err(|_| unavailable())?;
        let (txid, values) = within(answer).await??;
        let value = values.into_iter().next().flatten();
        Ok((txid, value.map(|value| codec.value_to_json(&key, &value)).transpose()?))
    }

    /// The number and the types of a state.
    #[doc(hidden)]
    pub fn find_state(&self, name: &str) -> Result<(StateIndex, &dyn StateCodec)> {
        let mut codecs = self.facts.codecs.iter().enumerate();
        let Some((state, codec)) = codecs.find(|(_, codec)| codec.decl().name == name) else {
            let names: Vec<String> =
                self.facts.codecs.iter().map(|codec| codec.decl().name).collect();
            return Err(Error::config(format!(
                "there is no state \"{name}\"; there are: {}",
                names.join(", ")
            )));
        };
        Ok((StateIndex(state), &**codec))
    }

    /// A page of a state in the order of its keys.
    ///
    /// # Errors
    /// Kind Config: no state of this name, a key that is none of its, a prefix for keys that are no
    /// texts. Kind TryAgain: the workers are starting, stopping or busy.
    pub async fn read_page(self: &Arc<Self>, name: &str, wish: PageWish) -> Result<Page> {
        let (state, codec) = self.find_state(name)?;
        let mut range = Range::default();
        if let Some(prefix) = &wish.prefix {
            if !codec.has_text_keys() {
                return Err(Error::config(format!(
                    "the keys of state \"{name}\" are {}: only texts have a prefix",
                    codec.decl().key
                )));
            }
            range = Range::of_texts(prefix);
        }
        if let Some(after) = &wish.after {
            range.resume_after(codec.parse_key(after, self.facts.key_groups)?.0);
        }
        let pin = self.pin(wish.at);
        let limit = wish.limit.clamp(1, MOST_ROWS);
        let mut answers = Vec::new();
        for worker in 0..self.facts.workers {
            let (reply, answer) = oneshot::channel();
            let bytes = self.hub.limits.answer_bytes;
            let page = PageOf {
                state,
                range: range.clone(),
                limit,
                bytes,
                at: pin.at,
                rows: Vec::new(),
                way: PageWay::default(),
                reply,
            };
            self.inboxes.send(worker, ToWorker::Page(page)).map_err(|_| unavailable())?;
            answers.push(answer);
        }
        let (mut rows, mut more) = (BTreeMap::new(), false);
        let mut known_up_to: Option<Vec<u8>> = None;
        for answer in answers {
            let (of_worker, has_more) = within(answer).await??;
            more |= has_more;
            // Behind the last row of a worker that has more, its rows are not known.
            if has_more && let Some((last, _)) = of_worker.last() {
                known_up_to =
                    Some(known_up_to.map_or_else(|| last.clone(), |known| known.min(last.clone())));
            }
            rows.extend(of_worker);
        }
        if let Some(last) = &known_up_to {
            rows.retain(|key, _| key <= last);
        }
        more |= rows.len() > limit;
        let rows = within_bytes(rows, self.hub.limits.answer_bytes, &mut more);
        let rows = &rows[..limit.min(rows.len())];
        let next =
            rows.last().filter(|_| more).map(|(key, _)| codec.key_to_json(key)).transpose()?;
        let rows =
            rows_to_json(codec, rows.iter().map(|(key, value)| (&key[..], Some(&value[..]))))
                .await?;
        if more {
            self.lease(pin.at, wish.at != Some(pin.at));
        }
        Ok(Page {
            txid: pin.at,
            moved_on: wish.at.is_some_and(|wished| wished != pin.at),
            rows,
            next,
        })
    }

    /// Reads the values of some keys of a state, written as a person writes them, all as of one
    /// committed batch: a JSON array of `{"key":…,"value":…}`, without `value` where the key has
    /// none.
    ///
    /// # Errors
    /// As [`Runtime::read_page`].
    pub async fn read_many(&self, name: &str, wanted: &[String]) -> Result<(Txid, String)> {
        let (state, codec) = self.find_state(name)?;
        if wanted.len() > MOST_KEYS {
            return Err(Error::config(format!(
                "{} keys are asked for at once, and {MOST_KEYS} may be",
                wanted.len()
            )));
        }
        let mut by_worker: Vec<Vec<(usize, Vec<u8>)>> = vec![Vec::new(); self.facts.workers];
        let mut rows: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        for (number, key) in wanted.iter().enumerate() {
            let (encoded, group) = codec.parse_key(key, self.facts.key_groups)?;
            rows.push((encoded.clone(), None));
            by_worker[group.owner(self.facts.workers)].push((number, encoded));
        }
        let pin = self.pin(None);
        let mut answers = Vec::new();
        for (worker, wanted) in
            by_worker.into_iter().enumerate().filter(|(_, wanted)| !wanted.is_empty())
        {
            let (reply, answer) = oneshot::channel();
            let (numbers, keys): (Vec<usize>, Vec<Vec<u8>>) = wanted.into_iter().unzip();
            let read = ToWorker::Read {
                state,
                keys,
                at: Some(pin.at),
                most_bytes: self.hub.limits.answer_bytes,
                reply,
            };
            self.inboxes.send(worker, read).map_err(|_| unavailable())?;
            answers.push((numbers, answer));
        }
        for (numbers, answer) in answers {
            let (_, values) = within(answer).await??;
            for (number, value) in numbers.into_iter().zip(values) {
                rows[number].1 = value;
            }
        }
        let rows =
            rows_to_json(codec, rows.iter().map(|(key, value)| (&key[..], value.as_deref())))
                .await?;
        Ok((pin.at, rows))
    }

    /// Holds a batch for the next page. One that a walk has held for long already is not held anew
    /// for that walk.
    fn lease(self: &Arc<Self>, at: Txid, first: bool) {
        let (now, runtime) = (Instant::now(), Arc::downgrade(self));
        let mut held = self.leases.held.lock().expect("no holder of this lock panics");
        if let Some((since, until)) = held.get_mut(&at) {
            *until = (now + LEASE).min(*since + LONGEST_WALK);
            return;
        }
        if !first || held.len() >= LEASES || !self.hub.pins.take_again(at) {
            return;
        }
        held.insert(at, (now, now + LEASE));
        drop(held);
        let lease = Lease { runtime, at };
        tokio::spawn(async move {
            while let Some(until) = lease.goes_on_until() {
                tokio::time::sleep_until(until.into()).await;
            }
        });
    }

    /// Lets one more page in, if there is room.
    #[doc(hidden)]
    pub fn admit_page(&self) -> std::result::Result<(Permit, Permit), QueryError> {
        let read = self.hub.admit()?;
        let page = Permit::one_of(&self.leases.pages, PAGES_AT_ONCE);
        Ok((
            read,
            page.ok_or_else(|| QueryError::TooMany {
                bound: format!("{PAGES_AT_ONCE} pages are being read already"),
            })?,
        ))
    }

    /// Lets one more read of a state in, if there is room.
    #[doc(hidden)]
    pub fn admit_read(&self) -> std::result::Result<Permit, QueryError> {
        self.hub.admit()
    }

    /// Returns an error if no more request to this query would be let in now: before its body is
    /// read.
    #[doc(hidden)]
    pub fn check_room(&self, name: &str) -> std::result::Result<(), QueryError> {
        let room = self.hub.check_room();
        if let Err(full) = &room
            && self.hub.find(name).is_ok()
        {
            self.timings.asked(name, Duration::ZERO, &Err(full.clone()));
        }
        room
    }

    /// Returns the count of the bytes that were answered and are not sent.
    #[doc(hidden)]
    #[must_use]
    pub fn unsent_bytes(&self) -> Arc<UnsentBytes> {
        Arc::clone(&self.hub.unsent)
    }
}

/// The first of these rows, as many as have so many bytes together; at least one.
fn within_bytes(rows: BTreeMap<Vec<u8>, Vec<u8>>, most: usize, more: &mut bool) -> Rows {
    let (number, mut bytes) = (rows.len(), 0);
    let fit = rows.into_iter().take_while(|(key, value)| {
        let before = bytes;
        bytes += key.len() + value.len();
        before == 0 || bytes <= most
    });
    let rows: Rows = fit.collect();
    *more |= rows.len() < number;
    rows
}

/// The number of bytes of JSON that are written before other tasks of the thread have their turn.
const JSON_AT_ONCE: usize = 64 << 10;

/// Writes encoded keys and values as a JSON array.
async fn rows_to_json<'r>(
    codec: &dyn StateCodec,
    rows: impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>,
) -> Result<String> {
    let (mut json, mut pause_at) = (vec![b'['], JSON_AT_ONCE);
    for (number, (key, value)) in rows.enumerate() {
        if json.len() >= pause_at {
            pause_at = json.len() + JSON_AT_ONCE;
            tokio::task::yield_now().await;
        }
        if number > 0 {
            json.push(b',');
        }
        codec.write_row(key, value, &mut json)?;
    }
    json.push(b']');
    Ok(String::from_utf8(json).expect("JSON is UTF-8"))
}

/// An answer of a worker's, within the time that reads may take.
pub(crate) async fn within<T>(answer: oneshot::Receiver<T>) -> Result<T> {
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
    answer.map_err(|_| unavailable())?.map_err(|_| unavailable())
}

impl Page {
    /// Returns the page as it is answered. On the last page there is no `next`.
    #[doc(hidden)]
    pub fn to_json(&self, lineage: &str) -> String {
        let Page { txid, moved_on, rows, next } = self;
        let next = next.as_ref().map_or(String::new(), |next| format!(",\"next\":{next}"));
        format!(
            "{{\"txid\":{txid},\"lineage\":\"{lineage}\",\"moved_on\":{moved_on}{next},\"rows\":{rows}}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::aggregates::Count;
    use crate::request::ask::AtLeast;
    use crate::runtime::reads::*;
    use crate::testing::Kit;

    fn kit(set: impl FnOnce(&mut crate::Settings)) -> Kit {
        let mut kit = Kit::with(set, |topology, io| {
            topology
                .source("words", io.source::<String>("words"))
                .group_by(|word| word.clone())
                .persistent_aggregate("counts", Count);
        });
        kit.feed("words", (0..500).map(|number| format!("{number:0>40}")));
        kit.step();
        kit
    }

    fn tokio() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    }

    #[test]
    fn pages_that_are_cut_by_their_bytes_have_every_key_once() {
        let kit = kit(|settings| (settings.workers, settings.queries.answer_bytes) = (3, 1000));
        let runtime = Arc::clone(kit.engine().runtime());
        tokio().block_on(async {
            let (mut keys, mut after, mut at) = (Vec::new(), None, None);
            loop {
                let wish = PageWish { prefix: None, after: after.take(), limit: 100, at };
                let page = runtime.read_page("counts", wish).await.expect("a page");
                let rows: Vec<serde_json::Value> = serde_json::from_str(&page.rows).expect("rows");
                assert!(
                    !rows.is_empty() && rows.len() <= 20 && !page.moved_on,
                    "{} rows",
                    rows.len()
                );
                keys.extend(rows.iter().filter_map(|row| row["key"].as_str().map(String::from)));
                let Some(next) = page.next else { break };
                assert_eq!(serde_json::from_str::<String>(&next).ok().as_ref(), keys.last());
                (after, at) = (keys.last().cloned(), Some(page.txid));
            }
            assert_eq!(keys, (0..500).map(|number| format!("{number:0>40}")).collect::<Vec<_>>());
        });
    }

    #[test]
    fn a_value_that_has_no_json_is_named_by_its_key() {
        type Pairs = BTreeMap<(u8, u8), u8>;
        let mut kit = Kit::new(|topology, io| {
            topology.source("in", io.source::<(u128, Option<Pairs>)>("in")).upsert("pairs");
        });
        kit.feed(
            "in",
            [(7u128, Some(Pairs::new())), (u128::MAX, Some(Pairs::from([((1, 2), 3)])))],
        );
        kit.step();
        let runtime = Arc::clone(kit.engine().runtime());
        tokio().block_on(async {
            let key = u128::MAX.to_string();
            let page = runtime
                .read_page("pairs", PageWish { limit: 10, ..PageWish::default() })
                .await
                .map(drop);
            let one = runtime.read_state("pairs", &key).await.map(drop);
            let many = runtime.read_many("pairs", &["7".into(), key.clone()]).await.map(drop);
            for refused in [page, one, many] {
                let error = refused.expect_err("a map whose keys are no texts").to_string();
                let led = format!(
                    "state \"pairs\", the value of the key {key}: it cannot be shown as JSON"
                );
                assert!(error.starts_with(&led), "{error}");
            }
            assert!(runtime.read_state("pairs", "7").await.is_ok());
        });
    }

    #[test]
    fn a_batch_that_is_held_for_a_walk_goes_when_nobody_is_left_to_wait_for_its_end() {
        let mut kit = kit(|settings| settings.workers = 1);
        let runtime = Arc::clone(kit.engine().runtime());
        let wish = || PageWish { limit: 10, ..PageWish::default() };
        let first = tokio().block_on(runtime.read_page("counts", wish())).expect("a page").txid;
        // The runtime that held it is gone by now.
        assert!(runtime.leases.held.lock().expect("no holder of this lock panics").is_empty());
        kit.feed("words", ["more".to_string()]);
        let second = kit.step();
        let page = tokio()
            .block_on(runtime.read_page("counts", PageWish { at: Some(first), ..wish() }))
            .expect("a page");
        assert_eq!((page.txid, page.moved_on), (second, true));
    }

    #[test]
    fn requests_that_wait_for_a_batch_have_a_bound() {
        let kit = kit(|settings| settings.queries.waiting = 1);
        let runtime = kit.engine().runtime();
        tokio().block_on(async {
            let later = [AtLeast::Txid(Txid(99))];
            let mut first = Box::pin(runtime.wait_until(&later));
            tokio::select! {
                biased;
                _ = &mut first => panic!("there is no such batch"),
                () = tokio::task::yield_now() => {}
            }
            assert!(matches!(runtime.wait_until(&later).await, Err(QueryError::TooMany { .. })));
            assert_eq!(
                runtime.wait_until(&[AtLeast::Txid(Txid(1))]).await,
                Ok(()),
                "one that need not wait does not count"
            );
            drop(first);
            assert!(
                tokio::time::timeout(Duration::from_millis(20), runtime.wait_until(&later))
                    .await
                    .is_err(),
                "it may wait now"
            );
        });
    }
}
