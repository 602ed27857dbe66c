//! A start: read the facts, decide, carry the decision out. The decision itself is
//! [`tidemill_state::resolve`].

use crate::batch::feed::Assignment;
use crate::batch::outlets::SinkStatus;
use crate::batch::publish::not_settled;
use crate::dataflow::topology::Description;
use crate::ids::SourceIndex;
use crate::run::migrate;
use crate::settings::Settings;
use crate::sink::{AnySink, Marker, Owner, Publisher};
use crate::source::{self, AnySource, StartFacts};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidemill_state::resolve::{
    Decision, Facts, MarkerFacts, SinkStart, StoreFacts, resolve, resolve_one,
};
use tidemill_state::schema::Program;
use tidemill_state::store::format::STORE_FORMAT;
use tidemill_state::{
    CrashPoint, Error, Incarnation, Kind, Points, Position, Result, SinkId, SourceId, StateId,
    Store, Txid, system,
};

/// A store that is ready to run on: its sinks are claimed, everything is recorded.
pub(crate) struct StartedStore {
    pub(crate) store: Store,
    pub(crate) decision: Decision,
    pub(crate) incarnation: Incarnation,
    /// In the program's order.
    pub(crate) publishers: Vec<ClaimedSink>,
    /// For the first generation.
    pub(crate) listing: SourcePlan,
    /// The topology's external name.
    pub(crate) known_as: String,
    /// The format that the store had before this start, if it was an earlier one.
    pub(crate) upgraded_from: Option<u32>,
}

impl StartedStore {
    /// The decision, and whether the store's format was raised.
    pub(crate) fn in_words(&self) -> String {
        let upgrade = |from| format!("; store upgraded from format {from} to {STORE_FORMAT}");
        format!("{}{}", self.decision, self.upgraded_from.map_or(String::new(), upgrade))
    }
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

impl ClaimedSink {
    /// Returns the sink's status before it publishes anything.
    pub(crate) fn status(&self) -> SinkStatus {
        SinkStatus {
            name: self.name.clone(),
            published: self.cursor,
            backlog_bytes: self.backlog_bytes,
            id: Some(self.id),
            // What is in the outbox after the cursor is published as soon as the run begins.
            last_output: if self.backlog_bytes > 0 { self.last } else { self.cursor },
            ..SinkStatus::default()
        }
    }
}

/// Would this program start on the store in `dir`? The decision, without changing anything or
/// waiting for what is away.
///
/// # Errors
/// The start would be refused, or something that it would wait for is away (kind Unreachable).
pub(crate) fn check(settings: &Settings, description: &Description) -> Result<Decision> {
    let program = ProgramAtStart { settings, description, known_as: settings.name.clone() };
    if !Store::exists(&settings.state)? {
        let decision = program.decide(None)?;
        refuse_other_content(&settings.state)?;
        return program.list(None, &decision).map(|listing| listing.warn(decision));
    }
    let store = Store::inspect(&settings.state)?;
    let program =
        ProgramAtStart { known_as: store.known_as()?.unwrap_or(program.known_as), ..program };
    let checked = program.decide(Some(&store)).and_then(|decision| {
        read_through(&store, &decision, description)?;
        migrate::convert(&store, &decision.migration, description)?;
        let listing = program.list(Some(&store), &decision)?;
        let mut decision = listing.warn(decision);
        if store.format() < STORE_FORMAT {
            let from = store.format();
            decision.warnings.push(format!(
                "the start upgrades the store from format {from} to {STORE_FORMAT}: no older \
                 version of Tidemill may run on it afterwards"
            ));
        }
        Ok(decision)
    });
    // No run has begun on it, so its mode stays as the last run left it.
    store.close(&Points::none())?;
    checked
}

/// Reads what the workers of a run would load, as they would: damage in it is found here too. What
/// migrations convert or drop is read as bytes alone.
fn read_through(store: &Store, decision: &Decision, description: &Description) -> Result<()> {
    let codec_of = |id: StateId| {
        let name = decision
            .schema
            .states
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, state)| &state.name)?;
        description.codecs.iter().find(|codec| codec.decl().name == *name)
    };
    let states: Vec<StateId> = store.facts()?.schema.states.into_iter().map(|(id, _)| id).collect();
    let codecs: Vec<_> = states.iter().map(|id| (*id, codec_of(*id))).collect();
    let read = |id: StateId, key: &[u8], value: Option<&[u8]>| match codecs
        .iter()
        .find(|(known, _)| *known == id)
    {
        Some((_, Some(codec))) => codec.read_row(key, value),
        _ => Ok(()),
    };
    store.read_committed(&states, |_| true, read)
}

