//! The rights that are lacking when the brokers refuse a call. The documentation of [`super`] has
//! the table of all rights.

use rdkafka::error::RDKafkaErrorCode;

/// Returns what this user lacks, if the brokers have refused a call for want of a right.
pub(super) fn lacking(code: RDKafkaErrorCode) -> Option<&'static str> {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => Some(
            "this user lacks a right on the topic. A source needs Read and Describe; a sink needs \
             Write, Describe and DescribeConfigs, for its progress topic Read and Create too",
        ),
        RDKafkaErrorCode::GroupAuthorizationFailed => Some(
            "this user lacks the right Read on the group. Grant it, or name a group that it may \
             use with the setting group.id",
        ),
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed => Some(
            "this user lacks the rights Write and Describe on the transactional id. Grant them: \
             its prefix is the topology's name",
        ),
        RDKafkaErrorCode::ClusterAuthorizationFailed => Some(
            "this user lacks a right on the cluster: Create to make topics, with brokers before \
             Kafka 2.8 IdempotentWrite to publish",
        ),
        _ => None,
    }
}
