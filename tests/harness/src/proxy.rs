//! A proxy of the tests' own between Kafka's clients and a broker, that holds, loses, delays or
//! doubles chosen requests.
//!
//! It reads what goes over its connections request by request. Those that a [`Trap`] waits for meet
//! their [`Fate`]; everything else passes. It stands alone, beside `broker.rs`: a broker started
//! with `Setup::proxied` tells its clients that it is where the proxy listens.

pub use crate::frames::Api;
use crate::frames::{Request, framed, number_of};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

/// How long anything may take: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Set in the number of a request's copy, so that its answer is not taken for the first one's.
/// Clients count from 1.
const COPY: i32 = 1 << 30;

/// What becomes of a request that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is kept until it is let go on. What comes after it passes, as if it went to another
    /// broker.
    Hold,
    /// It is kept, and its connection is cut. The client sends it again; this one can still be
    /// delivered.
    Lose,
    /// It reaches the broker. Its answer does not come back: the connection is cut instead.
    LoseAnswer,
    /// It reaches the broker after so many milliseconds, and everything behind it on its connection
    /// too.
    Delay(u64),
    /// It reaches the broker, and directly behind it a copy, whose answer nobody sees.
    Twice,
}

/// Which requests are meant.
#[derive(Clone, Debug)]
pub struct Which {
    /// The transactional id; empty for requests that have none.
    pub transaction: String,
    /// The kind of the requests that meet it.
    pub api: Api,
    /// Only those for a partition of this topic, if one is named.
    pub topic: Option<String>,
    /// Only those for this partition, if one is named.
    pub partition: Option<i32>,
}

impl Which {
    fn is_met_by(&self, request: &Request) -> bool {
        let of_topic = |(topic, partition): &(String, i32)| {
            self.topic.as_ref().is_none_or(|wanted| wanted == topic)
                && self.partition.is_none_or(|wanted| wanted == *partition)
        };
        let anywhere = self.topic.is_none() && self.partition.is_none();
        request.api == self.api
            && request.transaction.as_deref().unwrap_or_default() == self.transaction
            && (anywhere || request.partitions.iter().any(of_topic))
    }
}

/// A proxy. It goes on for as long as the process does.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Where the broker is.
    broker: OnceLock<String>,
    seen: Mutex<Seen>,
    /// Something in `seen` has changed.
    changed: Condvar,
}

/// What has come, and what is waited for.
#[derive(Default)]
struct Seen {
    /// In the order in which they came; with whether the client has its answer. Of those that are
    /// understood only.
    requests: Vec<(Request, bool)>,
    traps: Vec<(Which, Fate, Slot)>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder of this lock panics")
    }

    /// Waits until `found` finds something.
    #[track_caller]
    fn wait<T>(&self, what: &dyn std::fmt::Debug, found: impl Fn(&Seen) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.seen();
        loop {
            if let Some(found) = found(&seen) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Said after the lock is given back: a panic that holds it would stop the other
                // tests too.
                let requests =
                    format!("{:#?}", seen.requests.iter().rev().take(20).collect::<Vec<_>>());
                drop(seen);
                panic!("this did not come: {what:?}; the last were, from the last on, {requests}");
            }
            seen = self.changed.wait_timeout(seen, left).expect("no holder of this lock panics").0;
        }
    }
}

impl Proxy {
    /// A proxy on a free port. Its clients wait until it is told where the broker is.
    pub fn listen() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::<Shared>::default();
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || serve(client, &shared));
            }
        });
        Proxy { port, shared }
    }

    /// Returns the port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Says where the broker is.
    pub fn forward_to(&self, broker: String) {
        self.shared.broker.set(broker).expect("it is told once");
    }

    /// Waits for the next such request, which then meets its fate. Of several traps for one request
    /// the one that was set first catches it.
    pub fn trap(&self, which: Which, fate: Fate) -> Trap {
        let caught = Arc::default();
        self.shared.seen().traps.push((which.clone(), fate, Arc::clone(&caught)));
        Trap { which, caught, shared: Arc::clone(&self.shared) }
    }

    /// How many requests have come so far, for [`Proxy::count`].
    pub fn now(&self) -> usize {
        self.shared.seen().requests.len()
    }

    /// Waits until such a request is answered that came after the last EndTxn of its producer: one
    /// of the transaction that is open now.
    #[track_caller]
    pub fn wait_for_answer(&self, which: &Which) {
        let ends = Which { api: Api::EndTxn, topic: None, partition: None, ..which.clone() };
        self.shared.wait(which, |seen| {
            let mut open =
                seen.requests.iter().rev().take_while(|(request, _)| !ends.is_met_by(request));
            open.any(|(request, answered)| *answered && which.is_met_by(request)).then_some(())
        });
    }

    /// How many such requests came after `since`.
    pub fn count(&self, since: usize, which: &Which) -> usize {
        let seen = self.shared.seen();
        seen.requests
            .get(since..)
            .unwrap_or_default()
            .iter()
            .filter(|(request, _)| which.is_met_by(request))
            .count()
    }
}

/// One request that is waited for.
pub struct Trap {
    which: Which,
    caught: Slot,
    shared: Arc<Shared>,
}

/// Where a trap finds what it has caught.
type Slot = Arc<Mutex<Option<Caught>>>;

/// A request that was caught, and the connection on which it came.
#[derive(Clone)]
struct Caught {
    request: Request,
    at: usize,
    connection: Arc<Connection>,
}

impl Trap {
    /// Waits until it has come.
    #[track_caller]
    pub fn wait(&self) {
        self.caught();
    }