/// Opens or makes the store, decides, claims the sinks, and records what is new. Waits for what is
/// away.
pub(crate) fn start(
    settings: &Settings,
    description: &Description,
    points: &Arc<Points>,
) -> Result<StartedStore> {
    let store = Store::exists(&settings.state)?
        .then(|| Store::open(&settings.state, settings.durability))
        .transpose()?;
    let waits = &settings.starting;
    let recorded = store.as_ref().map(Store::known_as).transpose()?.flatten();
    let fresh = (store.is_none() && settings.start_over)
        .then(|| format!("{}-{:08x}", settings.name, rand::random::<u32>()));
    let known_as = recorded.or_else(|| fresh.clone()).unwrap_or_else(|| settings.name.clone());
    let program = ProgramAtStart { settings, description, known_as };
    let decision = waits.retry_while_away(|| program.decide(store.as_ref()))?;
    // Before anything is changed: a start that is refused for its input leaves no trace.
    if store.is_none() {
        refuse_other_content(&settings.state)?;
    }
    let listing = waits.retry_while_away(|| program.list(store.as_ref(), &decision))?;
    for warning in decision.warnings.iter().chain(&listing.warnings) {
        tracing::warn!("{warning}");
    }
    let converted = store
        .as_ref()
        .map(|store| migrate::convert(store, &decision.migration, description))
        .transpose()?;
    let mut store = match store {
        Some(store) => store,
        None => Store::create(&settings.state, settings.durability, fresh.as_deref())?,
    };
    points.reach(CrashPoint::RecoveryOpened)?;
    let incarnation = store.raise_incarnation(points)?;
    points.reach(CrashPoint::IncarnationRaised)?;
    let upgraded_from = store.upgrade(points)?;
    migrate::make(&store, &decision.migration, &converted.unwrap_or_default(), points)?;
    let claiming = SinkTakeover {
        store: &store,
        facts: store.facts()?,
        program: &program,
        incarnation,
        points,
    };
    let publishers = claiming.all(&decision)?;
    points.reach(CrashPoint::SinksClaimed)?;
    let new: Vec<(SinkId, Txid)> = publishers
        .iter()
        .filter(|(_, registers)| *registers)
        .map(|(sink, _)| (sink.id, sink.cursor))
        .collect();
    store.register(
        &decision.schema,
        &decision.migration,
        &new,
        &listing.moved,
        &listing.retired,
    )?;
    points.reach(CrashPoint::Registered)?;
    let publishers = publishers.into_iter().map(|(sink, _)| sink).collect();
    let known_as = program.known_as;
    Ok(StartedStore { store, decision, incarnation, publishers, listing, known_as, upgraded_from })
}

/// Refuses a folder in which something else lies.
fn refuse_other_content(dir: &Path) -> Result<()> {
    let free = |entries: std::fs::ReadDir| {
        entries
            .filter_map(std::result::Result::ok)
            .all(|entry| OWN_FILES.iter().any(|own| entry.file_name() == *own))
    };
    let listed = match std::fs::read_dir(dir) {
        Err(why) if !system::leads_nowhere(&why) => {
            return Err(system::error(
                format!("nothing was changed, but {} cannot be looked into", dir.display()),
                &why,
            ));
        }
        listed => listed,
    };
    if listed.is_ok_and(|entries| !free(entries)) {
        return Err(Error::config(format!(
            "{} is not empty and holds no state: give a --state folder of its own, which may not \
             exist yet",
            dir.display()
        )));
    }
    Ok(())
}

/// The files that a start that was cut short may have left before there was a store.
const OWN_FILES: [&str; 4] = ["lock", "mode", "mode.new", "db.new"];

/// A program with the settings of a run, and what it is called outside: by markers, transactions
/// and consumer groups.
pub(crate) struct ProgramAtStart<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) description: &'a Description,
    pub(crate) known_as: String,
}

