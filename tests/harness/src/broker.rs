//! A real Kafka broker of a test's own: started on free ports, killed, paused and started again on
//! the same data, and never left behind.
//!
//! It stands alone: a test of any crate takes it in by its path.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a broker may take to start or to stop: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// How many of its last log lines a failure shows.
const LINES_SHOWN: usize = 60;

/// What a broker is to be, before it starts.
#[derive(Debug, Default)]
pub struct Setup {
    proxy: Option<u16>,
    user: Option<(String, String)>,
    properties: Vec<String>,
}

impl Setup {
    /// Adds a listener for a proxy. Who connects to it is told that the broker is at `port` of this
    /// machine, which is where the proxy listens; the proxy goes on to [`Broker::proxied_address`].
    pub fn proxied(mut self, port: u16) -> Setup {
        self.proxy = Some(port);
        self
    }

    /// Adds a listener that wants this user and password (SASL/PLAIN, no encryption).
    pub fn sasl(mut self, user: &str, password: &str) -> Setup {
        self.user = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Sets one of the broker's properties.
    pub fn set(mut self, name: &str, value: &str) -> Setup {
        self.properties.push(format!("{name}={value}"));
        self
    }

    /// Starts the broker, and waits until it answers.
    pub fn start(self) -> Broker {
        let folder =
            tempfile::Builder::new().prefix("kafka").tempdir_in(crate::checkout::scratch());
        let folder = folder.expect("the target folder can be written");
        let mut broker = Broker { setup: self, ports: free_ports(), folder, running: None };
        fetch_libs();
        broker.restart();
        broker
    }
}

/// A broker. Dropping it kills it; if the test's process is killed, the broker is too.
pub struct Broker {
    setup: Setup,
    ports: [u16; 4],
    folder: tempfile::TempDir,
    running: Option<Running>,
}

/// The process of a broker.
struct Running {
    child: Child,
    /// The broker is killed, and its data removed, when this closes before it has ended.
    _lifeline: ChildStdin,
}

impl Broker {
    /// A broker with one listener, that answers.
    pub fn start() -> Broker {
        Broker::with().start()
    }

    /// A broker that is to have more.
    pub fn with() -> Setup {
        Setup::default()
    }

    /// The one broker of all tests in this process that leave it as it is: each uses topics of its
    /// own. It ends with the process.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Broker::start)
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        address(self.ports[0])
    }

    /// Where the proxy connects, if there is to be one.
    pub fn proxied_address(&self) -> String {
        assert!(
            self.setup.proxy.is_some(),
            "the broker was started without a listener for a proxy"
        );
        address(self.ports[2])
    }

    /// Where clients connect that give a user and a password.
    pub fn sasl_address(&self) -> String {
        assert!(
            self.setup.user.is_some(),
            "the broker was started without a listener that asks for a user"
        );
        address(self.ports[3])
    }

    /// Gives the user another password, from its next start on.
    pub fn set_password(&mut self, password: &str) {
        let (_, of_user) = self.setup.user.as_mut().expect("the broker was started with a user");
        *of_user = password.to_owned();
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the broker runs");
        end(&mut running.child);
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let until = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < until, "the broker does not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.running = None;
    }