    /// Lets a request that is held go on, on its own connection.
    #[track_caller]
    pub fn release(self) {
        let caught = self.caught();
        caught.connection.expect(caught.request.number, Awaited::Pass(caught.at));
        // It fails if the client is gone, which is as well.
        let _ = caught.connection.send(&caught.request);
    }

    /// Brings a request that was held or lost to the broker now, on a connection of its own,
    /// whatever has become of the client's. Gives the broker's error, 0 for none.
    #[track_caller]
    pub fn deliver(self) -> i16 {
        let caught = self.caught();
        let broker = self.shared.broker.get().expect("a request has come, so there is a broker");
        let mut stream = TcpStream::connect(broker).expect("the broker takes connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a time-out");
        stream.write_all(&caught.request.framed()).expect("the broker takes a request");
        let answer = read_frame(&mut stream).expect("the broker answers");
        caught.request.error_in(&answer)
    }

    #[track_caller]
    fn caught(&self) -> Caught {
        self.shared.wait(&self.which, |_| {
            self.caught.lock().expect("no holder of this lock panics").clone()
        })
    }
}

/// A client's connection and the one that goes on to the broker.
struct Connection {
    client: TcpStream,
    broker: TcpStream,
    /// Held while a request is written to the broker.
    writing: Mutex<()>,
    /// What is to be done with answers, by number. Those of requests that are not understood pass.
    awaited: Mutex<HashMap<i32, Awaited>>,
}

/// What is to be done with an answer.
#[derive(Clone, Copy)]
enum Awaited {
    /// It goes to the client. That came as so-manieth request.
    Pass(usize),
    /// Nobody sees it.
    Drop,
    /// The connection is cut.
    Cut,
}

impl Connection {
    fn expect(&self, number: i32, awaited: Awaited) {
        self.awaited.lock().expect("no holder of this lock panics").insert(number, awaited);
    }

    fn send(&self, request: &Request) -> std::io::Result<()> {
        let _writing = self.writing.lock().expect("no holder of this lock panics");
        (&self.broker).write_all(&request.framed())
    }

    /// Both ends see it closed. It fails if it is closed already, which is as well.
    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.broker.shutdown(Shutdown::Both);
    }
}

/// Goes between a client and the broker until one of them closes.
fn serve(client: TcpStream, shared: &Arc<Shared>) {
    let Ok(broker) = TcpStream::connect(shared.broker.wait()) else { return };
    for stream in [&client, &broker] {
        // Without this a small request waits for the acknowledgement of the one before it.
        let _ = stream.set_nodelay(true);
    }
    let connection = Arc::new(Connection {
        client,
        broker,
        writing: Mutex::default(),
        awaited: Mutex::default(),
    });
    let (answering, told) = (Arc::clone(&connection), Arc::clone(shared));
    std::thread::spawn(move || {
        while let Some(answer) = read_frame(&mut &answering.broker) {
            if !pass_answer(&answering, &told, &answer) {
                break;
            }
        }
        answering.cut();
    });
    while let Some(bytes) = read_frame(&mut &connection.client) {
        if !pass_request(&connection, shared, Request::read(bytes)) {
            break;
        }
    }
    connection.cut();
}

/// Does with a request what is to be done. Gives whether the connection goes on.
fn pass_request(connection: &Arc<Connection>, shared: &Shared, request: Request) -> bool {
    if request.api == Api::Other {
        return connection.send(&request).is_ok();
    }
    let (at, fate) = {
        let mut seen = shared.seen();
        let at = seen.requests.len();
        seen.requests.push((request.clone(), false));
        let trap = seen.traps.iter().position(|(which, _, _)| which.is_met_by(&request));
        let fate = trap.map(|trap| {
            let (_, fate, caught) = seen.traps.remove(trap);
            let connection = Arc::clone(connection);
            *caught.lock().expect("no holder of this lock panics") =
                Some(Caught { request: request.clone(), at, connection });
            fate
        });
        (at, fate)
    };
    shared.changed.notify_all();
    let number = request.number;
    match fate {
        Some(Fate::Hold) => return true,
        Some(Fate::Lose) => return false,
        Some(Fate::LoseAnswer) => connection.expect(number, Awaited::Cut),
        Some(Fate::Delay(ms)) => {
            std::thread::sleep(Duration::from_millis(ms));
            connection.expect(number, Awaited::Pass(at));
        }
        Some(Fate::Twice) => {
            connection.expect(number, Awaited::Pass(at));
            connection.expect(number | COPY, Awaited::Drop);
            let both = connection
                .send(&request)
                .and_then(|()| connection.send(&request.renumbered(number | COPY)));
            return both.is_ok();
        }
        None => connection.expect(number, Awaited::Pass(at)),
    }
    connection.send(&request).is_ok()
}

/// Does with an answer what is to be done. Gives whether the connection goes on.
fn pass_answer(connection: &Connection, shared: &Shared, answer: &[u8]) -> bool {
    let awaited = connection
        .awaited
        .lock()
        .expect("no holder of this lock panics")
        .remove(&number_of(answer));
    match awaited {
        Some(Awaited::Drop) => return true,
        Some(Awaited::Cut) => return false,
        Some(Awaited::Pass(at)) => {
            let passed = (&connection.client).write_all(&framed(answer)).is_ok();
            shared.seen().requests[at].1 = passed;
            shared.changed.notify_all();
            return passed;
        }
        None => {}
    }
    (&connection.client).write_all(&framed(answer)).is_ok()
}

/// The next request or answer, without the length in front. None if the connection is closed.
fn read_frame(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let mut bytes =
        vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length is positive")];
    from.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