impl ProgramAtStart<'_> {
    fn program(&self) -> Program {
        Program { topology: self.settings.name.clone(), ..self.description.program.clone() }
    }

    /// Reads the markers, without claiming anything, and decides.
    fn decide(&self, store: Option<&Store>) -> Result<Decision> {
        let program = self.program();
        let (mut markers, mut settled) = (Vec::new(), true);
        for (decl, sink) in program.sinks.iter().zip(&self.description.sinks) {
            if decl.exactly_once {
                let (marker, is_settled) = self.read_marker(&decl.name, &**sink)?;
                markers.push(marker);
                settled &= is_settled;
            } else {
                markers.push(None);
            }
        }
        let recorded = store.map(Store::facts).transpose()?;
        let (assume, known_as) = (self.settings.sink_assume, self.known_as.clone());
        let decided = resolve(&Facts { store: recorded, program, markers, assume, known_as });
        decided.map_err(|error| {
            if error.kind() == Kind::Sink && !settled { not_settled(&error) } else { error }
        })
    }

    /// Reads a marker as a run that is newer than every other. Says also whether it is sure that
    /// nothing newer was committed.
    fn read_marker(&self, name: &str, sink: &dyn AnySink) -> Result<(Option<MarkerFacts>, bool)> {
        let owner = Owner {
            topology: self.known_as.clone(),
            sink: name.to_string(),
            incarnation: Incarnation { counter: u64::MAX, nonce: 0 },
            points: Arc::default(),
        };
        let read = sink.open(&owner).and_then(|mut publisher| {
            // Asked first: what is committed by then is in the marker that is read after it.
            let settled = publisher.is_settled()?;
            Ok((publisher.marker()?.map(marker_facts), settled))
        });
        read.map_err(|error| error.while_doing(&format!("sink \"{name}\"")))
    }

    /// Lists every partition with the position at which it continues: those that are recorded, and
    /// those that are new.
    pub(crate) fn list(&self, store: Option<&Store>, decision: &Decision) -> Result<SourcePlan> {
        let mut listing = SourcePlan::default();
        let sources = self.description.program.sources.iter().zip(&self.description.sources);
        let before = store.map(Store::schema).transpose()?.unwrap_or_default();
        for (index, (decl, source)) in sources.enumerate() {
            let source: &Arc<dyn AnySource> = source;
            let doing = format!("source \"{}\"", decl.name);
            let id = decision
                .schema
                .source(&decl.name)
                .expect("the decision's schema has the program's sources");
            let recorded = store.map_or(Ok(BTreeMap::new()), |store| store.positions(id))?;
            let start = source::Start {
                topology: &self.known_as,
                is_new: store.is_none() && !self.settings.start_over,
                begun: before.sources.iter().any(|(known, _)| *known == id),
                recorded: &recorded,
                first: self.settings.first,
                on_loss: self.settings.on_loss,
                to_end: self.settings.to_end,
            };
            let begun = source.begin(&start).map_err(|error| error.while_doing(&doing))?;
            if self.settings.to_end && !source.is_bounded() {
                return Err(Error::config(format!(
                    "{doing} never comes to an end, so a run that exits at the end of its sources \
                     would never exit: leave --exit-at-end out, or give the source an end"
                )));
            }
            listing.facts.push(begun.facts);
            listing
                .warnings
                .extend(begun.warnings.into_iter().map(|warning| format!("{doing}: {warning}")));
            listing.retired.extend(begun.retired.iter().map(|partition| (id, partition.clone())));
            // One that was read before and is left out does not join as a new one.
            let left_out =
                recorded.iter().filter(|(partition, _)| !begun.retired.contains(partition));
            let left_out =
                left_out.map(|(partition, position)| (partition.clone(), Some(position.clone())));
            let known = left_out.chain(begun.partitions.iter().cloned()).collect();
            for (partition, from) in begun.partitions {
                if let Some(from) =
                    from.as_ref().filter(|from| recorded.get(&partition) != Some(from))
                {
                    listing.moved.push((id, partition.clone(), from.clone()));
                }
                listing.assignments.push(Assignment {
                    source: SourceIndex(index),
                    partition,
                    from,
                });
            }
            listing.known.push((known, source.discover_every()));
        }
        Ok(listing)
    }
}

fn marker_facts(marker: Marker) -> MarkerFacts {
    MarkerFacts { topology: marker.topology, txid: marker.txid, incarnation: marker.incarnation }
}

/// Takes the sinks over, one after the other.
struct SinkTakeover<'a> {
    store: &'a Store,
    facts: StoreFacts,
    program: &'a ProgramAtStart<'a>,
    incarnation: Incarnation,
    points: &'a Arc<Points>,
}

