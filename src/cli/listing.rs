//! The contents of a store or a running topology, as `state list` shows them.

use super::output::{columns, size, thousands};
use super::remote::Remote;
use serde::{Deserialize, Serialize};
use tidemill_state::type_names::readable;
use tidemill_state::{Error, Result, Store, Txid, printable};

/// The contents of a store or a running topology.
#[derive(Serialize, Deserialize)]
pub(super) struct Listing {
    topology: String,
    /// The last committed batch.
    #[serde(alias = "committed")]
    txid: Txid,
    lineage: String,
    /// The positions at which the partitions resume. `None` for a running topology, which is ahead
    /// of what is committed.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    positions: Option<Vec<ListedPosition>>,
    states: Vec<ListedState>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    sinks: Option<Vec<ListedSink>>,
}

#[derive(Serialize)]
struct ListedPosition {
    source: String,
    partition: String,
    offset: u64,
}

#[derive(Serialize, Deserialize)]
struct ListedState {
    name: String,
    key: String,
    value: String,
    keys: u64,
    /// Of encoded keys and values. A running topology does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct ListedSink {
    name: String,
    /// The last batch that had output for it.
    last: Option<Txid>,
    /// The batches whose output it has not confirmed.
    unconfirmed: usize,
}

impl Listing {
    /// Lists the contents of a stopped topology's store.
    pub(super) fn of_store(store: &Store) -> Result<Listing> {
        let facts = store.facts()?;
        let mut states = Vec::new();
        for (id, state) in facts.schema.states {
            let (mut keys, mut bytes) = (0, 0);
            store.scan(id, |key, value| {
                keys += 1;
                bytes += (key.len() + value.len()) as u64;
                Ok(true)
            })?;
            states.push(ListedState {
                name: state.name,
                key: readable(&state.key),
                value: readable(&state.value),
                keys,
                bytes: Some(bytes),
            });
        }
        let mut positions = Vec::new();
        for (id, source) in facts.schema.sources {
            let of_source = store.positions(id)?.into_iter();
            positions.extend(of_source.map(|(partition, position)| ListedPosition {
                source: source.name.clone(),
                partition,
                offset: position.offset,
            }));
        }
        let sinks = facts.sinks.into_iter().map(|sink| ListedSink {
            name: sink.name,
            last: sink.last,
            unconfirmed: sink.entries.len(),
        });
        Ok(Listing {
            topology: facts.schema.topology,
            txid: facts.committed,
            lineage: store.lineage().to_string(),
            positions: Some(positions),
            states,
            sinks: Some(sinks.collect()),
        })
    }

    /// Lists the contents that a running topology reports.
    pub(super) fn of_running(remote: &Remote) -> Result<Listing> {
        let status = remote.get("/v1/status")?.or_error()?;
        serde_json::from_value(status).map_err(|why| {
            Error::config(format!(
                "what answers at {} is another version of Tidemill: {why}. Ask it with its own \
                 program",
                remote.url()
            ))
        })
    }

    /// For a person.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!(
            "{}: batch {} committed, lineage {}\n",
            printable::line(&self.topology),
            thousands(self.txid.0),
            self.lineage
        );
        if let Some(positions) = &self.positions {
            let rows: Vec<_> = positions
                .iter()
                .map(|at| {
                    [
                        at.source.clone(),
                        at.partition.clone(),
                        format!("at {}", thousands(at.offset)),
                    ]
                })
                .collect();
            text += &section("positions", &rows);
        }
        let state = |state: &ListedState| {
            let types = format!("{} -> {}", readable(&state.key), readable(&state.value));
            [
                state.name.clone(),
                types,
                format!("{} keys", thousands(state.keys)),
                state.bytes.map(size).unwrap_or_default(),
            ]
        };
        text += &section("states", &self.states.iter().map(state).collect::<Vec<_>>());
        let sink = |sink: &ListedSink| {
            let last = sink.last.map_or("not registered".to_string(), |last| {
                format!("last output in batch {}", thousands(last.0))
            });
            [sink.name.clone(), last, format!("{} batches unconfirmed", sink.unconfirmed)]
        };
        text + &section("sinks", &self.sinks.iter().flatten().map(sink).collect::<Vec<_>>())
    }
}

fn section<const N: usize>(title: &str, rows: &[[String; N]]) -> String {
    if rows.is_empty() { String::new() } else { format!("{title}\n{}", columns(rows)) }
}
