//! I7 under load: amounts move between accounts, so that the total never changes; whoever asks for
//! it while batches are applied, committed and folded, gets the right one, of one committed batch,
//! and never of an earlier one than before. Accounts without an amount are removed, and made again
//! when they have one.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::server::Server;
use tidemill::{Engine, Part, QueryError, Runtime, Settings, Txid};
use tidemill_client::Client;

const ACCOUNTS: u64 = 1000;
const CLIENTS: usize = 8;

/// What all accounts have together: the bank's own account, which comes after the others, is opened
/// with it.
const TOTAL: i64 = 1_000_000_007;

/// Each partition moves amounts between accounts of its own, which none of the others touches
/// however far ahead it is.
const PARTITIONS: u64 = 3;

/// A partition's transfers come in rounds of so many, of which every second one takes back what the
/// one before it has done: then all its accounts are gone.
const ROUND: u64 = 1_000;

/// A change in the number of accounts from which on it is not by the chance that a few of them come
/// to 0.
const MANY: u64 = ACCOUNTS / 10;

fn build(topology: &Topology<'_>) {
    let transfers = Generator::new(11, |_, number: u64| {
        let (partition, number_in_it) = (number % PARTITIONS, number / PARTITIONS);
        let (round, place) = (number_in_it / ROUND, number_in_it % ROUND);
        let mixed = ((round / 2 * ROUND + place) * PARTITIONS + partition)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let account = |random: u64| random % (ACCOUNTS / PARTITIONS) * PARTITIONS + partition;
        let (from, to) = (account(mixed >> 11), account(mixed >> 37));
        let (from, to) = if round % 2 == 0 { (from, to) } else { (to, from) };
        (from, to, (mixed % 100) as i64, if number == 0 { TOTAL } else { 0 })
    });
    let accounts = topology
        .source("transfers", transfers.partitions(PARTITIONS as u32))
        // Both sides of a transfer are in one batch.
        .flat_map(|(from, to, amount, opening): (u64, u64, i64, i64), sides| {
            sides.extend([(from, -amount), (to, amount), (ACCOUNTS, opening)]);
        })
        .group_by(|(account, _)| *account)
        .update_state("accounts", |_, sides, accounts: &mut Part<'_, u64, i64>| {
            for (account, (_, amount)) in sides {
                accounts.update(account, |balance| {
                    let now = balance.unwrap_or(0) + amount;
                    *balance = (now != 0).then_some(now);
                });
            }
        });
    topology.query("accounts", |any: Requests<()>| {
        any.scan_with(&accounts, |()| Scan::all(), |_, amount| Some(*amount)).aggregate(Count)
    });
    topology.query("scanned", |any: Requests<()>| {
        any.scan_with(&accounts, |()| Scan::all(), |_, amount| Some(*amount)).aggregate(Sum)
    });
    topology.query("in order", |any: Requests<()>| {
        any.scan(&accounts, |()| Scan::range(0..ACCOUNTS + 1))
            .map(|(_, amount)| amount)
            .aggregate(Sum)
    });
    topology.query("looked up", |any: Requests<()>| {
        any.flat_map(|(), keys| keys.extend(0..=ACCOUNTS)).lookup(&accounts).aggregate(Sum)
    });
}

