//! Settings of librdkafka that an operator gives to a program: over those in its code, for every
//! cluster that it reaches.

use super::backoff::Backoff;
use super::secrets;
use super::setting_names;
use rdkafka::ClientConfig;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use tidemill_state::{Error, Result};

/// The settings applied in this process.
static APPLIED: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Settings of librdkafka that win over [`super::Kafka::set`] once they are applied, in the whole
/// process.
///
/// The command line makes them of its file, its environment and its flags. A program without it can
/// give its own:
///
/// ```
/// use tidemill_connectors::kafka::Overrides;
/// let mut overrides = Overrides::default();
/// overrides.set("ssl.ca.location", "/etc/ssl/ca.pem")?;
/// assert!(overrides.set("acks", "1").is_err(), "the guarantee rests on it");
/// assert!(overrides.set("ssl.ca.locaton", "/etc/ssl/ca.pem").is_err(), "nobody knows it");
/// overrides.apply();
/// # Ok::<(), tidemill_state::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<String, String>);

impl Overrides {
    /// Sets one of librdkafka's settings under its own name. Of two calls for one setting the later
    /// one counts.
    ///
    /// # Errors
    /// Kind Config: the guarantee rests on it, librdkafka does not know it, or does not take the
    /// value.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> Result<()> {
        let value = value.into();
        setting_names::check(name)?;
        ClientConfig::new().set(name, &value).create_native_config().map(drop).map_err(|why| {
            let what = secrets::reason(&why, [(name, value.as_str())]);
            Error::config(format!(
                "librdkafka does not take its setting {name}: {what}. Correct it, or leave it out"
            ))
        })?;
        let given = BTreeMap::from([(setting_names::first_name(name).to_string(), value)]);
        Backoff::of(&given)?;
        self.0.extend(given);
        Ok(())
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets them win over what code sets, for every client that is made from now on in this
    /// process, in place of what was applied before.
    pub fn apply(self) {
        *APPLIED.lock().expect("no holder of this lock panics") = self.0;
    }
}

impl fmt::Debug for Overrides {
    /// Names the settings without their values: there are secrets among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Returns what was applied.
pub(super) fn applied() -> BTreeMap<String, String> {
    APPLIED.lock().expect("no holder of this lock panics").clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_checked_when_it_is_given_and_its_value_is_never_shown() {
        let mut overrides = Overrides::default();
        for (name, value, part) in [
            ("transactional.id", "x", "cannot be changed"),
            ("auto.offset.reset", "latest", "lost records must be an error"),
            ("sasl.pasword", "hunter2", "sasl.pasword"),
            ("security.protocol", "hunter2", "security.protocol"),
            ("retry.backoff.ms", "hunter2", "retry.backoff.ms"),
            ("socket.timeout.ms", "5", "socket.timeout.ms"),
        ] {
            let error = overrides.set(name, value).expect_err("it is refused").to_string();
            assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
        }
        assert!(overrides.is_empty());
        overrides.set("sasl.mechanism", "PLAIN").expect("it is allowed");
        overrides.set("sasl.mechanisms", "SCRAM-SHA-512").expect("the same under its other name");
        overrides.set("sasl.password", "hunter2").expect("it is allowed");
        assert_eq!(overrides.0.len(), 2);
        assert_eq!(format!("{overrides:?}"), "{\"sasl.mechanisms\", \"sasl.password\"}");
    }
}
