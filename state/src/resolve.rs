//! The decision of a start about store, schema and sinks: made from facts ([`crate::facts`]: read
//! them first), without reading or writing anything. Sources are decided on in
//! `engine/src/run/start.rs`.
//!
//! The engine's start (`engine/src/run/start.rs`) reads the facts and carries the decision out. It
//! decides twice: on markers that an earlier run may still move ([`resolve`]), and again for each
//! sink with a marker once that run is fenced and the marker is final ([`resolve_one`]). The cases
//! are a table in `state/src/resolve/tests.rs`.

pub use crate::facts::{Assume, Facts, MarkerFacts, SinkRecord, StoreFacts};
use crate::schema::{Schema, SinkDecl};
use crate::{Error, Result, Txid, migration};
use std::fmt;

/// The actions of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// True if this start creates the store.
    pub create: bool,
    /// The batch to go on after.
    pub after: Txid,
    /// The schema from now on.
    pub schema: Schema,
    /// The changes to the store before the start, for the migrations that the store has not seen.
    pub migration: migration::Plan,
    /// The program's sinks. The schema has them too, but in the order of their numbers.
    pub declared: Vec<SinkDecl>,
    /// The action for each of the program's sinks, in the program's order. For a sink with a marker it
    /// is provisional: see [`resolve_one`].
    pub sinks: Vec<SinkStart>,
    /// Warnings for the operator that do not prevent the start.
    pub warnings: Vec<String>,
}

/// The action of a start for one sink. Before the first batch is opened, a sink with a marker is
/// fenced against earlier runs and its marker is written at `at` (`engine/src/sink.rs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkStart {
    /// A new sink: write its marker at this txid, then record it as registered.
    Register {
        /// The last batch that the sink is taken to hold.
        at: Txid,
    },
    /// Send every entry after this txid.
    Resume {
        /// The last batch that the sink is taken to hold.
        at: Txid,
    },
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.create {
            write!(f, "a new topology: create the store and begin with batch 1")?;
        } else {
            write!(f, "go on after batch {}", self.after)?;
        }
        for migration in &self.migration.pending {
            write!(f, "; {migration}")?;
        }
        for (sink, start) in self.declared.iter().zip(&self.sinks) {
            match start {
                SinkStart::Register { at } => {
                    write!(f, "; sink \"{}\" is new, from batch {}", sink.name, at.next())?
                }
                SinkStart::Resume { at } if sink.exactly_once => {
                    write!(f, "; sink \"{}\" holds batch {at}", sink.name)?
                }
                SinkStart::Resume { .. } => write!(
                    f,
                    "; sink \"{}\" may get its last output again (at least once)",
                    sink.name
                )?,
            }
        }
        Ok(())
    }
}

/// Decides what a start does.
///
/// # Errors
/// The start is refused; the kind is the exit code, the message says what was seen and what to do.
/// Nothing has been changed yet.
pub fn resolve(facts: &Facts) -> Result<Decision> {
    let recorded = facts.store.clone().unwrap_or_default();
    if recorded.folded > recorded.committed {
        return Err(Error::damaged(format!(
            "the store is damaged: it is folded up to batch {}, but only {} is committed. Restore \
             it from a checkpoint, or move it aside with --start-over",
            recorded.folded, recorded.committed
        )));
    }
    let (schema, migration) = migration::plan(&recorded.schema, &facts.program, &recorded.sinks)?;
    let schema = schema.adopt(&facts.program)?;
    let mut warnings = Vec::new();
    let mut sinks = Vec::new();
    for (decl, marker) in facts.program.sinks.iter().zip(&facts.markers) {
        let record = recorded.sinks.iter().find(|record| record.name == decl.name);
        let sink = SinkFacts::of(decl, record, marker.as_ref());
        sinks.push(resolve_sink(facts, &recorded, &sink, &mut warnings)?);
    }
    let declared = facts.program.sinks.clone();
    Ok(Decision {
        create: facts.store.is_none(),
        after: recorded.committed,
        schema,
        migration,
        declared,
        sinks,
        warnings,
    })
}

/// As [`resolve`], for the one sink that `facts` has, when its marker has become final after the
/// rest was decided.
///
/// # Errors
/// As [`resolve`]; but the store, its format and its migrations may have been changed already.
///
/// # Panics
/// If `facts` has no store, or not exactly one sink.
pub fn resolve_one(facts: &Facts) -> Result<SinkStart> {
    let store = facts.store.as_ref().expect("a sink is taken over after the store was made");
    let ([decl], [marker]) = (&facts.program.sinks[..], &facts.markers[..]) else {
        panic!("one sink is decided on")
    };
    let record = store.sinks.iter().find(|record| record.name == decl.name);
    resolve_sink(facts, store, &SinkFacts::of(decl, record, marker.as_ref()), &mut Vec::new())
}

struct SinkFacts<'a> {
    name: &'a str,
    exactly_once: bool,
    last: Option<Txid>,
    entries: &'a [(Txid, Txid)],
    marker: Option<&'a MarkerFacts>,
}

impl<'a> SinkFacts<'a> {
    fn of(
        decl: &'a SinkDecl,
        record: Option<&'a SinkRecord>,
        marker: Option<&'a MarkerFacts>,
    ) -> SinkFacts<'a> {
        SinkFacts {
            name: &decl.name,
            exactly_once: decl.exactly_once,
            last: record.and_then(|record| record.last),
            entries: record.map_or(&[], |record| &record.entries),
            marker,
        }
    }
}

