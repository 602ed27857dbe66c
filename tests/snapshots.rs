//! I7 under load: amounts move between accounts, so that the total never changes; whoever asks for it while batches are applied, committed and folded, gets the right one, of
//! one committed batch, and never of an earlier one than before.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::{Engine, QueryError, Settings, Txid};

const ACCOUNTS: u64 = 1000;
const CLIENTS: usize = 8;

fn build(topology: &Topology<'_>) {
    let transfers = Generator::new(11, |_, number: u64| {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed >> 11) % ACCOUNTS, (mixed >> 37) % ACCOUNTS, (mixed % 100) as i64)
    });
    let accounts = topology
        .source("transfers", transfers.partitions(3))
        // Both sides of a transfer are in one batch.
        .flat_map(|(from, to, amount): (u64, u64, i64), sides| sides.extend([(from, -amount), (to, amount)]))
        .group_by(|(account, _)| *account)
        .persistent_aggregate("accounts", tidemill::aggregates::of(|side: &(u64, i64)| side.1, Sum));
    topology.query("scanned", |any: Requests<()>| {
        any.scan_with(&accounts, |()| Scan::all(), |_, amount| Some(*amount)).aggregate(Sum)
    });
    topology.query("in order", |any: Requests<()>| {
        any.scan(&accounts, |()| Scan::range(0..ACCOUNTS)).map(|(_, amount)| amount).aggregate(Sum)
    });
    topology.query("looked up", |any: Requests<()>| {
        any.flat_map(|(), keys| keys.extend(0..ACCOUNTS)).lookup(&accounts).aggregate(Sum)
    });
}

fn start(settings: &Settings) -> Engine {
    let engine = Engine::start(settings.clone(), build).expect("it starts");
    let until = Instant::now() + Duration::from_secs(60);
    while !engine.runtime().is_ready() {
        assert!(Instant::now() < until, "it does not become ready: {:?}", engine.runtime().status());
        std::thread::sleep(Duration::from_millis(5));
    }
    engine
}

fn check(workers: usize, crashes: u32, cancels: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings =
        Settings { workers, fold_bytes: 256 << 10, disk_reserve: 0, ..Settings::new("bank", folder.path().join("state")) };
    settings.batches.max_records = 2000;
    let running = Arc::new(RwLock::new(Some(start(&settings))));
    let (over, asked, cancelled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (running, over, asked, cancelled) =
                (Arc::clone(&running), Arc::clone(&over), Arc::clone(&asked), Arc::clone(&cancelled));
            std::thread::spawn(move || {
                let query = ["scanned", "in order", "looked up"][client % 3];
                let mut last = Txid::NONE;
                while !over.load(SeqCst) {
                    let runtime = running.read().expect("no holder panics").as_ref().map(|engine| Arc::clone(engine.runtime()));
                    let Some(runtime) = runtime else {
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    };
                    match runtime.ask_typed::<i64>(query, &()) {
                        Ok((txid, total)) => {
                            assert_eq!(total, 0, "{query} of batch {txid} with {workers} workers: a torn total");
                            assert!(txid >= last, "{query}: batch {txid} after {last}");
                            assert!(txid <= runtime.committed(), "{query}: batch {txid} is not committed");
                            last = txid;
                            asked.fetch_add(1, SeqCst);
                        }
                        Err(QueryError::NotHeld) => drop(cancelled.fetch_add(1, SeqCst)),
                        Err(QueryError::Unavailable(_)) => std::thread::sleep(Duration::from_millis(1)),
                        Err(error) => panic!("{query}: {error}"),
                    }
                }
                last
            })
        })
        .collect();
    let took = Duration::from_secs(if std::env::var_os("TIDEMILL_LONG").is_some() { 30 } else { 4 });
    for _ in 0..=crashes {
        let until = Instant::now() + took / (crashes + 1);
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(7));
            if cancels {
                running.read().expect("no holder panics").as_ref().expect("it runs").runtime().cancel_oldest_pin();
            }
        }
        let engine = running.write().expect("no holder panics").take().expect("it runs");
        assert!(engine.runtime().status().last_error.is_none(), "{:?}", engine.runtime().status());
        engine.crash();
        *running.write().expect("no holder panics") = Some(start(&settings));
    }
    // Clients end before the last engine is dropped.
    over.store(true, SeqCst);
    let last = clients.into_iter().map(|client| client.join().expect("no client has found anything wrong")).max();
    assert!(asked.load(SeqCst) > 100, "only {asked:?} answers: that shows nothing");
    assert!(last > Some(Txid(20)), "only {last:?} batches were committed: that shows nothing");
    println!("{workers} workers, {crashes} crashes: {asked:?} answers, {cancelled:?} cancelled, up to batch {last:?}");
}

#[test]
fn i7_every_total_is_right_with_two_workers() {
    check(2, 0, false);
}

#[test]
fn i7_every_total_is_right_with_four_workers_over_crashes_and_cancelled_reads() {
    check(4, 5, true);
}
