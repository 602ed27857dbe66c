//! librdkafka's texts about settings, without the values of those: there are secrets among them.

use rdkafka::error::KafkaError;

/// Returns librdkafka's reason for not taking some settings, as it may be shown.
pub(super) fn reason<'s>(
    why: &KafkaError,
    settings: impl IntoIterator<Item = (&'s str, &'s str)>,
) -> String {
    let text = match why {
        KafkaError::ClientConfig(_, what, ..) => what.clone(),
        why => why.to_string(),
    };
    let secrets = settings.into_iter().filter(|(name, value)| is_secret(name) && !value.is_empty());
    secrets.fold(without_wrong_value(&text), |text, (_, value)| text.replace(value, "…"))
}

/// Leaves out the value of a setting that takes one of some words: it may be a secret that was
/// given to the wrong one.
fn without_wrong_value(text: &str) -> String {
    match text
        .split_once("Invalid value \"")
        .map(|(before, rest)| (before, rest.rsplit_once("\" for ")))
    {
        Some((before, Some((_, rest)))) => format!("{before}Invalid value for {rest}"),
        _ => text.to_string(),
    }
}

/// Returns whether the value of a setting is nobody's business.
fn is_secret(name: &str) -> bool {
    ["password", "passphrase", "secret", ".pem", "oauthbearer.config", "kinit.cmd"]
        .iter()
        .any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::ClientConfig;

    #[test]
    fn no_value_is_shown_that_may_be_a_secret() {
        for (name, value, part) in [
            // Given to the wrong setting.
            (
                "security.protocol",
                "hunter2",
                "Invalid value for configuration property \"security.protocol\"",
            ),
            ("debug", "broker,hunter2", "Invalid value for configuration property \"debug\""),
            ("debug", "hunter2\" for \"x", "Invalid value for"),
            ("enable.idempotence", "hunter2", "enable.idempotence"),
            ("socket.timeout.ms", "5", "value 5 is outside allowed range"),
        ] {
            let why = ClientConfig::new()
                .set(name, value)
                .create_native_config()
                .map(drop)
                .expect_err("it is refused");
            let reason = reason(&why, [(name, value)]);
            assert!(reason.contains(part) && !reason.contains("hunter2"), "{reason}");
        }
        let why = KafkaError::ClientCreation("the password hunter2 does not fit the key".into());
        let settings =
            [("ssl.key.password", "hunter2"), ("ssl.keystore.password", ""), ("client.id", "key")];
        assert_eq!(
            reason(&why, settings),
            "Client creation error: the password … does not fit the key"
        );
    }
}
