//! The suite for sinks: publishing, crashes around a commit, and a newer run that takes over.

use crate::sink::{Delivery, Entry, Marker, Outcome, Owner, Publisher, Sink};
use std::sync::Arc;
use tidemill_state::outbox::PayloadWriter;
use tidemill_state::{Error, Incarnation, Kind, Txid};

/// Checks clauses 1 and 3 to 5 of [`Sink`]'s contract (4 and 5 for [`Delivery::ExactlyOnce`])
/// against a target that is empty at first: publishing, crashes between `prepare` and `commit` and
/// after it, and a newer run that takes the sink over.
///
/// `make` gives a sink for the same target each time; `items` are at least 6 records to publish,
/// all different; `read_back` reads the records that the target holds now, in order, as
/// [`Sink::encode`] made them.
///
/// # Panics
/// When a clause is broken, or a call fails that should not.
pub fn sink<S: Sink>(
    make: impl Fn() -> S,
    items: &[S::Item],
    read_back: impl Fn() -> Vec<Vec<u8>>,
) {
    assert!(items.len() >= 6, "the suite needs at least 6 records, and was given {}", items.len());
    assert_eq!(
        (make().kind(), make().delivery()),
        (make().kind(), make().delivery()),
        "clause 1: kind() and delivery() do not change"
    );
    let suite = Suite::new(make, items, read_back);
    suite.nothing_at_first();
    suite.publishes_in_order();
    if suite.delivery == Delivery::ExactlyOnce {
        suite.takes_back_what_was_not_committed();
        suite.keeps_what_was_committed();
        suite.fences_older_runs();
    }
}

struct Suite<M, R> {
    make: M,
    read_back: R,
    delivery: Delivery,
    /// Six batches, from txid 1, each with its records.
    batches: Vec<Vec<Vec<u8>>>,
}

impl<S: Sink, M: Fn() -> S, R: Fn() -> Vec<Vec<u8>>> Suite<M, R> {
    fn new(make: M, items: &[S::Item], read_back: R) -> Suite<M, R> {
        let sink = make();
        let encoded: Vec<Vec<u8>> = items
            .iter()
            .map(|item| {
                let mut bytes = Vec::new();
                sink.encode(item, &mut bytes).unwrap_or_else(|why| panic!("encode(): {why}"));
                bytes
            })
            .collect();
        for (index, record) in encoded.iter().enumerate() {
            assert!(
                !encoded[..index].contains(record),
                "the suite needs records that are all different: record {index} is there twice"
            );
        }
        let mut with_prefix = b"kept".to_vec();
        sink.encode(&items[0], &mut with_prefix).unwrap_or_else(|why| panic!("encode(): {why}"));
        assert_eq!(
            with_prefix,
            [b"kept", encoded[0].as_slice()].concat(),
            "encode() appends, and keeps what was there"
        );
        let size = encoded.len() / 6;
        let batches = (0..6)
            .map(|n| {
                if n < 5 {
                    encoded[n * size..(n + 1) * size].to_vec()
                } else {
                    encoded[5 * size..].to_vec()
                }
            })
            .collect();
        Suite { delivery: sink.delivery(), make, read_back, batches }
    }

    fn entry(&self, txid: usize) -> Entry {
        let mut payload = PayloadWriter::default();
        for record in &self.batches[txid - 1] {
            payload
                .push(|into| {
                    into.extend_from_slice(record);
                    Ok(())
                })
                .expect("a record of a test fits");
        }
        Entry { txid: self.txid(txid), payload: Arc::from(payload.bytes()) }
    }

    fn txid(&self, txid: usize) -> Txid {
        Txid(u64::try_from(txid).expect("it is small"))
    }

