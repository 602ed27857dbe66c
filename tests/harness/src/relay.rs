//! A topology from a topic to a topic through the proxy, fed by hand, and the recount of what must
//! have come of it.

use super::broker::Broker;
use super::proxy::{Api, Proxy, Which};
use super::topics::{create_topic, produce, read_committed};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tidemill::kafka::Message;
use tidemill::prelude::*;
use tidemill::{Engine, Settings, SinkStatus, Status, Store};
use tidemill_state::{codec, keys};

/// How long anything may take: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many records are fed at once: some for each partition.
const AT_ONCE: u64 = 20;

/// How many groups the records are counted in.
const GROUPS: u64 = 7;

/// A broker behind a proxy.
pub struct Behind {
    /// The broker.
    pub broker: Broker,
    /// The proxy before it.
    pub proxy: Proxy,
}

impl Behind {
    /// The one of all tests in this process. Each uses topics and transactions of its own.
    pub fn shared() -> &'static Behind {
        static SHARED: OnceLock<Behind> = OnceLock::new();
        SHARED.get_or_init(|| {
            let proxy = Proxy::listen();
            let broker = Broker::with().proxied(proxy.port()).start();
            proxy.forward_to(broker.proxied_address());
            Behind { broker, proxy }
        })
    }
}

/// What a sink asks of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A session.
    Session,
    /// That partitions be in the transaction.
    Partitions,
    /// That output be written, to any partition of the topic.
    Output,
    /// That output be written to the second partition.
    SecondOutput,
    /// That the marker be written.
    Marker,
    /// That the transaction be committed.
    Commit,
}

/// A topology that copies numbers from a topic to another, by one or several sinks, and counts them
/// in a state.
pub struct Relay {
    /// Its topology's name.
    pub name: String,
    /// The names of its sinks.
    pub sinks: Vec<&'static str>,
    /// Whether its sinks throw away a producer whose commit may have been sent twice.
    pub guarded: bool,
    /// The sinks' settings of librdkafka.
    pub settings: Vec<(&'static str, &'static str)>,
    folder: tempfile::TempDir,
    fed: u64,
    engine: Option<Engine>,
}

impl Relay {
    /// A relay with a topology and sinks of these names.
    pub fn new(name: &str, sinks: &[&'static str]) -> Relay {
        let brokers = Behind::shared().broker.address();
        let folder = tempfile::tempdir_in(crate::checkout::scratch())
            .expect("the target folder can be written");
        create_topic(&brokers, &format!("{name}-in"), 2, &[]);
        create_topic(&brokers, &format!("{name}-out"), 2, &[]);
        Relay {
            name: name.to_string(),
            sinks: sinks.to_vec(),
            guarded: true,
            settings: Vec::new(),
            folder,
            fed: 0,
            engine: None,
        }
    }

    /// Requests of one of its sinks.
    pub fn which(&self, sink: &str, asked: Asked) -> Which {
        let output = Some(format!("{}-out", self.name));
        let marker = Some(format!("{}.{sink}.progress", self.name));
        let (api, topic, partition) = match asked {
            Asked::Session => (Api::InitProducerId, None, None),
            Asked::Partitions => (Api::AddPartitionsToTxn, None, None),
            Asked::Output => (Api::Produce, output, None),
            Asked::SecondOutput => (Api::Produce, output, Some(1)),
            Asked::Marker => (Api::Produce, marker, None),
            Asked::Commit => (Api::EndTxn, None, None),
        };
        Which { transaction: format!("{}.{sink}", self.name), api, topic, partition }
    }

    /// Puts some more numbers into the topic.
    pub fn feed(&mut self) {
        let numbers: Vec<String> =
            (self.fed..self.fed + AT_ONCE).map(|number| number.to_string()).collect();
        self.fed += AT_ONCE;
        let messages = (0..2)
            .cycle()
            .zip(&numbers)
            .map(|(partition, number)| (partition, None, Some(number.as_str())));
        produce(
            &Behind::shared().broker.address(),
            &format!("{}-in", self.name),
            &messages.collect::<Vec<_>>(),
        );
    }

    /// Starts the relay.
    pub fn start(&mut self) {
        let kafka = Kafka::new(Behind::shared().proxy.address());
        let out = self
            .settings
            .iter()
            .fold(kafka.clone(), |kafka, (name, value)| kafka.set(*name, *value));
        let (name, sinks, guarded) = (self.name.clone(), self.sinks.clone(), self.guarded);
        let build = move |topology: &Topology<'_>| {
            let numbers = topology.source("in", kafka.source([format!("{name}-in")]).utf8());
            for sink in &sinks {
                let sink = *sink;
                let topic = out.sink(format!("{name}-out"), move |number: &Str| {
                    let partition = i32::from(number.ends_with(['1', '3', '5', '7', '9']));
                    Message::new().value(said_by(sink, number)).partition(partition)
                });
                numbers
                    .clone()
                    .sink(sink, if guarded { topic } else { topic.trusting_every_commit() });
            }
            let group = |number: &Str| {
                number
                    .parse::<u64>()
                    .map(|number| number % GROUPS)
                    .map_err(|why| Error::user_code(why.to_string()))
            };
            numbers
                .try_map(move |number| group(&number))
                .group_by(|group| *group)
                .persistent_aggregate("counts", Count);
        };
        let settings = Settings {
            workers: 2,
            disk_reserve: 0,
            ..Settings::new(&self.name, self.folder.path().join("state"))
        };
        self.engine = Some(
            Engine::start(settings, build).unwrap_or_else(|why| panic!("{}: {why}", self.name)),
        );
    }

