//! Errors of librdkafka and of brokers: what each asks of a run, in one table.
//!
//! A code that is not in it passes: leaders move, coordinators load, connections break. What never
//! passes is named here with the way out, and ends a run instead of being waited for.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The class of an error: what it asks of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// It is tried again.
    Passes,
    /// The brokers do not accept who the client is. They may, of a client that they accepted
    /// before.
    Unauthenticated,
    /// The user lacks a right.
    Forbidden,
    /// There is no such topic or partition. One broker may report so for a moment of a topic that
    /// is there.
    Missing,
    /// The records at the position are gone.
    Lost,
    /// A message will be refused again.
    Message,
    /// It will be as it is until a setting is changed, as this part of a sentence describes.
    Never(&'static str),
}

use ErrorClass::{Forbidden, Lost, Message, Missing, Never, Passes, Unauthenticated};

const SETTINGS: ErrorClass = Never("correct the settings for Kafka");
const TOPIC: ErrorClass = Never("correct the topic's settings, or those with which it is made");
const TOO_OLD: ErrorClass = Never(
    "the brokers are too old for what is asked of them, or have it turned off: upgrade them, or \
     turn it on there",
);
const TOKEN: ErrorClass = Never("get a delegation token that the brokers accept");

/// Returns the class of a code.
pub(super) fn of(code: RDKafkaErrorCode) -> ErrorClass {
    use RDKafkaErrorCode as Code;
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            Unauthenticated
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => Forbidden,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => Missing,
        Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => Lost,
        Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge => Message,
        Code::InvalidTransactionTimeout => Never(
            "a sink's transactions may take 60 s, and the brokers allow less: raise \
             transaction.max.timeout.ms there to 60000 or more",
        ),
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::NotImplemented => TOO_OLD,
        Code::UnsupportedForMessageFormat => Never(
            "the topic keeps messages in a format that is too old: set its message.format.version \
             to 0.11.0 or later",
        ),
        Code::UnsupportedCompressionType => {
            Never("the brokers do not know this compression: set another compression.type")
        }
        Code::SecurityDisabled => {
            Never("the brokers have no security turned on: correct the security settings")
        }
        Code::DelegationTokenAuthDisabled
        | Code::DelegationTokenNotFound
        | Code::DelegationTokenOwnerMismatch
        | Code::DelegationTokenRequestNotAllowed
        | Code::DelegationTokenAuthorizationFailed
        | Code::DelegationTokenExpired => TOKEN,
        Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::InvalidTopic
        | Code::PolicyViolation => TOPIC,
        Code::InvalidArgument
        | Code::InvalidType
        | Code::UnknownProtocol
        | Code::NotConfigured
        | Code::IllegalSASLState
        | Code::InvalidRequiredAcks
        | Code::InvalidGroupId
        | Code::InvalidSessionTimeout
        | Code::InvalidPrincipalType
        | Code::UnacceptableCredential => SETTINGS,
        _ => Passes,
    }
}

/// Returns the class of the error of a call.
pub(super) fn of_call(error: &KafkaError) -> ErrorClass {
    let class = match (error, code_of(error)) {
        // A name or value with a zero byte in it.
        (KafkaError::Nul(_) | KafkaError::ClientConfig(..), _) => SETTINGS,
        (_, Some(code)) => of(code),
        (_, None) => Passes,
    };
    match (class, error) {
        // A message that was read.
        (Message, KafkaError::MessageConsumption(_) | KafkaError::MessageConsumptionFatal(_)) => {
            Passes
        }
        _ => class,
    }
}

/// Returns the code of an error of a call.
pub(super) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        // The crate gives no code for these.
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

/// Returns whether a failed TLS handshake fails again: the certificate of the broker is not
/// trusted, or is another's.
pub(super) fn is_distrust(reason: &str) -> bool {
    reason.contains("certificate verify failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use RDKafkaErrorCode as Code;

    #[test]
    fn each_code_has_its_class() {
        for (class, codes) in [
            (
                Passes,
                &[
                    Code::AllBrokersDown,
                    Code::BrokerTransportFailure,
                    Code::Resolve,
                    Code::SSL,
                    Code::OperationTimedOut,
                    Code::MessageTimedOut,
                    Code::LeaderNotAvailable,
                    Code::NotLeaderForPartition,
                    Code::CoordinatorLoadInProgress,
                    Code::NotCoordinator,
                    Code::NotEnoughReplicas,
                    Code::ConcurrentTransactions,
                    Code::ProducerFenced,
                    Code::KafkaStorageError,
                    Code::ThrottlingQuotaExceeded,
                    Code::UnknownTopicId,
                    Code::Unknown,
                ][..],
            ),
            (
                Unauthenticated,
                &[
                    Code::Authentication,
                    Code::SaslAuthenticationFailed,
                    Code::UnsupportedSASLMechanism,
                ],
            ),
            (
                Forbidden,
                &[Code::TopicAuthorizationFailed, Code::TransactionalIdAuthorizationFailed],
            ),
            (Missing, &[Code::UnknownTopicOrPartition, Code::UnknownTopic, Code::UnknownPartition]),
            (Lost, &[Code::AutoOffsetReset, Code::OffsetOutOfRange]),
            (Message, &[Code::MessageSizeTooLarge, Code::InvalidRecord]),
            (TOO_OLD, &[Code::UnsupportedVersion, Code::UnsupportedFeature]),
            (TOPIC, &[Code::InvalidReplicationFactor, Code::InvalidConfig, Code::PolicyViolation]),
            (TOKEN, &[Code::DelegationTokenExpired]),
            (SETTINGS, &[Code::InvalidRequiredAcks, Code::InvalidGroupId]),
        ] {
            for code in codes {
                assert_eq!(of(*code), class, "{code:?}");
            }
        }
        for code in [
            Code::InvalidTransactionTimeout,
            Code::UnsupportedForMessageFormat,
            Code::SecurityDisabled,
        ] {
            assert!(matches!(of(code), Never(_)), "{code:?}");
        }
    }

    #[test]
    fn a_call_has_the_class_of_its_code() {
        assert_eq!(of_call(&KafkaError::AdminOp(Code::InvalidReplicationFactor)), TOPIC);
        assert_eq!(of_call(&KafkaError::MessageProduction(Code::InvalidRecord)), Message);
        assert_eq!(
            of_call(&KafkaError::MessageConsumption(Code::InvalidMessage)),
            Passes,
            "a reader looks into it"
        );
        assert_eq!(of_call(&KafkaError::NoMessageReceived), Passes);
    }
}