    fn owner(run: u64) -> Owner {
        let incarnation =
            Incarnation { counter: run, nonce: run.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        Owner {
            topology: "conformance".into(),
            sink: "under-test".into(),
            incarnation,
            points: Arc::default(),
        }
    }

    fn open(&self, run: u64) -> Box<dyn Publisher> {
        (self.make)()
            .open(&Self::owner(run))
            .unwrap_or_else(|why| panic!("open() of run {run}: {why}"))
    }

    /// A publisher of `run` that has read the marker and claimed the sink at `holds`.
    fn claimed(&self, run: u64, holds: usize) -> Box<dyn Publisher> {
        let mut publisher = self.open(run);
        self.expect_marker(&mut *publisher, holds, None, "before the claim");
        let seen = publisher.marker().unwrap_or_else(|why| panic!("marker(): {why}"));
        let taken =
            publisher.take_over().unwrap_or_else(|why| panic!("take_over() of run {run}: {why}"));
        assert_eq!(
            taken, seen,
            "clause 4: take_over() gives the marker that is there when nobody else publishes"
        );
        publisher
            .claim(self.txid(holds))
            .unwrap_or_else(|why| panic!("claim() of run {run}: {why}"));
        self.expect_marker(&mut *publisher, holds, Some(run), "after the claim");
        publisher
    }

    /// Publishes as the engine does: a commit that cannot be trusted is followed by a new
    /// publisher, which reads the marker.
    fn publish(&self, publisher: &mut Box<dyn Publisher>, run: u64, txids: &[usize]) {
        let entries: Vec<Entry> = txids.iter().map(|txid| self.entry(*txid)).collect();
        let last = entries.last().expect("a test publishes something").txid;
        loop {
            let prepared = publisher
                .prepare(&entries)
                .unwrap_or_else(|why| panic!("prepare({txids:?}): {why}"));
            if prepared.commit().unwrap_or_else(|why| panic!("commit({txids:?}): {why}"))
                == Outcome::Confirmed
            {
                return;
            }
            *publisher = self.open(run);
            let marker = publisher
                .take_over()
                .unwrap_or_else(|why| panic!("take_over() of run {run}: {why}"));
            if marker.is_some_and(|marker| marker.txid == last) {
                return;
            }
        }
    }

    fn expect_marker(
        &self,
        publisher: &mut dyn Publisher,
        txid: usize,
        run: Option<u64>,
        when: &str,
    ) {
        let marker = publisher.marker().unwrap_or_else(|why| panic!("marker() {when}: {why}"));
        if self.delivery == Delivery::AtLeastOnce {
            assert_eq!(marker, None, "a sink that delivers at least once keeps no marker");
            return;
        }
        let Marker { topology, txid: holds, incarnation } =
            marker.unwrap_or_else(|| panic!("clause 4: there is no marker {when}"));
        assert_eq!(
            topology, "conformance",
            "clause 4: the marker names the topology that wrote it"
        );
        assert_eq!(
            holds,
            self.txid(txid),
            "clause 4: the marker {when} names the last batch that the sink holds"
        );
        if let Some(run) = run {
            assert_eq!(
                incarnation,
                Self::owner(run).incarnation,
                "clause 4: the marker {when} names the run that wrote it"
            );
        }
    }

    /// The sink holds exactly the batches up to `txid`.
    fn expect_output(&self, txid: usize, clause: &str, when: &str) {
        let wanted = self.batches[..txid].concat();
        let given = (self.read_back)();
        for (index, (given, wanted)) in given.iter().zip(&wanted).enumerate() {
            assert!(
                given == wanted,
                "{clause}: {when}: record {index} is {:?}, and should be {:?}",
                text(given),
                text(wanted)
            );
        }
        assert_eq!(
            given.len(),
            wanted.len(),
            "{clause}: {when}: the number of records that the sink holds"
        );
    }

    fn nothing_at_first(&self) {
        assert_eq!((self.read_back)().len(), 0, "the suite needs an empty target");
        let mut publisher = self.open(1);
        let marker =
            publisher.marker().unwrap_or_else(|why| panic!("marker() of an empty target: {why}"));
        assert_eq!(marker, None, "an empty target has no marker");
        self.expect_output(
            0,
            "open() and marker() change nothing",
            "before anything was published",
        );
        publisher
            .claim(Txid::NONE)
            .unwrap_or_else(|why| panic!("claim() of an empty target: {why}"));
        self.expect_marker(&mut *publisher, 0, Some(1), "after the first claim");
    }

    fn publishes_in_order(&self) {
        let mut publisher = self.claimed(2, 0);
        self.publish(&mut publisher, 2, &[1]);
        self.expect_output(1, "clause 3", "after batch 1");
        self.expect_marker(&mut *publisher, 1, Some(2), "after batch 1");

        drop(publisher.prepare(&[self.entry(2)]).unwrap_or_else(|why| panic!("prepare(): {why}")));
        self.expect_marker(&mut *publisher, 1, Some(2), "after a prepared value was dropped");
        self.publish(&mut publisher, 2, &[2, 3]);
        self.expect_output(
            3,
            "clause 3",
            "after batch 2 was prepared and dropped, and 2 and 3 were committed together",
        );
        self.expect_marker(&mut *publisher, 3, Some(2), "after batches 2 and 3");
    }

    fn takes_back_what_was_not_committed(&self) {
        let mut publisher = self.claimed(3, 3);
        let prepared =
            publisher.prepare(&[self.entry(4)]).unwrap_or_else(|why| panic!("prepare(): {why}"));
        // As a crash does: nothing of the prepared value's own clean-up runs.
        std::mem::forget(prepared);
        drop(publisher);
        let mut publisher = self.claimed(4, 3);
        self.expect_output(
            3,
            "clause 4",
            "after a crash between prepare and commit of batch 4, and a claim",
        );
        self.publish(&mut publisher, 4, &[4]);
        self.expect_output(4, "clause 4", "after batch 4 was sent again");
    }

    fn keeps_what_was_committed(&self) {
        drop(self.claimed(5, 4));
        drop(self.claimed(6, 4));
        self.expect_output(4, "clause 4", "after two starts with nothing to send");
    }

    fn fences_older_runs(&self) {
        let mut old = self.claimed(7, 4);
        match (self.make)().open(&Self::owner(8)) {
            Ok(mut new) => {
                let prepared =
                    old.prepare(&[self.entry(5)]).unwrap_or_else(|why| panic!("prepare(): {why}"));
                new.take_over()
                    .and_then(|_| new.claim(self.txid(4)))
                    .unwrap_or_else(|why| panic!("claim() while an older run is alive: {why}"));
                expect_foreign(
                    prepared.commit(),
                    "commit() of an older run, prepared before the claim of a newer one",
                );
                let again = old.prepare(&[self.entry(5)]).and_then(|prepared| prepared.commit());
                expect_foreign(again, "prepare() and commit() of an older run");
            }
            // The sink itself keeps a second publisher out: then the older run can only come back.
            Err(why) => {
                assert_eq!(
                    why.kind(),
                    Kind::TryAgain,
                    "clause 5: open() beside another run fails with TryAgain, if it fails; the \
                     error is: {why}"
                );
                drop(old);
                drop(self.claimed(8, 4));
            }
        }
        self.expect_output(4, "clause 5", "after an older run tried to publish");
        let late = (self.make)().open(&Self::owner(7)).and_then(|mut old| {
            old.take_over()?;
            old.claim(self.txid(4))?;
            old.prepare(&[self.entry(5)])?.commit()
        });
        expect_foreign(late, "claim(), prepare() and commit() of an older run that came back");
        self.expect_output(4, "clause 5", "after an older run came back");
        let mut publisher = self.claimed(9, 4);
        self.publish(&mut publisher, 9, &[5, 6]);
        self.expect_output(6, "clause 5", "after the newest run went on");
    }
}

fn expect_foreign<T>(result: Result<T, Error>, what: &str) {
    match result {
        Ok(_) => panic!("clause 5: {what} succeeded"),
        Err(why) => assert_eq!(
            why.kind(),
            Kind::Foreign,
            "clause 5: {what} fails with Foreign; the error is: {why}"
        ),
    }
}

fn text(record: &[u8]) -> String {
    String::from_utf8_lossy(record).into_owned()
}
