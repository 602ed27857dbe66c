//! A start: read the facts, decide, carry the decision out. The decision itself is [`tidemill_state::resolve`].

use crate::context::{AnySink, AnySource};
use crate::settings::Settings;
use crate::sink::{Owner, Publisher};
use crate::topology::Description;
use crate::worker::Assignment;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidemill_state::resolve::{Decision, Facts, MarkerFacts, SinkStart, StoreFacts, resolve};
use tidemill_state::schema::Program;
use tidemill_state::{CrashPoint, Error, Incarnation, Points, Result, SinkId, StateId, Store, Txid};

/// A store that is ready to run on: its sinks are claimed, everything is recorded.
pub(crate) struct Started {
    pub(crate) store: Store,
    pub(crate) decision: Decision,
    pub(crate) incarnation: Incarnation,
    /// In the program's order.
    pub(crate) publishers: Vec<ClaimedSink>,
}

/// A sink that this run owns.
pub(crate) struct ClaimedSink {
    pub(crate) id: SinkId,
    pub(crate) name: String,
    pub(crate) exactly_once: bool,
    pub(crate) sink: Arc<dyn AnySink>,
    pub(crate) publisher: Box<dyn Publisher>,
    pub(crate) owner: Owner,
    /// The last batch that it holds.
    pub(crate) cursor: Txid,
    /// The batch of its newest entry ever, or of its registration.
    pub(crate) last: Txid,
    pub(crate) backlog_bytes: usize,
}

/// Would this program start on the store in `dir`? The decision, without changing anything.
///
/// # Errors
/// The start would be refused.
pub(crate) fn check(settings: &Settings, description: &Description) -> Result<Decision> {
    if !Store::exists(&settings.state) {
        let decision = decide(None, settings, description)?;
        refuse_other_content(&settings.state)?;
        return check_sources(None, &decision, description).map(|()| decision);
    }
    let store = Store::inspect(&settings.state)?;
    let checked = decide(Some(&store), settings, description).and_then(|decision| {
        read_through(&store)?;
        check_sources(Some(&store), &decision, description)?;
        Ok(decision)
    });
    // No run has begun on it, so its mode stays as the last run left it.
    store.close(&Points::none())?;
    checked
}

/// Reads what the workers of a run would load: damage in it is found here too.
fn read_through(store: &Store) -> Result<()> {
    let states: Vec<StateId> = store.facts()?.schema.states.into_iter().map(|(id, _)| id).collect();
    store.read_committed(&states, |_| true, |_, _, _| Ok(()))
}

/// Opens every partition where a run would go on, without reading.
fn check_sources(store: Option<&Store>, decision: &Decision, description: &Description) -> Result<()> {
    for (decl, source) in description.program.sources.iter().zip(&description.sources) {
        let doing = format!("source \"{}\"", decl.name);
        let id = decision.schema.source(&decl.name).expect("the decision's schema has the program's sources");
        let recorded = store.map_or(Ok(BTreeMap::new()), |store| store.positions(id))?;
        let listed = source.partitions().map_err(|error| error.while_doing(&doing))?;
        let new = listed.iter().filter(|partition| !recorded.contains_key(*partition)).map(|partition| (partition, None));
        for (partition, from) in recorded.iter().map(|(partition, from)| (partition, Some(from))).chain(new) {
            source.check(partition, from).map_err(|error| error.while_doing(&doing))?;
        }
    }
    Ok(())
}

pub(crate) fn start(settings: &Settings, description: &Description, points: &Points) -> Result<Started> {
    let store = Store::exists(&settings.state).then(|| Store::open(&settings.state, settings.durability)).transpose()?;
    let decision = decide(store.as_ref(), settings, description)?;
    // Before anything is changed: a start that is refused for its input leaves no trace.
    if store.is_none() {
        refuse_other_content(&settings.state)?;
    }
    check_sources(store.as_ref(), &decision, description)?;
    for warning in &decision.warnings {
        tracing::warn!("{warning}");
    }
    let mut store = match store {
        Some(store) => store,
        None => Store::create(&settings.state, settings.durability)?,
    };
    points.reach(CrashPoint::RecoveryOpened)?;
    let incarnation = store.raise_incarnation()?;
    points.reach(CrashPoint::IncarnationRaised)?;
    let facts = store.facts()?;
    let publishers = claim(&store, &facts, &decision, settings, description, incarnation)?;
    points.reach(CrashPoint::SinksClaimed)?;
    let new = decision.sinks.iter().zip(&publishers).filter_map(|(start, sink)| match start {
        SinkStart::Register { at } => Some((sink.id, *at)),
        SinkStart::Resume { .. } => None,
    });
    store.register(&decision.schema, &new.collect::<Vec<_>>())?;
    points.reach(CrashPoint::Registered)?;
    Ok(Started { store, decision, incarnation, publishers })
}

