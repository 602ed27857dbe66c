//! A link to a broker that can be cut and mended, while other clients reach the broker without it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a connection looks whether it is cut.
const LOOK: Duration = Duration::from_millis(50);

/// Passes connections on, byte by byte. It ends when it is dropped.
pub struct Link {
    port: u16,
    shared: Arc<Shared>,
    accepts: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    target: OnceLock<String>,
    cut: AtomicBool,
    over: AtomicBool,
}

impl Shared {
    fn passes(&self) -> bool {
        !self.cut.load(SeqCst) && !self.over.load(SeqCst)
    }
}

impl Link {
    /// Listens on a port of its own. What connects before it leads somewhere is turned away.
    #[allow(clippy::new_without_default, reason = "it begins a thread")]
    pub fn new() -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        listener.set_nonblocking(true).expect("it can be asked without waiting");
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let accepts = std::thread::spawn(move || accept(&listener, &of_thread));
        Link { port, shared, accepts: Some(accepts) }
    }

    /// The port that it listens on, on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address that clients connect to.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it leads.
    pub fn lead_to(&self, target: String) {
        self.shared.target.set(target).expect("it leads to one place");
    }

    /// Ends all connections, and turns new ones away, until it is mended.
    pub fn cut(&self) {
        self.shared.cut.store(true, SeqCst);
    }

    /// Lets bytes pass again.
    pub fn mend(&self) {
        self.shared.cut.store(false, SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        if let Some(accepts) = self.accepts.take() {
            let _ = accepts.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.over.load(SeqCst) {
        match listener.accept() {
            Ok((client, _)) => {
                let broker = shared
                    .target
                    .get()
                    .filter(|_| shared.passes())
                    .and_then(|target| TcpStream::connect(target).ok());
                if let Some(broker) = broker {
                    connect(&client, &broker, shared);
                }
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn connect(client: &TcpStream, broker: &TcpStream, shared: &Arc<Shared>) {
    for (from, to) in [(client, broker), (broker, client)] {
        let [from, to] =
            [from, to].map(|stream| stream.try_clone().expect("a stream can be had twice"));
        let shared = Arc::clone(shared);
        std::thread::spawn(move || pass(from, to, &shared));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut bytes = vec![0; 64 << 10];
    from.set_nonblocking(false)
        .and_then(|()| from.set_read_timeout(Some(LOOK)))
        .expect("a stream takes a time-out");
    while shared.passes() {
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) if to.write_all(&bytes[..length]).is_ok() => {}
            Err(why)
                if matches!(
                    why.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Ok(_) | Err(_) => break,
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
