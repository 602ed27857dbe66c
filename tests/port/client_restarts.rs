//! The client across restarts of the server: answers go on, and never go back in time.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use tidemill_client::{Answer, Client, Error, blocking};
use tidemill_harness::binary::{self, PATIENCE, Running, folder};

/// A word count that follows a file, always at the same address.
struct Place {
    folder: tempfile::TempDir,
    address: String,
}

impl Place {
    fn new() -> Place {
        let folder = folder();
        std::fs::write(folder.path().join("a.txt"), "").expect("it can be written");
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|bound| bound.local_addr())
            .expect("a port");
        Place { folder, address: free.to_string() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("a.txt")
    }

    fn start(&self, more: &[&str]) -> Running {
        let (state, file) = (self.folder.path().join("state"), self.file());
        let text = |path: &Path| path.to_str().expect("UTF-8").to_string();
        let (state, file) = (text(&state), text(&file));
        let own =
            ["run", "--state", &state, "--input", &file, "--follow", "--listen", &self.address];
        Running::start("word_count", &[&own[..], more].concat())
    }

    /// Writes a line, and gives its offset.
    fn write(&self, line: &str) -> u64 {
        let mut file =
            std::fs::OpenOptions::new().append(true).open(self.file()).expect("it is there");
        let offset = file.metadata().expect("it is there").len();
        writeln!(file, "{line}").expect("it can be written");
        offset
    }

    fn client(&self) -> blocking::Client {
        Client::builder(format!("http://{}", self.address))
            .time_out(PATIENCE)
            .connect_blocking()
            .expect("an address")
    }

    /// The count of a word, once the line at this offset is counted.
    fn count(
        &self,
        client: &blocking::Client,
        word: &str,
        offset: u64,
    ) -> Result<Answer<u64>, Error> {
        let file = self.file();
        let partition = file.to_str().expect("UTF-8");
        let outcome = client
            .request("words", word)
            .at_least_position("sentences", partition, offset)
            .time_out(PATIENCE)
            .send();
        outcome.inspect_err(|error| eprintln!("{word}: {error}"))
    }
}

#[test]
fn answers_go_on_over_kills_and_never_go_back() {
    let place = Place::new();
    let mut running = place.start(&[]);
    let client = place.client();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    // Beside the writes and the kills, three clones of the client ask all the time.
    let ask = || {
        let (client, stop, answered) = (client.clone(), Arc::clone(&stop), Arc::clone(&answered));
        std::thread::spawn(move || {
            let mut last = (0, 0);
            while !stop.load(SeqCst) {
                let answer = client
                    .query::<_, u64>("words", "tide")
                    .expect("it is asked again until there is an answer");
                let now = (answer.txid, answer.value);
                assert!(now >= last, "it went back from {last:?} to {now:?}");
                last = now;
                answered.fetch_add(1, SeqCst);
            }
        })
    };
    let asking: Vec<_> = (0..3).map(|_| ask()).collect();
    let mut greatest = 0;
    let rounds = if std::env::var_os("TIDEMILL_LONG").is_some() { 20 } else { 4 };
    for round in 1..=rounds {
        for n in 1..=5u64 {
            let answer = place.count(&client, "tide", place.write("tide")).expect("an answer");
            assert_eq!(answer.value, (round - 1) * 5 + n, "what was written is read");
            assert!(answer.txid > greatest, "{} after {greatest}", answer.txid);
            greatest = answer.txid;
        }
        let before = answered.load(SeqCst);
        running.kill();
        running = place.start(&[]);
        let answer = client.query::<_, u64>("words", "tide").expect("an answer");
        assert!(
            answer.txid >= greatest && answer.value == round * 5,
            "{answer:?} after {greatest}"
        );
        greatest = answer.txid;
        let began = std::time::Instant::now();
        while answered.load(SeqCst) < before + 3 {
            assert!(began.elapsed() < PATIENCE, "the others have no answers");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    stop.store(true, SeqCst);
    for asking in asking {
        asking.join().expect("it does not panic");
    }
}

#[test]
fn a_state_begun_anew_is_reported_once() {
    let place = Place::new();
    let running = place.start(&[]);
    let client = place.client();
    for _ in 0..3 {
        place.count(&client, "tide", place.write("tide")).expect("an answer");
    }
    running.kill();
    let _running = place.start(&["--start-over"]);
    match client.query::<_, u64>("words", "tide") {
        Err(Error::StateReplaced { was, now }) => assert_ne!(was, now),
        other => panic!("{other:?}"),
    }
    let answer = place.count(&client, "tide", place.write("tide")).expect("the new state is taken");
    assert_eq!(answer.value, 4, "it has counted all of the file anew");
}

#[test]
fn the_example_asks() {
    let place = Place::new();
    let _running = place.start(&[]);
    let offset = place.write("the tide");
    place.count(&place.client(), "tide", offset).expect("an answer");
    let address = format!("http://{}", place.address);
    binary::run("ask", &[&address, "words", "the tide"]).is("ask", 0, &["2", "as of batch"]);
    binary::run("ask", &[&address, "word", "the tide"]).is(
        "ask",
        1,
        &["there is no query \"word\"; there are: words"],
    );
}