/// Refuses a folder in which something else lies.
fn refuse_other_content(dir: &Path) -> Result<()> {
    let free = |entries: std::fs::ReadDir| {
        entries.filter_map(std::result::Result::ok).all(|entry| OWN_FILES.iter().any(|own| entry.file_name() == *own))
    };
    if std::fs::read_dir(dir).is_ok_and(|entries| !free(entries)) {
        return Err(Error::config(format!(
            "{} is not empty and holds no state: give a --state folder of its own, which may not exist yet",
            dir.display()
        )));
    }
    Ok(())
}

/// What a start that was cut short may have left before there was a store.
const OWN_FILES: [&str; 4] = ["lock", "mode", "mode.new", "db.new"];

fn decide(store: Option<&Store>, settings: &Settings, description: &Description) -> Result<Decision> {
    let program = Program { topology: settings.name.clone(), ..description.program.clone() };
    let recorded = store.map(Store::facts).transpose()?;
    let mut markers = Vec::new();
    for (decl, sink) in program.sinks.iter().zip(&description.sinks) {
        markers.push(if decl.exactly_once { read_marker(settings, &decl.name, &**sink)? } else { None });
    }
    resolve(&Facts { store: recorded, program, markers, assume: settings.sink_assume })
}

/// Reads a marker without claiming anything: as a run that is newer than every other.
fn read_marker(settings: &Settings, name: &str, sink: &dyn AnySink) -> Result<Option<MarkerFacts>> {
    let owner = Owner {
        topology: settings.name.clone(),
        sink: name.to_string(),
        incarnation: Incarnation { counter: u64::MAX, nonce: 0 },
    };
    let marker = sink
        .open(&owner)
        .and_then(|mut publisher| publisher.marker())
        .map_err(|error| error.while_doing(&format!("sink \"{name}\"")))?;
    Ok(marker.map(|marker| MarkerFacts { topology: marker.topology, txid: marker.txid, incarnation: marker.incarnation }))
}

fn claim(
    store: &Store,
    facts: &StoreFacts,
    decision: &Decision,
    settings: &Settings,
    description: &Description,
    incarnation: Incarnation,
) -> Result<Vec<ClaimedSink>> {
    let mut claimed = Vec::new();
    let sinks = description.program.sinks.iter().zip(&description.sinks).zip(&decision.sinks);
    for ((decl, sink), start) in sinks {
        let (SinkStart::Register { at } | SinkStart::Resume { at }) = start;
        let owner = Owner { topology: settings.name.clone(), sink: decl.name.clone(), incarnation };
        let doing = format!("sink \"{}\"", decl.name);
        let mut publisher = sink.open(&owner).map_err(|error| error.while_doing(&doing))?;
        if decl.exactly_once {
            publisher.claim(*at).map_err(|error| error.while_doing(&doing))?;
        }
        let id = decision.schema.sink(&decl.name).expect("the decision's schema has the program's sinks");
        let mut backlog_bytes = 0;
        let mut delivered = Vec::new();
        store.read_outbox(id, Txid::NONE, |txid, _, payload| {
            if txid > *at {
                backlog_bytes += payload.len();
            } else {
                delivered.push(txid);
            }
            Ok(true)
        })?;
        // The sink holds these: a crash came before the outbox knew.
        store.confirm(id, delivered);
        let last = facts.sinks.iter().find(|record| record.name == decl.name).and_then(|record| record.last).unwrap_or(*at);
        claimed.push(ClaimedSink {
            id,
            name: decl.name.clone(),
            exactly_once: decl.exactly_once,
            sink: Arc::clone(sink),
            publisher,
            owner,
            cursor: *at,
            last,
            backlog_bytes,
        });
    }
    Ok(claimed)
}

/// What the sources give to read, and how often to look for more.
pub(crate) struct Partitions {
    pub(crate) assignments: Vec<Assignment>,
    /// By source: the names that are known, and how often to look for more.
    pub(crate) known: Vec<(BTreeSet<String>, Option<Duration>)>,
}

/// Lists every partition with the position it goes on from: those that are recorded, and those that are new.
pub(crate) fn partitions(store: &Store, decision: &Decision, description: &Description) -> Result<Partitions> {
    let mut partitions = Partitions { assignments: Vec::new(), known: Vec::new() };
    let sources = description.program.sources.iter().zip(&description.sources);
    for (index, (decl, source)) in sources.enumerate() {
        let source: &Arc<dyn AnySource> = source;
        let id = decision.schema.source(&decl.name).expect("the decision's schema has the program's sources");
        let recorded = store.positions(id)?;
        let mut known: BTreeSet<String> = recorded.keys().cloned().collect();
        let listed = source.partitions().map_err(|error| error.while_doing(&format!("source \"{}\"", decl.name)))?;
        for (partition, position) in recorded {
            partitions.assignments.push(Assignment { source: index, partition, from: Some(position) });
        }
        for partition in listed {
            if known.insert(partition.clone()) {
                partitions.assignments.push(Assignment { source: index, partition, from: None });
            }
        }
        partitions.known.push((known, source.discover_every()));
    }
    Ok(partitions)
}
