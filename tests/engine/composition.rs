//! Assemblies are plain functions, and what does not fit together is said with the calls that do
//! not.

use tidemill::plan::NodeKind;
use tidemill::prelude::*;
use tidemill::testing::Kit;
use tidemill::{Kind, Record, outline};

/// An assembly: the longest texts of each batch, with their lengths.
fn longest<'s>(texts: Stream<'s, Str>, n: usize) -> Stream<'s, (usize, Str)> {
    texts.map(|text| (text.len(), text)).max_by(|(length, _)| *length).first_n(n)
}

/// Another, of any records and in front of anything: each record once in a batch.
fn distinct<T: Record + tidemill::Data + std::hash::Hash + Eq>(
    records: Stream<'_, T>,
) -> Stream<'_, T> {
    records.group_by(|record| record.clone()).aggregate(Count).map(|(record, _)| record)
}

fn numbers(
    records: u64,
) -> Generator<impl Fn(&mut tidemill::connectors::GeneratorRng, u64) -> u64> {
    Generator::new(1, |_, number| number).records(records)
}

#[test]
fn assemblies_are_functions_of_streams_and_the_plan_draws_what_is_in_them() {
    let mut kit = Kit::new(|topology, io| {
        longest(distinct(topology.source("texts", io.source::<Str>("texts"))), 2)
            .sink("out", io.sink("out"));
    });
    kit.feed("texts", ["tide", "mill", "a", "tide"].map(Str::from));
    kit.step();
    let out: Vec<(usize, Str)> = kit.output("out");
    assert!(out.len() == 1 && out[0].0 == 4, "{out:?}");
    let plan = kit.engine().runtime().plan().clone();
    let made_in: Vec<&str> =
        plan.nodes.iter().map(|node| node.at.split(':').next().unwrap_or_default()).collect();
    assert!(
        made_in.iter().all(|file| file.ends_with("tests/engine/composition.rs")),
        "each names the call in the program: {made_in:?}"
    );
    let text = plan.to_text();
    for part in ["source \"texts\"", "aggregate#", "max_by#", "sink \"out\""] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(plan.nodes.iter().any(|node| matches!(node.kind, NodeKind::Sink(_))));
}

/// The program is refused: these are parts of why.
#[track_caller]
fn refused(build: impl Fn(&Topology<'_>) + Send + Sync + 'static, parts: &[&str]) {
    let error = outline(&build).map(|_| ()).expect_err("it does not fit together");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn a_name_that_is_taken_is_refused_with_both_calls() {
    let line = |offset: u32| format!("tests/engine/composition.rs:{offset}");
    let here = line!();
    refused(
        |topology| {
            topology.source("numbers", numbers(1)).persistent_aggregate("total", Sum);
            topology.source("more", numbers(1)).persistent_aggregate("total", Sum);
        },
        &[
            "two states are named \"total\"",
            &line(here + 3),
            &line(here + 4),
            "Give each its own name",
        ],
    );
    refused(
        |topology| {
            topology.source("numbers", numbers(1)).persistent_aggregate("one", Sum);
            topology.source("numbers", numbers(1)).persistent_aggregate("other", Sum);
        },
        &["two sources are named \"numbers\"", &line(here + 15), &line(here + 16)],
    );
    refused(
        |topology| {
            let numbers = topology.source("numbers", numbers(1));
            numbers.clone().sink("out", Stdout::new());
            numbers.sink("out", Stdout::new());
        },
        &["two sinks are named \"out\"", &line(here + 23), &line(here + 24)],
    );
    refused(
        |topology| {
            let total = topology.source("numbers", numbers(1)).persistent_aggregate("total", Sum);
            topology.query("total", |ask: Requests<()>| ask.lookup(&total));
            topology.query("total", |ask: Requests<()>| ask.lookup(&total));
        },
        &["two queries are named \"total\"", &line(here + 31), &line(here + 32)],
    );
}

#[test]
fn what_is_missing_is_refused_with_the_call_to_add() {
    refused(|_| (), &["no source", "topology.source(name, source)"]);
}
