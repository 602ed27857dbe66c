//! One worker's in_flight: the requests that are at home here, from when they begin until they are
//! answered or given up.

use crate::json;
use crate::request::ask::{Answer, Ask, Format, Permit, QueryError, Reply};
use crate::request::hub::RequestHub;
use crate::request::input::QueryInput;
use crate::request::item::{Failure, Held, Item, Ticket};
use crate::request::live_requests::{LiveRequests, RequestId};
use crate::request::pins::Pins;
use crate::request::unsent_bytes::UnsentBytes;
use crate::request::weight::Weight;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_state::codec;

/// The interval at which requests in flight are looked through for requests whose time is over, or
/// that nobody waits for.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(5);

struct Running {
    admitted: Permit,
    id: RequestId,
    ticket: Ticket,
    reply: Box<dyn Reply>,
    begun: Instant,
    deadline: Instant,
    format: Format,
    most_bytes: usize,
    body: Vec<u8>,
    rows: u64,
    home: Weight,
}

/// See the module's documentation.
pub(crate) struct InFlight {
    worker: usize,
    live: Arc<LiveRequests>,
    pins: Arc<Pins>,
    unsent: Arc<UnsentBytes>,
    running: Vec<Option<Box<Running>>>,
    free: Vec<usize>,
    waiting: VecDeque<Ask>,
    /// By batch: how many requests read as of it. This worker holds one pin for each batch.
    reading: BTreeMap<tidemill_state::Txid, usize>,
    swept: Instant,
}

impl InFlight {
    pub(crate) fn new(worker: usize, hub: &RequestHub) -> InFlight {
        let places = hub.live.places();
        InFlight {
            worker,
            live: Arc::clone(&hub.live),
            pins: Arc::clone(&hub.pins),
            unsent: Arc::clone(&hub.unsent),
            running: (0..places).map(|_| None).collect(),
            free: (0..places).rev().collect(),
            waiting: VecDeque::new(),
            reading: BTreeMap::new(),
            swept: Instant::now(),
        }
    }

    /// A request has come in. It begins at [`InFlight::begin`].
    pub(crate) fn receive(&mut self, ask: Ask) {
        self.waiting.push_back(ask);
    }

    /// Returns whether somebody waits for an answer from here.
    pub(crate) fn is_busy(&self) -> bool {
        self.free.len() < self.running.len() || !self.waiting.is_empty()
    }

    /// Lets requests that wait begin, as long as there are places: all of them as of the last
    /// committed batch.
    pub(crate) fn begin(&mut self, entrances: &[std::rc::Rc<dyn QueryInput>]) {
        if self.waiting.is_empty() || self.free.is_empty() {
            return;
        }
        let at = self.pins.take();
        let before = self.reading.get(&at).copied().unwrap_or(0);
        let mut begun = 0;
        while let Some(place) = self.free.pop() {
            let Some(ask) = self.waiting.pop_front() else {
                self.free.push(place);
                break;
            };
            let id = self.live.begin(self.worker, place);
            let ticket = Ticket { id, at };
            let Ask {
                admitted,
                query,
                arguments,
                format,
                begun: since,
                deadline,
                most_bytes,
                reply,
            } = ask;
            let mut body = Vec::new();
            if format == Format::Bincode {
                body.push(codec::FORMAT);
            }
            let home = Weight::default();
            self.running[place] = Some(Box::new(Running {
                admitted,
                id,
                ticket,
                reply,
                begun: since,
                deadline,
                format,
                most_bytes,
                body,
                rows: 0,
                home,
            }));
            entrances[query.0].enter(ticket, arguments);
            begun += 1;
        }
        if begun > 0 {
            self.reading.insert(at, before + begun);
        }
        // One pin for each batch is enough.
        if before > 0 || begun == 0 {
            self.pins.give_back(at);
        }
    }

    /// Something of a request has come home. `one` says whether its query gives one value; the
    /// answer goes out once all weight is home.
    pub(crate) fn take_home<R: Serialize>(&mut self, item: Item<R>, whole: Weight, one: bool) {
        let place = item.ticket.id.place();
        // What is left of a request that was given up comes home too.
        let Some(running) =
            self.running[place].as_mut().filter(|running| running.id == item.ticket.id)
        else {
            return;
        };
        running.home = running.home.plus(item.weight);
        let outcome = match item.held {
            Held::Value(value) => running.add(&value, one),
            Held::Nothing => Ok(()),
            Held::Failed(Failure::Function(why)) => Err(QueryError::Failed(why)),
            Held::Failed(Failure::NotHeld) => Err(QueryError::NotHeld),
        };
        match outcome {
            Ok(()) if running.home == whole => self.answer(place, one),
            Ok(()) => assert!(running.home < whole, "no request has more weight than it was given"),
            Err(error) => self.give_up(place, error),
        }
    }

    fn answer(&mut self, place: usize, one: bool) {
        let Some(mut running) = self.running[place].take() else { return };
        let outcome = running.finish(one);
        self.over(*running, outcome, false);
    }

    fn give_up(&mut self, place: usize, error: QueryError) {
        let Some(running) = self.running[place].take() else { return };
        self.over(*running, Err(error), true);
    }