    /// Stops it from doing anything (SIGSTOP). Its connections stay open.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after a pause.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again after `kill` or `stop`, on the same data and the same ports, and waits until
    /// it answers.
    pub fn restart(&mut self) {
        assert!(self.running.is_none(), "the broker still runs");
        let mut child = self.command().spawn().expect("the operating system starts a process");
        let lifeline = child.stdin.take().expect("the standard input is a pipe");
        self.running = Some(Running { child, _lifeline: lifeline });
        let until = Instant::now() + PATIENCE;
        while !answers(self.ports[0]) {
            assert!(!self.has_ended(), "the broker ended at its start: {}", self.log());
            assert!(Instant::now() < until, "the broker does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes all data of a broker that does not run: the next start makes a new cluster, on the
    /// same ports.
    pub fn forget(&mut self) {
        assert!(self.running.is_none(), "the broker still runs");
        fs::remove_dir_all(self.data())
            .and_then(|()| fs::create_dir(self.data()))
            .expect("the data can be removed");
    }

    /// Whether it has dropped the end of a committed transaction on a topic whose name begins so.
    ///
    /// A node that is broker and controller at once, killed between acknowledging a commit and
    /// writing it to the partitions, leads its partitions again for an instant before its
    /// registration is renewed. In that instant it does not know its own address, takes the
    /// partitions for deleted, and closes the transaction without writing its end: it is open on
    /// the partitions for ever, and its records can never be read. The log says so, before the
    /// broker answers again. No client can undo that, so a test that meets it has shown nothing.
    pub fn has_dropped_a_commit(&self, name: &str) -> bool {
        let log = fs::read(self.data().join("broker.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let mut dropped =
            log.lines().filter(|line| line.contains("these partitions are likely deleted already"));
        dropped.any(|line| line.contains(&format!("{name}-")) || line.contains(&format!("{name}.")))
    }

    /// Kills it if it runs, and keeps its data for whoever looks into a failure: says where.
    pub fn keep(&mut self) -> &Path {
        if let Some(mut running) = self.running.take() {
            end(&mut running.child);
        }
        self.folder.disable_cleanup(true);
        self.data()
    }

    /// The end of what it logged, for messages.
    pub fn log(&self) -> String {
        let read = |path: PathBuf| {
            fs::read(path)
                .map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let log = read(self.data().join("broker.log"));
        let from = log.lines().count().saturating_sub(LINES_SHOWN);
        let last: Vec<&str> = log.lines().skip(from).collect();
        format!(
            "it said:\n{}\nits log ends with:\n{}",
            read(self.data().join("said")),
            last.join("\n")
        )
    }

    /// The whole folder, so that nothing is left of it when the process that holds it is killed.
    fn data(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self) -> Command {
        let [port, controller, proxied, sasl] = self.ports;
        let said = File::options()
            .create(true)
            .append(true)
            .open(self.data().join("said"))
            .expect("the folder can be written");
        let mut command = script("run");
        command.arg("--temporary").arg("--data").arg(self.data());
        command.args(["--port", &port.to_string(), "--controller-port", &controller.to_string()]);
        if let Some(proxy) = self.setup.proxy {
            command.args(["--proxied", &format!("{proxied}:{proxy}")]);
        }
        if let Some((user, password)) = &self.setup.user {
            command.args(["--sasl", &format!("{sasl}:{user}:{password}")]);
        }
        for property in &self.setup.properties {
            command.args(["--set", property]);
        }
        command
            .stdin(Stdio::piped())
            .stdout(said.try_clone().expect("a file can be opened twice"))
            .stderr(said);
        command
    }

    fn signal(&mut self, signal: Signal) {
        assert!(!self.has_ended(), "the broker has ended by itself: {}", self.log());
        let running = self.running.as_ref().expect("the broker runs");
        kill_process(Pid::from_child(&running.child), signal)
            .expect("a child that was not waited for takes signals");
    }

    fn has_ended(&mut self) -> bool {
        let running = self.running.as_mut().expect("the broker runs");
        running.child.try_wait().expect("a child can be waited for").is_some()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            end(&mut running.child);
        }
    }
}

/// Kills a child. It fails if the child has ended, which is as well.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A command of the script that runs Kafka, with the jars in this build's target folder.
fn script(command: &str) -> Command {
    let script = crate::checkout::root().join("scripts/kafka.sh");
    let mut run = Command::new(script);
    run.arg(command).env("CARGO_TARGET_DIR", crate::checkout::target());
    run
}

/// Makes sure that the jars are here. The first time may take minutes, and is not a part of a
/// start.
fn fetch_libs() {
    let fetched = script("libs")
        .stdin(Stdio::null())
        .output()
        .expect("the operating system starts a process");
    assert!(
        fetched.status.success(),
        "Kafka's jars are not here: {}",
        String::from_utf8_lossy(&fetched.stderr)
    );
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Free ports, all different. They lie below those that the system gives to outgoing connections:
/// while a broker is down, a client that tries to reach it could be given its very port, and the
/// broker could not come back.
fn free_ports() -> [u16; 4] {
    let random = RandomState::new();
    let mut held = Vec::new();
    let mut ports = BTreeSet::new();
    for attempt in 0..1000_u64 {
        let port = 12_000
            + u16::try_from(random.hash_one(attempt) % 20_000).expect("it is less than 20,000");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push(listener);
            ports.insert(port);
        }
        if let Ok(ports) = <[u16; 4]>::try_from(ports.iter().copied().collect::<Vec<_>>()) {
            return ports;
        }
    }
    panic!("there are not four free ports between 12,000 and 32,000");
}

/// Whether a broker answers there and takes part in its cluster. One that still starts accepts
/// connections, and lists no broker.
fn answers(port: u16) -> bool {
    live_brokers(port).is_ok_and(|brokers| brokers > 0)
}

/// Asks for the brokers of the cluster: a Metadata request (3) of version 1, for no topics, with
/// the id 7 and no name of a client.
fn live_brokers(port: u16) -> std::io::Result<i32> {
    const REQUEST: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0];
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&REQUEST)?;
    // The length of the answer, the request's id, and the number of brokers that follow.
    let mut head = [[0; 4]; 3];
    stream.read_exact(head.as_flattened_mut())?;
    let [_, id, brokers] = head.map(i32::from_be_bytes);
    assert_eq!(id, 7, "an answer has its request's id");
    Ok(brokers)
}
