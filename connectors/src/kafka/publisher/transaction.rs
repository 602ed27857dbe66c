//! The content of a transaction: output and marker are sent, and acknowledged or refused.

use super::KafkaPublisher;
use crate::kafka::events::Failed;
use crate::kafka::letters::{self, Refusal};
use crate::kafka::marker;
use crate::kafka::message::Encoded;
use crate::kafka::refused::{Place, is_for_good, place_of};
use crate::kafka::session::{LOOK, is_purged, to_topic};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tidemill_engine::sink::Entry;
use tidemill_state::{CrashPoint, Error, Result, Txid};

/// The time deliveries are waited for before a broker that cannot be reached is taken for one that
/// is away.
const AWAY_AFTER: Duration = Duration::from_secs(3);

impl KafkaPublisher {
    pub(super) fn send_marker(
        &self,
        txid: Txid,
        number: usize,
    ) -> Result<std::result::Result<(), KafkaError>> {
        let value = marker::encode(&self.owner, txid)?;
        let key = self.owner.sink.as_bytes();
        let record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&self.progress.topic, number)
            .partition(0)
            .key(key)
            .payload(&value);
        Ok(self.session()?.send(record))
    }

    /// Sends everything of these entries, and the marker. Gives the number of messages; `None` if
    /// some were refused, and the session has ended with that.
    pub(super) fn send(&mut self, entries: &[Entry]) -> Result<Option<usize>> {
        let session = self.session()?;
        session.events.forget_deliveries();
        if let Err(why) = session.producer().begin_transaction() {
            return Err(self.after_failure("beginning a transaction", &why));
        }
        self.owner.points.reach(CrashPoint::SinkBegun)?;
        if let Some(first) = entries.first() {
            self.shared
                .refused
                .lock()
                .expect("no holder of this lock panics")
                .forget(Txid(first.txid.0 - 1));
        }
        let (mut number, mut group) = (0, None);
        for entry in entries {
            for (index, record) in entry.records().enumerate() {
                let message = Encoded::read(record)?;
                let place = (entry.txid, index);
                let (reason, with) = {
                    let refused =
                        self.shared.refused.lock().expect("no holder of this lock panics");
                    (refused.reason(place).map(str::to_string), refused.group(place))
                };
                // What must not travel together does not, if the one has arrived before the other
                // is sent.
                if with != std::mem::replace(&mut group, with) && !self.arrive(entries, number)? {
                    return Ok(None);
                }
                let sent = match &reason {
                    None => self.session()?.send(to_topic(&self.shared.topic, &message, number)),
                    Some(reason) => self.send_dead_letter(entry.txid, &message, reason, number)?,
                };
                match sent {
                    Ok(()) => number += 1,
                    Err(why) => match why.rdkafka_error_code().filter(|code| is_for_good(*code)) {
                        Some(code) => return self.refuse(&[(place, code)]).map(|()| None),
                        None => {
                            return Err(
                                self.after_failure(&format!("sending batch {}", entry.txid), &why)
                            );
                        }
                    },
                }
            }
        }
        let last = entries
            .last()
            .map(|entry| entry.txid)
            .ok_or_else(|| Error::bug("a transaction without output"))?;
        if let Err(why) = self.send_marker(last, number)? {
            return Err(self.after_failure("sending the marker", &why));
        }
        self.owner.points.reach(CrashPoint::SinkProduced)?;
        Ok(Some(number + 1))
    }

    fn send_dead_letter(
        &self,
        txid: Txid,
        message: &Encoded<'_>,
        reason: &str,
        number: usize,
    ) -> Result<std::result::Result<(), KafkaError>> {
        let topic = self
            .shared
            .dead_letters
            .as_ref()
            .ok_or_else(|| Error::bug("a refused message without a topic for it"))?;
        let takes = self.shared.max_letter_bytes.load(SeqCst);
        let letter =
            letters::letter(Refusal { topic: &self.shared.topic, txid, reason }, message, takes);
        let mut record =
            BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, number).payload(&*letter.value);
        record.key = letter.key.as_deref();
        Ok(self.session()?.send(record))
    }

    /// Remembers that the brokers do not take messages that came together, for the next attempt;
    /// without a topic for such messages, that is the end.
    fn refuse(&mut self, together: &[(Place, RDKafkaErrorCode)]) -> Result<()> {
        self.session = None;
        self.shared.findings.forget();
        let Some(((txid, index), code)) = together.first() else { return Ok(()) };
        let others = if together.len() > 1 {
            format!(", or one of the {} that came with it", together.len() - 1)
        } else {
            String::new()
        };
        let topic = &self.shared.topic;
        let Some(dead_letters) = &self.shared.dead_letters else {
            return Err(Error::sink(format!(
                "batch {txid}, message {index}{others}: topic {topic} does not take it: {code}. \
                 It is committed, so it cannot be left out: let the topic take it, or give the \
                 sink a topic for such messages (KafkaSink::dead_letters), and start again"
            )));
        };
        let mut refused = self.shared.refused.lock().expect("no holder of this lock panics");
        if let Some(((txid, index), code)) =
            together.iter().find(|(place, _)| refused.reason(*place).is_some())
        {
            return Err(Error::sink(format!(
                "batch {txid}, message {index}: topic {topic} has refused it, and topic \
                 {dead_letters} does not take the dead letter: {code}. Let one of the two take \
                 it, and start again"
            )));
        }
        refused.refuse(topic, together);
        Ok(())
    }

    /// Waits until all of the first `sent` messages are acknowledged, or some are refused. Gives
    /// whether they are; if some were refused, the session has ended with that.
    fn arrive(&mut self, entries: &[Entry], sent: usize) -> Result<bool> {
        let session = self.session()?;
        let began = Instant::now();
        loop {
            session.look_at_events();
            // What is behind a refused batch of its partition is not delivered any more, and
            // reported only when its time is over.
            if session.events.reported() >= sent || session.events.has_failed(is_for_good) {
                break;
            }
            if let Some((code, reason)) = session.producer().client().fatal_error() {
                tracing::debug!(%code, reason, "the producer has failed");
                return Err(self.after_failure("publishing", &KafkaError::Global(code)));
            }
            if began.elapsed() >= AWAY_AFTER && session.events.certain_trouble().is_some() {
                // librdkafka would wait for a minute, and nobody would know.
                return Err(self.after_failure(
                    "publishing",
                    &KafkaError::MessageProduction(RDKafkaErrorCode::AllBrokersDown),
                ));
            }
            // Longer the longer it takes: a broker may be away.
            std::thread::sleep((began.elapsed() / 20).clamp(LOOK.0, LOOK.1));
        }
        let failed = session.events.failed();
        let for_good = failed.iter().filter(|failed| is_for_good(failed.code));
        let together: Vec<_> = for_good
            .filter_map(|failed| Some((place_of(entries, failed.number)?, failed.code)))
            .collect();
        match failed.first() {
            None => Ok(true),
            Some(_) if !together.is_empty() => self.refuse(&together).map(|()| false),
            Some(Failed { code, .. }) if is_purged(*code) => {
                let doing = format!(
                    "publishing to topics {} and {}",
                    self.shared.topic, self.progress.topic
                );
                let why = session.why_it_failed().unwrap_or(KafkaError::MessageProduction(*code));
                Err(self.after_failure(&doing, &why))
            }
            Some(Failed { topic, code, .. }) => Err(self.after_failure(
                &format!("publishing to topic {topic}"),
                &KafkaError::MessageProduction(*code),
            )),
        }
    }

    /// As [`KafkaPublisher::arrive`], for everything of a transaction.
    pub(super) fn deliver(&mut self, entries: &[Entry], sent: usize) -> Result<bool> {
        let arrived = self.arrive(entries, sent)?;
        if arrived {
            self.owner.points.reach(CrashPoint::SinkDelivered)?;
        }
        Ok(arrived)
    }
}