fn start(settings: &Settings) -> Engine {
    let engine = Engine::start(settings.clone(), build).expect("it starts");
    let until = Instant::now() + Duration::from_secs(60);
    while !engine.runtime().is_ready() {
        assert!(
            Instant::now() < until,
            "it does not become ready: {:?}",
            engine.runtime().status()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    engine
}

/// Folds are begun all the time.
fn settings(workers: usize, state: &Path) -> Settings {
    let mut settings = Settings {
        workers,
        fold_bytes: 256 << 10,
        disk_reserve: 0,
        ..Settings::new("bank", state)
    };
    settings.batches.max_records = 2000;
    settings
}

/// Waits until the batch is committed in which the bank's account is opened.
fn await_opening(total: impl Fn() -> Option<i64>) {
    let until = Instant::now() + Duration::from_secs(60);
    while total() != Some(TOTAL) {
        assert!(Instant::now() < until, "the bank is not opened: {:?}", total());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long clients ask in all.
fn span() -> Duration {
    Duration::from_secs(if std::env::var_os("TIDEMILL_LONG").is_some() { 30 } else { 4 })
}

/// The bank that runs, and what its clients have seen of it.
struct Bank {
    /// None while it is crashed.
    engine: RwLock<Option<Engine>>,
    over: AtomicBool,
    asked: AtomicU64,
    cancelled: AtomicU64,
}

impl Bank {
    fn new(engine: Engine) -> Bank {
        let (over, asked, cancelled) = Default::default();
        Bank { engine: RwLock::new(Some(engine)), over, asked, cancelled }
    }

    fn runtime(&self) -> Option<Arc<Runtime>> {
        let engine = self.engine.read().expect("no holder panics");
        engine.as_ref().map(|engine| Arc::clone(engine.runtime()))
    }

    /// Asks for the total until it is over, and checks each answer. Returns the batch of the last.
    fn ask_until_over(&self, query: &str) -> Txid {
        let mut last = Txid::NONE;
        while !self.over.load(SeqCst) {
            let Some(runtime) = self.runtime() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            match runtime.ask_typed::<i64>(query, &()) {
                Ok((txid, total)) => {
                    assert_eq!(total, TOTAL, "{query} of batch {txid}: a torn total");
                    assert!(txid >= last, "{query}: batch {txid} after {last}");
                    assert!(txid <= runtime.committed(), "{query}: batch {txid} is not committed");
                    last = txid;
                    self.asked.fetch_add(1, SeqCst);
                }
                Err(QueryError::NotHeld) => drop(self.cancelled.fetch_add(1, SeqCst)),
                Err(QueryError::Unavailable(_)) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("{query}: {error}"),
            }
        }
        last
    }
}

fn check(workers: usize, crashes: u32, cancels: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = settings(workers, &folder.path().join("state"));
    let bank = Arc::new(Bank::new(start(&settings)));
    await_opening(|| {
        let asked = bank.runtime().expect("it runs").ask_typed::<i64>("scanned", &());
        asked.ok().map(|(_, total)| total)
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let bank = Arc::clone(&bank);
            let query = ["scanned", "in order", "looked up"][client % 3];
            std::thread::spawn(move || bank.ask_until_over(query))
        })
        .collect();
    let (mut before, mut removed, mut made) = (None, 0, 0);
    for phase in 0..=crashes {
        let until = Instant::now() + span() / (crashes + 1);
        // On a slow machine the last phase lasts until it has shown something.
        let latest = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until
            || (phase == crashes && (removed == 0 || made == 0) && Instant::now() < latest)
        {
            std::thread::sleep(Duration::from_millis(7));
            let runtime = bank.runtime().expect("it runs");
            if cancels {
                runtime.cancel_oldest_pin();
            }
            if let Ok((_, accounts)) = runtime.ask_typed::<u64>("accounts", &()) {
                let before = before.replace(accounts).unwrap_or(accounts);
                removed += u32::from(accounts + MANY < before);
                made += u32::from(accounts > before + MANY);
            }
        }
        let engine = bank.engine.write().expect("no holder panics").take().expect("it runs");
        assert!(engine.runtime().status().last_error.is_none(), "{:?}", engine.runtime().status());
        engine.crash();
        *bank.engine.write().expect("no holder panics") = Some(start(&settings));
    }
    // Clients end before the last engine is dropped.
    bank.over.store(true, SeqCst);
    let last = clients
        .into_iter()
        .map(|client| client.join().expect("no client has found anything wrong"))
        .max();
    let Bank { asked, cancelled, .. } = &*bank;
    assert!(asked.load(SeqCst) > 100, "only {asked:?} answers: that shows nothing");
    assert!(
        removed > 0 && made > 0,
        "accounts are not removed and made again: {removed} and {made} times"
    );
    assert!(last > Some(Txid(20)), "only {last:?} batches were committed: that shows nothing");
    println!(
        "{workers} workers, {crashes} crashes: {asked:?} answers, {cancelled:?} cancelled, \
         accounts removed {removed} and made {made} times, up to batch {last:?}"
    );
}

#[test]
fn i7_every_total_is_right_with_two_workers() {
    check(2, 0, false);
}

#[test]
fn i7_every_total_is_right_with_four_workers_over_crashes_and_cancelled_reads() {
    check(4, 5, true);
}

/// What the child processes of the test below are given: the address and the state's folder.
const BANK: &str = "TIDEMILL_TEST_BANK";

/// Not a test: the process that is killed. Without the variable that it is given, nothing.
#[test]
fn bank() {
    let Ok(given) = std::env::var(BANK) else { return };
    let (address, state) = given.split_once(' ').expect("an address and a folder");
    let engine = Engine::start(settings(2, Path::new(state)), build).expect("it starts");
    let _server = Server::start(address.parse().expect("an address"), Arc::clone(engine.runtime()))
        .expect("it listens");
    // It ends by itself should nobody kill it.
    std::thread::sleep(Duration::from_secs(120));
}

fn start_bank(address: SocketAddr, state: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this test is a file"));
    command
        .args(["snapshots::bank", "--exact", "--nocapture"])
        .env(BANK, format!("{address} {}", state.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts")
}

#[test]
fn i7_every_total_is_right_while_the_process_is_killed_and_started_again() {
    const KILLS: u32 = 5;
    let folder = tempfile::tempdir_in(tidemill_harness::checkout::scratch()).expect("a folder");
    let state = folder.path().join("state");
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|bound| bound.local_addr())
        .expect("a port");
    let mut bank = start_bank(address, &state);
    let first = Client::builder(format!("http://{address}"))
        .time_out(Duration::from_secs(60))
        .connect_blocking()
        .expect("an address");
    await_opening(|| first.query::<_, i64>("scanned", &()).ok().map(|answer| answer.value));
    let (over, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (over, newest) = (Arc::clone(&over), Arc::clone(&newest));
            std::thread::spawn(move || {
                let client =
                    Client::builder(format!("http://{address}")).time_out(Duration::from_secs(60));
                let client = client.connect_blocking().expect("an address");
                let query = ["scanned", "in order", "looked up"][number % 3];
                let (mut last, mut answers) = (0, 0u64);
                while !over.load(SeqCst) {
                    let answer = client
                        .query::<_, i64>(query, &())
                        .expect("it is asked again until there is an answer");
                    assert_eq!(
                        answer.value, TOTAL,
                        "{query} of batch {}: a torn total",
                        answer.txid
                    );
                    assert!(answer.txid >= last, "{query}: batch {} after {last}", answer.txid);
                    last = answer.txid;
                    answers += 1;
                    newest.fetch_max(last, SeqCst);
                }
                answers
            })
        })
        .collect();
    for _ in 0..KILLS {
        let before = newest.load(SeqCst);
        std::thread::sleep(span() / KILLS);
        let until = Instant::now() + Duration::from_secs(60);
        while newest.load(SeqCst) <= before {
            assert!(Instant::now() < until, "no answers come");
            std::thread::sleep(Duration::from_millis(5));
        }
        // On Unix that is kill -9.
        bank.kill().expect("it runs");
        bank.wait().expect("it has ended");
        every_answer_was_committed(&state, &newest);
        bank = start_bank(address, &state);
    }
    over.store(true, SeqCst);
    let answers: u64 = clients
        .into_iter()
        .map(|client| client.join().expect("no client has found anything wrong"))
        .sum();
    bank.kill().expect("it runs");
    bank.wait().expect("it has ended");
    assert!(answers > 100, "only {answers} answers: that shows nothing");
    every_answer_was_committed(&state, &newest);
}

/// After a kill the state is not behind any batch that an answer has named, before anything runs on
/// it again.
fn every_answer_was_committed(state: &Path, newest: &AtomicU64) {
    // Answers that had come are read meanwhile.
    std::thread::sleep(Duration::from_millis(50));
    let store = tidemill_state::Store::open(state, tidemill_state::store::Durability::Sync)
        .expect("it opens");
    let (committed, newest) = (store.committed().txid(), Txid(newest.load(SeqCst)));
    assert!(committed >= newest, "an answer was of batch {newest}, and {committed} is committed");
}
