//! The view that a program has of its topology while the topology runs.

use serde::de::DeserializeOwned;
use std::sync::Arc;
use tidemill_engine::{Runtime, json};
use tidemill_state::{Error, Result, Txid, type_names};

/// A topology that runs, as [`crate::Cli::while_running`] shows it.
pub struct Running {
    runtime: Arc<Runtime>,
    waits: tokio::runtime::Runtime,
}

impl Running {
    pub(super) fn new(runtime: Arc<Runtime>) -> Result<Running> {
        let waits = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let waits = waits.map_err(|why| {
            Error::try_again(format!(
                "the operating system does not give what waiting for answers needs: {why}"
            ))
        })?;
        Ok(Running { runtime, waits })
    }

    /// The run: its status, its batches, its plan.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The last committed batch.
    #[must_use]
    pub fn committed(&self) -> Txid {
        self.runtime.committed()
    }

    /// The value of a key of a state at the last committed batch. The key is given as a person
    /// writes it: a text as it is, anything else as JSON.
    ///
    /// # Errors
    /// Kind Config: there is no such state, the text is none of its keys, or its values are no `V`.
    /// Kind TryAgain: the workers are starting, stopping or busy.
    pub fn value<V: DeserializeOwned>(&self, state: &str, key: &str) -> Result<Option<V>> {
        let (_, value) = self.waits.block_on(self.runtime.read_state(state, key))?;
        value.map(|value| typed(state, &value)).transpose()
    }

    /// The values of several keys of a state, in their order. Each is as of a committed batch;
    /// while batches are committed in between, not all are of the same one.
    ///
    /// # Errors
    /// As [`Running::value`].
    pub fn values<V: DeserializeOwned>(
        &self,
        state: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<V>>> {
        keys.iter().map(|key| self.value(state, key)).collect()
    }
}

fn typed<V: DeserializeOwned>(state: &str, value: &str) -> Result<V> {
    let wanted = type_names::of::<V>();
    json::from_str(value).map_err(|why| {
        Error::config(format!(
            "a value of state \"{state}\" is no {wanted}: {why}; ask for its own type"
        ))
    })
}