    fn over(&mut self, running: Running, outcome: Result<Vec<u8>, QueryError>, early: bool) {
        let Running { id, ticket, reply, admitted, .. } = running;
        self.live.end(id, early);
        self.free.push(id.place());
        if let Some(reading) = self.reading.get_mut(&ticket.at) {
            *reading -= 1;
            if *reading == 0 {
                self.reading.remove(&ticket.at);
                self.pins.give_back(ticket.at);
            }
        }
        drop(admitted);
        reply.answer(outcome.and_then(|bytes| {
            let kept = self.unsent.keep(bytes.len());
            let kept = kept.ok_or_else(|| QueryError::unsent(self.unsent.most()))?;
            Ok(Answer { txid: ticket.at, bytes, kept })
        }));
    }

    /// Gives up requests whose time is over, or that nobody waits for. Gives how long until the
    /// next look, if there are any.
    pub(crate) fn sweep(
        &mut self,
        now: Instant,
        held_up_by: impl Fn() -> Option<String>,
    ) -> Option<Duration> {
        if !self.is_busy() {
            return None;
        }
        let due = self.swept + SWEEP_EVERY;
        if now < due {
            return Some(due - now);
        }
        self.swept = now;
        let timed_out = |begun: Instant| QueryError::TimedOut {
            after_ms: u64::try_from(now.saturating_duration_since(begun).as_millis())
                .unwrap_or(u64::MAX),
            held_up_by: held_up_by(),
        };
        for place in 0..self.running.len() {
            if let Some(running) = &self.running[place]
                && (now >= running.deadline || running.reply.is_gone())
            {
                let error = timed_out(running.begun);
                self.give_up(place, error);
            }
        }
        let late = |ask: &mut Ask| now >= ask.deadline || ask.reply.is_gone();
        let (mut at, mut given_up) = (0, Vec::new());
        while at < self.waiting.len() {
            if late(&mut self.waiting[at]) {
                given_up.extend(self.waiting.remove(at))
            } else {
                at += 1
            }
        }
        for ask in given_up {
            drop(ask.admitted);
            let error = timed_out(ask.begun);
            ask.reply.answer(Err(error));
        }
        Some(SWEEP_EVERY)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        for place in 0..self.running.len() {
            self.give_up(place, QueryError::gone());
        }
        for ask in std::mem::take(&mut self.waiting) {
            drop(ask.admitted);
            ask.reply.answer(Err(QueryError::gone()));
        }
    }
}

impl Running {
    fn add<R: Serialize>(&mut self, value: &R, one: bool) -> Result<(), QueryError> {
        let first = self.rows == 0;
        self.rows += 1;
        let mut body =
            Bounded { left: self.most_bytes.saturating_sub(self.body.len()), body: &mut self.body };
        let written = match self.format {
            Format::Json => {
                let start: &[u8] = if one {
                    b""
                } else if first {
                    b"["
                } else {
                    b","
                };
                body.write_all(start).is_ok() && body.json(value)?
            }
            Format::Storm => {
                body.write_all(if first { b"[" } else { b"," }).is_ok() && body.storm(value)?
            }
            Format::Bincode => body.bincode(value)?,
        };
        if written {
            Ok(())
        } else {
            Err(QueryError::TooLarge { what: "answer", limit: self.most_bytes })
        }
    }

    fn finish(&mut self, one: bool) -> Result<Vec<u8>, QueryError> {
        let mut body = std::mem::take(&mut self.body);
        match (self.format, one) {
            (Format::Json, true) if self.rows == 0 => body.extend_from_slice(b"null"),
            (Format::Json, true) => {}
            (Format::Json | Format::Storm, _) => {
                body.extend_from_slice(if self.rows == 0 { b"[]" } else { b"]" })
            }
            (Format::Bincode, _) => {
                // As bincode has it: the number of a vector's elements, or of an option's, comes
                // before them.
                let mut counted = Vec::with_capacity(body.len() + 9);
                let number = |into: &mut Vec<u8>| {
                    if one {
                        into.push(codec::FORMAT);
                        into.push(u8::from(self.rows > 0));
                        Ok(())
                    } else {
                        codec::encode(&self.rows, into)
                    }
                };
                number(&mut counted).map_err(|why| QueryError::Failed(why.to_string()))?;
                counted.extend_from_slice(&body[1..]);
                body = counted;
            }
        }
        Ok(body)
    }
}

/// A body that grows up to a bound.
struct Bounded<'b> {
    body: &'b mut Vec<u8>,
    left: usize,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > self.left {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.left -= bytes.len();
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Bounded<'_> {
    /// Returns whether it fits.
    fn json<R: Serialize>(&mut self, value: &R) -> Result<bool, QueryError> {
        match json::write(value, self) {
            Ok(()) => Ok(true),
            Err(why) if why.is_io() => Ok(false),
            Err(why) => {
                Err(QueryError::Failed(format!("a result cannot be written as JSON: {why}")))
            }
        }
    }

    /// An output of Storm's: an array. What is one already, a tuple, stays as it is.
    fn storm<R: Serialize>(&mut self, value: &R) -> Result<bool, QueryError> {
        let start = self.body.len();
        if !self.json(value)? {
            return Ok(false);
        }
        if self.body.get(start) != Some(&b'[') {
            if self.left < 2 {
                return Ok(false);
            }
            self.body.insert(start, b'[');
            self.body.push(b']');
        }
        Ok(true)
    }

    fn bincode<R: Serialize>(&mut self, value: &R) -> Result<bool, QueryError> {
        match codec::append(value, self) {
            Ok(()) => Ok(true),
            Err(why) if matches!(*why, codec::Unwritten::Io(_)) => Ok(false),
            Err(why) => Err(QueryError::Failed(format!("a result cannot be encoded: {why}"))),
        }
    }
}
