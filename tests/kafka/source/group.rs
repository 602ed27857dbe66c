//! What tools that show lag see of a topology: its consumer group's offsets.

use super::copying::{Copying, PATIENCE, brokers, reaches, send, source, stop, wait_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tidemill::Engine;
use tidemill::prelude::*;
use tidemill_harness::topics::{committed_by, create_topic};

#[test]
fn lag_tools_see_what_is_committed_and_never_more() {
    let brokers = brokers();
    create_topic(&brokers, "lagging", 1, &[]);
    send("lagging", 0, 0..100);
    let copying = Copying::new("lagging-topology");
    let [held, reached] = [(), ()].map(|()| Arc::new(AtomicBool::new(false)));
    let (hold, reach, out) = (Arc::clone(&held), Arc::clone(&reached), copying.out());
    let engine = Engine::start(copying.settings(None), move |topology: &Topology<'_>| {
        let (hold, reach) = (Arc::clone(&hold), Arc::clone(&reach));
        let held = topology.source("in", source(&["lagging"])()).inspect(move |_| {
            while hold.load(SeqCst) {
                reach.store(true, SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        held.sink("out", Files::to(out.to_str().expect("UTF-8")));
    });
    let engine = engine.expect("it starts");
    let told = || committed_by(&brokers, "lagging-topology", "lagging", 0);
    let is_told = |offset: i64| {
        let until = Instant::now() + PATIENCE;
        while told() != Some(offset) {
            assert!(
                Instant::now() < until,
                "the group is told {:?}, and should be told {offset}",
                told()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    reaches(&engine, [("lagging[0]", 100)]);
    // It goes on running, and nothing more comes.
    is_told(100);
    held.store(true, SeqCst);
    send("lagging", 0, 100..200);
    wait_until(&engine, |_| reached.load(SeqCst));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        assert_eq!(told(), Some(100), "what is read and not committed is not told");
        std::thread::sleep(Duration::from_millis(100));
    }
    held.store(false, SeqCst);
    reaches(&engine, [("lagging[0]", 200)]);
    is_told(200);
    stop(engine);
}
