//! The name of the consumer group that a topology's clients belong to.
//!
//! One name for all of them, so that one right is enough: that of the topology, unless the setting
//! `group.id` gives another. Nothing is read from the group but whether it is there; see
//! [`super::group`].

use std::sync::{Arc, Mutex};

/// The name before a topology has given its own: that of clients that only look.
const UNNAMED: &str = "tidemill";

/// See the module's documentation. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupName(Arc<Mutex<Option<String>>>);

impl GroupName {
    /// Notes the name of the topology.
    pub(super) fn note(&self, topology: &str) {
        *self.0.lock().expect("no holder of this lock panics") = Some(topology.to_string());
    }

    /// Returns the name.
    pub(super) fn get(&self) -> String {
        self.0
            .lock()
            .expect("no holder of this lock panics")
            .clone()
            .unwrap_or_else(|| UNNAMED.to_string())
    }
}