fn resolve_sink(
    facts: &Facts,
    store: &StoreFacts,
    sink: &SinkFacts<'_>,
    warnings: &mut Vec<String>,
) -> Result<SinkStart> {
    let (name, committed) = (sink.name, store.committed);
    match (sink.last, sink.marker) {
        (None, None) => Ok(SinkStart::Register { at: committed }),
        (Some(_), None) if !sink.exactly_once => {
            Ok(SinkStart::Resume { at: before_first(sink.entries, committed) })
        }
        (None, Some(marker)) => resolve_unregistered(facts, store, name, marker),
        (Some(_), None) if sink.entries.is_empty() => {
            warnings.push(format!(
                "sink \"{name}\" has lost its marker; nothing was unconfirmed, so it is written \
                 again at batch {committed}"
            ));
            Ok(SinkStart::Resume { at: committed })
        }
        (Some(_), None) => match facts.assume {
            Some(Assume::Delivered) => {
                warnings.push(format!(
                    "sink \"{name}\" has no marker; told to assume that it \
                        holds batch {committed}"
                ));
                Ok(SinkStart::Resume { at: committed })
            }
            Some(Assume::Lost) => {
                let at = before_first(sink.entries, committed);
                warnings.push(format!(
                    "sink \"{name}\" has no marker; told to assume that it \
                        holds nothing after batch {at}"
                ));
                Ok(SinkStart::Resume { at })
            }
            None => Err(Error::sink(format!(
                "sink \"{name}\" has no marker, and batches {} to {} were committed but not \
                     confirmed: whether it holds them is unknown. Look at its output, then say \
                     --sink-assume delivered or --sink-assume lost",
                sink.entries[0].0,
                sink.entries[sink.entries.len() - 1].0
            ))),
        },
        (Some(last), Some(marker)) => resolve_registered(facts, store, sink, last, marker),
    }
}

fn resolve_unregistered(
    facts: &Facts,
    store: &StoreFacts,
    name: &str,
    marker: &MarkerFacts,
) -> Result<SinkStart> {
    let ours =
        marker.topology == facts.known_as && store.incarnations.contains(&marker.incarnation);
    // A start crashed between the marker and its record. Nothing was committed in between.
    if ours && marker.txid == store.committed {
        return Ok(SinkStart::Register { at: store.committed });
    }
    Err(Error::foreign(if facts.store.is_none() {
        format!(
            "there is no state in this folder, but sink \"{name}\" holds output up to batch {} of \
             topology \"{}\" (run {}): the state is lost, the folder is the wrong one, or another \
             program has this name. Give the right --state folder, another output, or another \
             --name",
            marker.txid, marker.topology, marker.incarnation
        )
    } else {
        format!(
            "sink \"{name}\" is new to this state, but somebody else's output is there: batch {} \
             of topology \"{}\" (run {}). Give it another output",
            marker.txid, marker.topology, marker.incarnation
        )
    }))
}

fn resolve_registered(
    facts: &Facts,
    store: &StoreFacts,
    sink: &SinkFacts<'_>,
    last: Txid,
    marker: &MarkerFacts,
) -> Result<SinkStart> {
    let (name, committed) = (sink.name, store.committed);
    if marker.topology != facts.known_as {
        return Err(Error::foreign(format!(
            "sink \"{name}\" belongs to topology \"{}\" (batch {}, run {}). Give it another output",
            marker.topology, marker.txid, marker.incarnation
        )));
    }
    if marker.txid > committed {
        return Err(Error::foreign(format!(
            "the state is older than its sink: it ends with batch {committed}, but sink \
             \"{name}\" holds batch {} (run {}). This folder is an old copy or a restored backup. \
             Start from the newest folder, or begin anew with --start-over and another output",
            marker.txid, marker.incarnation
        )));
    }
    if !store.incarnations.contains(&marker.incarnation) {
        return Err(Error::foreign(format!(
            "another instance owns sink \"{name}\": run {} wrote batch {}, and it is not in this \
             folder's history. Two folders go back to one copy; stop the other one, and start \
             from the folder that the sink's run belongs to",
            marker.incarnation, marker.txid
        )));
    }
    let rolled_back = |seen: String| {
        Err(Error::sink(format!(
            "sink \"{name}\" was rolled back: it holds batch {}, but {seen}. Restore its output \
             and marker, or begin anew with --start-over and another output",
            marker.txid
        )))
    };
    // The first entry after the marker must follow the batch that the marker names. If it names an
    // entry in between as the one before it, that one was confirmed and removed, and the sink went
    // back. Without an entry after it, the marker must be at the newest one.
    match sink.entries.iter().find(|(txid, _)| *txid > marker.txid) {
        None if marker.txid < last => rolled_back(format!("it had confirmed batch {last}")),
        Some((txid, prev)) if *prev > marker.txid => rolled_back(format!(
            "the next entry of its outbox is batch {txid}, and the one before it, {prev}, was \
             confirmed"
        )),
        _ => Ok(SinkStart::Resume { at: marker.txid }),
    }
}

fn before_first(entries: &[(Txid, Txid)], committed: Txid) -> Txid {
    entries.first().map_or(committed, |(_, prev)| *prev)
}

#[cfg(test)]
mod tests;
