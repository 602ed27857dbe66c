//! Records from a seed.

use rand::RngExt;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tidemill_connectors::Generator;
use tidemill_engine::conformance;
use tidemill_engine::source::{ReadStatus, Records, Source};
use tidemill_state::{Kind, Position};

fn rolls(
    seed: u64,
) -> Generator<
    impl Fn(&mut tidemill_connectors::GeneratorRng, u64) -> (u64, u64) + Send + Sync + 'static,
> {
    Generator::new(seed, |rng, number| (number, rng.random::<u64>()))
}

fn all<S: Source>(source: &S, partition: &str) -> Vec<S::Item> {
    let mut reader = source.open(partition, None).expect("opened");
    let mut all = Vec::new();
    loop {
        let mut into = Records::with_limits(100, usize::MAX);
        let status = reader.read(&mut into).expect("read");
        all.extend(into.iter().map(|(_, record)| record.clone()));
        match status {
            ReadStatus::End | ReadStatus::Retired => return all,
            ReadStatus::Idle(wait) => std::thread::sleep(wait),
            ReadStatus::More => {}
        }
    }
}

#[test]
fn generators_keep_the_contract_of_a_source() {
    let expected: Vec<_> = (0..3)
        .map(|n| n.to_string())
        .map(|name| (name.clone(), all(&rolls(1).partitions(3).records(1_000), &name)))
        .collect();
    assert_eq!(
        expected.iter().map(|(_, records)| records.len()).collect::<Vec<_>>(),
        [334, 333, 333]
    );
    conformance::source(|| rolls(1).partitions(3).records(1_000), &expected);
    conformance::source(
        || rolls(1).partitions(2).records(1),
        &[("0", all(&rolls(1).records(1), "0")), ("1", vec![])],
    );
}

#[test]
fn records_do_not_depend_on_the_number_of_partitions() {
    let set = |partitions: u32| -> BTreeSet<(u64, u64)> {
        let source = rolls(5).partitions(partitions).records(100);
        Source::partitions(&source)
            .expect("listed")
            .iter()
            .flat_map(|name| all(&source, name))
            .collect()
    };
    assert_eq!(set(1).len(), 100);
    assert_eq!(set(1), set(7));
    assert_eq!(
        set(1).iter().map(|(_, roll)| roll).collect::<BTreeSet<_>>().len(),
        100,
        "each record has numbers of its own"
    );
    let other: BTreeSet<_> =
        all(&rolls(6).records(100), "0").into_iter().map(|(_, roll)| roll).collect();
    assert!(
        set(1).iter().all(|(_, roll)| !other.contains(roll)),
        "neighbouring seeds have nothing in common"
    );
}

#[test]
fn what_was_recorded_of_another_generator_is_refused() {
    let source = rolls(1).partitions(2).records(100);
    let mut reader = source.open("0", None).expect("opened");
    reader.read(&mut Records::with_limits(20, usize::MAX)).expect("read");
    let position = reader.position();
    assert_eq!(position.offset, 20);
    fn open(source: impl Source, partition: &str, from: &Position) -> Option<String> {
        source.open(partition, Some(from)).err().map(|why| {
            assert_eq!(why.kind(), Kind::SourceLost);
            why.to_string()
        })
    }
    let refused = |said: Option<String>, part: &str| {
        assert!(said.as_ref().is_some_and(|said| said.contains(part)), "{part}: {said:?}")
    };
    refused(open(rolls(2).partitions(2), "0", &position), "the seed is 2 and was 1");
    refused(open(rolls(1).partitions(3), "0", &position), "3 partitions and had 2");
    refused(open(rolls(1).partitions(2).records(30), "0", &position), "it ends at record 15 now");
    refused(open(rolls(1).partitions(2), "2", &position), "no partition 2");
    refused(open(rolls(1).partitions(2), "0", &Position::at(20)), "not written by this version");
    assert_eq!(
        open(rolls(1).partitions(2).records(1_000), "0", &position),
        None,
        "a later end is none of its business"
    );
    let seed = Cell::new(1);
    conformance::damaged_source(|| rolls(seed.get()), "0", 5, || seed.set(2));
}

#[test]
fn wrong_settings_are_refused() {
    for wrong in [rolls(1).partitions(0), rolls(1).rate(0.0), rolls(1).rate(f64::NAN)] {
        assert_eq!(Source::partitions(&wrong).expect_err("refused").kind(), Kind::Config);
    }
}

#[test]
fn the_rate_is_kept() {
    let source = rolls(1).partitions(2).records(40).rate(200.0);
    let start = Instant::now();
    let records = all(&source, "1");
    // 20 records of this partition at 100 a second: the first at once, the last after 190 ms.
    assert_eq!(records.len(), 20);
    assert!(start.elapsed() >= Duration::from_millis(185), "{:?}", start.elapsed());
}