    /// Waits until the status is as wanted.
    #[track_caller]
    pub fn wait(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let engine = self.engine.as_ref().expect("it runs");
        let until = Instant::now() + PATIENCE;
        loop {
            let status = engine.runtime().status();
            if wanted(&status) {
                return status;
            }
            assert!(
                !engine.is_over() && Instant::now() < until,
                "{}: it stays {status:#?}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until everything is counted, and this sink has it all.
    #[track_caller]
    pub fn wait_for(&self, sink: &str) -> SinkStatus {
        let status = self
            .wait(|status| status.records == self.fed && sink_of(status, sink).backlog_bytes == 0);
        sink_of(&status, sink).clone()
    }

    /// Waits until every sink has everything, and stops.
    #[track_caller]
    pub fn finish(&mut self) {
        self.sinks.iter().for_each(|sink| drop(self.wait_for(sink)));
        let engine = self.engine.take().expect("it runs");
        engine.stop();
        engine.wait().unwrap_or_else(|why| panic!("{}: {why}", self.name));
    }

    /// Counts again: what is wrong with the output, and with the state, of a relay that has
    /// stopped.
    pub fn recount(&self) -> Wrong {
        let mut times: BTreeMap<String, usize> = self
            .sinks
            .iter()
            .flat_map(|sink| (0..self.fed).map(|number| (said_by(sink, &number.to_string()), 0)))
            .collect();
        for message in
            read_committed(&Behind::shared().broker.address(), &format!("{}-out", self.name))
        {
            let said = message.value.expect("a number");
            *times
                .get_mut(&said)
                .unwrap_or_else(|| panic!("{}: nobody can have said {said}", self.name)) += 1;
        }
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        (0..self.fed).for_each(|number| *counts.entry(number % GROUPS).or_default() += 1);
        assert_eq!(self.counts(), counts, "{}: the state", self.name);
        let those = |wrong: fn(usize) -> bool| {
            times.iter().filter(|(_, times)| wrong(**times)).map(|(said, _)| said.clone()).collect()
        };
        Wrong { lost: those(|times| times == 0), doubled: those(|times| times > 1) }
    }

    fn counts(&self) -> BTreeMap<u64, u64> {
        let store = Store::inspect(&self.folder.path().join("state")).expect("it has stopped");
        let id = store
            .facts()
            .expect("the store can be read")
            .schema
            .state("counts")
            .expect("it has this state");
        let mut counts = BTreeMap::new();
        let scanned = store.scan(id, |key, value| {
            counts.insert(keys::decode_key(key)?, codec::decode(value)?);
            Ok(true)
        });
        scanned.expect("the store can be read");
        counts
    }
}

/// One sink's status.
pub fn sink_of<'a>(status: &'a Status, sink: &str) -> &'a SinkStatus {
    status.sinks.iter().find(|status| status.name == sink).expect("the topology has this sink")
}

fn said_by(sink: &str, number: &str) -> String {
    format!("{sink}-{number}")
}

/// What a read_committed consumer sees that is not as it must be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// The values that are missing.
    pub lost: Vec<String>,
    /// The values that are there more than once.
    pub doubled: Vec<String>,
}