impl SinkTakeover<'_> {
    /// Claims every sink, and says which of them is to be recorded as registered.
    fn all(&self, decision: &Decision) -> Result<Vec<(ClaimedSink, bool)>> {
        let mut claimed = Vec::new();
        for (index, start) in decision.sinks.iter().enumerate() {
            claimed.push(
                self.program
                    .settings
                    .starting
                    .retry_while_away(|| self.one(decision, index, start))?,
            );
        }
        Ok(claimed)
    }

    fn one(
        &self,
        decision: &Decision,
        index: usize,
        start: &SinkStart,
    ) -> Result<(ClaimedSink, bool)> {
        let (decl, sink) = (
            &self.program.description.program.sinks[index],
            &self.program.description.sinks[index],
        );
        let owner = Owner {
            topology: self.program.known_as.clone(),
            sink: decl.name.clone(),
            incarnation: self.incarnation,
            points: Arc::clone(self.points),
        };
        let doing =
            |error: tidemill_state::Error| error.while_doing(&format!("sink \"{}\"", decl.name));
        let mut publisher = sink.open(&owner).map_err(doing)?;
        let mut start = start.clone();
        if decl.exactly_once {
            // Until here an older run may have published on: only now is its marker final, and only
            // now is it decided.
            let marker = publisher.take_over().map_err(doing)?.map(marker_facts);
            start = self.decide_again(index, marker)?;
            publisher.claim(at(&start)).map_err(doing)?;
        }
        let at = at(&start);
        let id = decision
            .schema
            .sink(&decl.name)
            .expect("the decision's schema has the program's sinks");
        let mut backlog_bytes = 0;
        let mut delivered = Vec::new();
        self.store.read_outbox(id, Txid::NONE, |txid, _, payload| {
            if txid > at {
                backlog_bytes += payload.len();
            } else {
                delivered.push(txid);
            }
            Ok(true)
        })?;
        // The sink holds these: a crash came before the outbox knew.
        self.store.confirm(id, delivered);
        let record = self.facts.sinks.iter().find(|record| record.name == decl.name);
        let claimed = ClaimedSink {
            id,
            name: decl.name.clone(),
            exactly_once: decl.exactly_once,
            sink: Arc::clone(sink),
            publisher,
            owner,
            cursor: at,
            last: record.and_then(|record| record.last).unwrap_or(at),
            backlog_bytes,
        };
        Ok((claimed, matches!(start, SinkStart::Register { .. })))
    }

    /// Returns the action of the start for a sink with this final marker.
    fn decide_again(&self, index: usize, marker: Option<MarkerFacts>) -> Result<SinkStart> {
        let ProgramAtStart { settings, known_as, .. } = self.program;
        let program = self.program.program();
        let program = Program { sinks: vec![program.sinks[index].clone()], ..program };
        // This run's own claim counts too: the one before may have failed after it was written.
        let mut store = self.facts.clone();
        store.incarnations.push(self.incarnation);
        let (assume, known_as) = (settings.sink_assume, known_as.clone());
        resolve_one(&Facts { store: Some(store), program, markers: vec![marker], assume, known_as })
    }
}

fn at(start: &SinkStart) -> Txid {
    let (SinkStart::Register { at } | SinkStart::Resume { at }) = start;
    *at
}

/// A source's partitions by name, with the position at which each was begun.
pub(crate) type KnownPartitions = BTreeMap<String, Option<Position>>;

/// The partitions that the sources give to read, and the intervals at which to look for more.
#[derive(Default)]
pub(crate) struct SourcePlan {
    pub(crate) assignments: Vec<Assignment>,
    /// By source: the partitions that are known, and how often to look for more.
    pub(crate) known: Vec<(KnownPartitions, Option<Duration>)>,
    /// By source: the facts for the instances that read it.
    pub(crate) facts: Vec<Option<StartFacts>>,
    /// The start positions of partitions that do not begin where they are recorded.
    pub(crate) moved: Vec<(SourceId, String, Position)>,
    /// Partitions whose positions are removed.
    pub(crate) retired: Vec<(SourceId, String)>,
    pub(crate) warnings: Vec<String>,
}

impl SourcePlan {
    fn warn(self, mut decision: Decision) -> Decision {
        decision.warnings.extend(self.warnings);
        decision
    }
}
