//! Clients of librdkafka: how they are made, how their reports are taken, and what their errors ask
//! of a run.

use super::error_class::{self, ErrorClass};
use super::events::{Consumer, Events};
use super::rights;
use super::secrets;
use super::settings::Kafka;
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::time::Duration;
use tidemill_state::{Error, Kind};

/// Makes a client. Waits for a token, if one is needed and none has come yet.
///
/// # Errors
/// Kind Config: librdkafka does not take the settings. Without a token, if one is needed, what
/// gives them decides.
pub(super) fn create<C>(kafka: &Kafka, config: &ClientConfig) -> Result<(C, Events), Error>
where
    C: FromClientConfigAndContext<Events>,
{
    if let Some(tokens) = kafka.tokens() {
        tokens.begin()?;
    }
    create_at_once(kafka, config)
}

/// As [`create`], on a thread that must not wait for a token, and where one that is missing is no
/// error: librdkafka reports it as a trouble of the client, and asks for it again.
///
/// # Errors
/// Kind Config: librdkafka does not take the settings.
pub(super) fn create_at_once<C>(kafka: &Kafka, config: &ClientConfig) -> Result<(C, Events), Error>
where
    C: FromClientConfigAndContext<Events>,
{
    if let Some(tokens) = kafka.tokens() {
        tokens.want();
    }
    let events = Events::new(kafka.standing(), kafka.tokens());
    let client = config.create_with_context(events.clone()).map_err(|why| {
        let reason = secrets::reason(&why, config.config_map());
        let what = match &why {
            KafkaError::ClientConfig(_, _, name, _) => format!("{name}: {reason}"),
            _ => reason,
        };
        if matches!(&why, KafkaError::ClientCreation(why) if why.contains("Failed to create \
            thread"))
        {
            return Error::try_again(format!(
                "the operating system gives no thread for a client of Kafka: {what}. Start again \
                 in a moment"
            ));
        }
        Error::config(format!(
            "librdkafka does not take the settings for Kafka: {what}. Correct \
            them"
        ))
    })?;
    Ok((client, events))
}

/// Takes every report out of the main queue of a client from which no records are polled. To be
/// called by one thread at a time. When it returns, the client's [`Events`] have all that
/// librdkafka had reported before the call.
///
/// # Errors
/// The client has failed for good.
pub(super) fn drain(consumer: &Consumer) -> Result<(), KafkaError> {
    let events = consumer.client().context();
    // Before the queue is looked at: what comes after it was found empty sets it again.
    events.set_pending(false);
    let mut quiet = 0;
    while quiet < QUIET {
        let before = events.handled();
        // A report that is no error, such as statistics, comes back as nothing: that does not mean
        // that it was the last.
        match consumer.poll(Duration::ZERO) {
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                return Err(KafkaError::MessageConsumptionFatal(code));
            }
            Some(_) => quiet = 0,
            None if events.handled() != before => quiet = 0,
            None => quiet += 1,
        }
    }
    Ok(())
}

/// After so many looks without a report the queue is empty. One would do, if each kind of report
/// were counted.
const QUIET: u32 = 2;

/// As [`drain`], where a client that has failed shows it otherwise.
pub(super) fn look_at_events(consumer: &Consumer) {
    if let Err(error) = drain(consumer) {
        tracing::debug!(%error, "a client has failed");
    }
}

/// The number of reports of a producer that are taken together: more than it has between two looks.
pub(super) const EVENTS_AT_ONCE: usize = 32;

/// Returns the error of a call that failed, of the kind that it is for a run. `doing` leads the
/// message.
pub(super) fn error(kafka: &Kafka, events: &Events, doing: &str, error: &KafkaError) -> Error {
    let brokers = kafka.brokers();
    if let Some(reason) = events.refused() {
        return Error::config(format!(
            "{doing}: the brokers at {brokers} refuse this client: {reason}"
        ));
    }
    let (kind, what) = match error_class::of_call(error) {
        ErrorClass::Passes => {
            let why = events.trouble().map_or(String::new(), |why| format!(" ({why})"));
            (
                Kind::Unreachable,
                format!("the brokers at {brokers} do not answer as they should: {error}{why}"),
            )
        }
        ErrorClass::Never(remedy) => (
            Kind::Config,
            format!("the brokers at {brokers} refuse it: {error}. This does not pass: {remedy}"),
        ),
        ErrorClass::Unauthenticated | ErrorClass::Forbidden | ErrorClass::Missing => {
            let lacking = error_class::code_of(error).and_then(rights::lacking);
            let refused =
                |lacking| format!("the brokers at {brokers} refuse it: {lacking} ({error})");
            (Kind::Config, lacking.map_or_else(|| error.to_string(), refused))
        }
        ErrorClass::Lost => (Kind::SourceLost, error.to_string()),
        ErrorClass::Message => (
            Kind::Sink,
            format!("{error}. It is committed, so it cannot be left out: let the topic take it"),
        ),
    };
    Error::new(kind, format!("{doing}: {what}"))
}

/// Returns whether an error means that the brokers do not know a topic. One broker may say so for a
/// moment of a topic that is there.
pub(super) fn is_unknown_topic(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
}
