//! Settings of librdkafka that come with a run: from the table `[kafka]` of the settings file, over
//! it from the environment, over that from flags. All of them win over what the program's code
//! sets. Their values are never shown: there are secrets among them.

use clap::Args;
use serde::{Deserialize, Deserializer, de};
use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use tidemill_connectors::kafka::Overrides;
use tidemill_state::{Error, Result};

/// The beginning of an environment variable. The rest is the setting's name in capitals, with
/// underscores for its dots.
const PREFIX: &str = "TIDEMILL_KAFKA_";

/// The settings of librdkafka that the flags or the file give.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct KafkaSettings {
    /// Set one of librdkafka's settings, over the program's own, for every cluster; may be given
    /// several times. Other users of the machine see arguments: secrets belong in the
    /// environment (TIDEMILL_KAFKA_SASL_PASSWORD) or in the file (table [kafka])
    #[arg(long = "kafka-set", value_name = "NAME=VALUE")]
    flags: Vec<Assignment>,
    #[arg(skip)]
    table: Vec<Assignment>,
}

/// A setting as it was given: a name and a value, if there is a `=` between them.
#[derive(Clone)]
struct Assignment {
    name: String,
    value: Option<String>,
}

impl FromStr for Assignment {
    type Err = Infallible;

    /// Takes anything: an error of clap would show it.
    fn from_str(text: &str) -> Result<Assignment, Infallible> {
        Ok(match text.split_once('=') {
            Some((name, value)) => {
                Assignment { name: name.trim().into(), value: Some(value.into()) }
            }
            None => Assignment { name: text.into(), value: None },
        })
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.value.is_some() { &self.name } else { "…" })
    }
}

impl<'de> Deserialize<'de> for KafkaSettings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<KafkaSettings, D::Error> {
        let toml::Value::Table(table) = toml::Value::deserialize(from)? else {
            return Err(de::Error::custom(
                "kafka is no table: write [kafka], and the settings below it",
            ));
        };
        let mut settings = KafkaSettings::default();
        collect("", table, &mut settings.table).map_err(de::Error::custom)?;
        Ok(settings)
    }
}

/// Collects the settings of a table. `sasl.username = "tide"` is a table `sasl` to TOML.
fn collect(within: &str, table: toml::Table, into: &mut Vec<Assignment>) -> Result<(), String> {
    for (key, value) in table {
        let name = if within.is_empty() { key } else { format!("{within}.{key}") };
        let value = match value {
            toml::Value::Table(table) => {
                collect(&name, table, into)?;
                continue;
            }
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Array(_) | toml::Value::Datetime(_) => {
                return Err(format!(
                    "{name} in the table [kafka] is no value: give a text, a number, true or false"
                ));
            }
        };
        into.push(Assignment { name, value: Some(value) });
    }
    Ok(())
}

impl KafkaSettings {
    /// The flags of these, and the file of others.
    pub(super) fn or(self, others: KafkaSettings) -> KafkaSettings {
        KafkaSettings { flags: self.flags, table: others.table }
    }

    /// Returns what file, environment and flags come to.
    ///
    /// # Errors
    /// Kind Config: something of it is refused. Says where it was given.
    pub(super) fn resolve(
        self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Overrides> {
        let mut overrides = Overrides::default();
        let mut set = |place: &str, name: &str, value: &str| {
            overrides.set(name, value).map_err(|error| error.while_doing(place))
        };
        for Assignment { name, value } in &self.table {
            set(
                "the table [kafka] of the settings file",
                name,
                value.as_deref().unwrap_or_default(),
            )?;
        }
        for (variable, value) in environment {
            let variable = variable.to_string_lossy();
            let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
            let value = value
                .to_str()
                .ok_or_else(|| Error::config(format!("{variable}: its value is no UTF-8")))?;
            set(
                &format!("the environment variable {variable}"),
                &rest.to_lowercase().replace('_', "."),
                value,
            )?;
        }
        for Assignment { name, value } in &self.flags {
            let Some(value) = value else {
                return Err(Error::config(
                    "--kafka-set is given something without a =: write --kafka-set NAME=VALUE",
                ));
            };
            set("--kafka-set", name, value)?;
        }
        Ok(overrides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(
        table: &str,
        environment: &[(&str, &str)],
        flags: &[&str],
    ) -> Result<Overrides, String> {
        let file: KafkaSettings =
            toml::from_str(table).map_err(|why: toml::de::Error| why.message().to_string())?;
        let flags = flags.iter().map(|flag| flag.parse().expect("it takes anything")).collect();
        let given = KafkaSettings { flags, ..KafkaSettings::default() }.or(file);
        let environment =
            environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        given.resolve(environment).map_err(|error| format!("{:?}: {error}", error.kind()))
    }

    fn expected(settings: &[(&str, &str)]) -> Overrides {
        let mut expected = Overrides::default();
        settings
            .iter()
            .for_each(|(name, value)| expected.set(name, *value).expect("it is allowed"));
        expected
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file() {
        let file =
            "linger.ms = 3\nclient.id = \"filed\"\n\"enable.ssl.certificate.verification\" = false";
        let environment = [
            ("TIDEMILL_KAFKA_LINGER_MS", "4"),
            ("TIDEMILL_KAFKA_CLIENT_ID", "aired"),
            ("TIDEMILL_STATE", "x"),
        ];
        let verify = ("enable.ssl.certificate.verification", "false");
        let check = |environment: &[_], flags: &[_], settings: &[(&str, &str)]| {
            assert!(resolved(file, environment, flags) == Ok(expected(settings)), "{settings:?}");
        };
        check(&[], &[], &[("linger.ms", "3"), ("client.id", "filed"), verify]);
        check(&environment, &[], &[("linger.ms", "4"), ("client.id", "aired"), verify]);
        check(
            &environment,
            &["client.id=said=twice", "queue.buffering.max.ms=5"],
            &[("linger.ms", "5"), ("client.id", "said=twice"), verify],
        );
    }

    #[test]
    fn what_is_refused_is_named_with_its_place_and_no_value_is_shown() {
        let check = |table: &str, environment: &[(&str, &str)], flags: &[&str], parts: &[&str]| {
            let error = resolved(table, environment, flags).expect_err("it is refused");
            for part in parts {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
            assert!(!error.contains("hunter2"), "{error}");
        };
        check("sasl.pasword = \"hunter2\"", &[], &[], &["Config", "[kafka]", "sasl.pasword"]);
        check("sasl.password = [\"hunter2\"]", &[], &[], &["sasl.password", "give a text"]);
        check(
            "",
            &[("TIDEMILL_KAFKA_SASL_PASWORD", "hunter2")],
            &[],
            &["Config", "TIDEMILL_KAFKA_SASL_PASWORD", "sasl.pasword"],
        );
        check(
            "",
            &[("TIDEMILL_KAFKA_ACKS", "1")],
            &[],
            &["TIDEMILL_KAFKA_ACKS", "acks cannot be changed", "transactions"],
        );
        check(
            "",
            &[],
            &["isolation.level=read_uncommitted"],
            &["--kafka-set", "aborted transactions"],
        );
        check("", &[], &["sasl.password:hunter2"], &["NAME=VALUE"]);
        let shown = format!(
            "{:?}",
            [Assignment::from_str("sasl.password=hunter2"), Assignment::from_str("hunter2")]
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
