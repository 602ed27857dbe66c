//! The decision of a start as a table: facts, and the decision or the refusal with what its text
//! must say.

use super::*;
use crate::schema::{Program, Schema, SinkDecl, SourceDecl, StateDecl};
use crate::{Incarnation, Kind};

const OURS: Incarnation = Incarnation { counter: 3, nonce: 0xa };
const THEIRS: Incarnation = Incarnation { counter: 4, nonce: 0xb };

fn program(
    states: &[(&str, &str, &str)],
    sources: &[(&str, &str)],
    sinks: &[(&str, bool)],
) -> Program {
    let state = |(name, key, value): &(&str, &str, &str)| StateDecl {
        name: (*name).into(),
        key: (*key).into(),
        value: (*value).into(),
        ..StateDecl::default()
    };
    let source =
        |(name, kind): &(&str, &str)| SourceDecl { name: (*name).into(), kind: (*kind).into() };
    let sink = |(name, exactly_once): &(&str, bool)| SinkDecl {
        name: (*name).into(),
        kind: if *exactly_once { "files".into() } else { "stdout".into() },
        exactly_once: *exactly_once,
    };
    Program {
        topology: "mill".into(),
        states: states.iter().map(state).collect(),
        sources: sources.iter().map(source).collect(),
        sinks: sinks.iter().map(sink).collect(),
        ..Program::default()
    }
}

/// One state, one source, and these sinks.
fn mill(sinks: &[(&str, bool)]) -> Program {
    program(&[("counts", "str", "u64")], &[("words", "files")], sinks)
}

/// A store that `recorded` ran on until batch 10, folded up to batch 8.
fn store(recorded: &Program, sinks: Vec<SinkRecord>) -> StoreFacts {
    let schema = Schema::default().adopt(recorded).expect("everything is new to an empty store");
    StoreFacts {
        committed: Txid(10),
        folded: Txid(8),
        incarnations: vec![Incarnation { counter: 1, nonce: 0xa }, OURS],
        schema,
        sinks,
    }
}

fn out(last: Option<u64>, entries: &[(u64, u64)]) -> SinkRecord {
    let entries = entries.iter().map(|(txid, prev)| (Txid(*txid), Txid(*prev))).collect();
    SinkRecord { name: "out".into(), last: last.map(Txid), entries }
}

fn marker(txid: u64, incarnation: Incarnation) -> Option<MarkerFacts> {
    Some(MarkerFacts { topology: "mill".into(), txid: Txid(txid), incarnation })
}

/// The facts of a program with the sink `out`, whose record and marker these are.
fn with_out(record: SinkRecord, marker: Option<MarkerFacts>) -> Facts {
    let program = mill(&[("out", true)]);
    Facts {
        store: Some(store(&program, vec![record])),
        program,
        markers: vec![marker],
        assume: None,
        known_as: "mill".into(),
    }
}

fn at_least_once(last: Option<u64>, entries: &[(u64, u64)]) -> Facts {
    let program = mill(&[("out", false)]);
    Facts {
        store: Some(store(&program, vec![out(last, entries)])),
        program,
        markers: vec![None],
        assume: None,
        known_as: "mill".into(),
    }
}

fn assuming(assume: Assume, facts: Facts) -> Facts {
    Facts { assume: Some(assume), ..facts }
}

/// The store of `was`, started by `is`; neither has sinks.
fn changed(was: Program, is: Program) -> Facts {
    let markers = vec![None; is.sinks.len()];
    Facts {
        store: Some(store(&was, Vec::new())),
        program: is,
        markers,
        assume: None,
        known_as: "mill".into(),
    }
}

/// What the start of a program with the sink `out` must come to.
enum Expected<'a> {
    /// It goes on: whether the store is made, what the sink does, and a part of the only warning.
    Go { create: bool, sinks: &'a [SinkStart], warning: Option<&'a str> },
    /// It is refused: the kind, and parts of the text.
    Refused(Kind, &'a [&'a str]),
}

fn check(row: &str, facts: &Facts, expected: &Expected<'_>) {
    match (resolve(facts), expected) {
        (Ok(decision), Expected::Go { create, sinks, warning }) => {
            let after = facts.store.as_ref().map_or(Txid::NONE, |store| store.committed);
            assert_eq!(
                (decision.create, decision.after, &decision.sinks[..]),
                (*create, after, *sinks),
                "{row}"
            );
            let warned = decision.warnings.iter().map(String::as_str).collect::<Vec<_>>();
            assert!(
                match (warning, &warned[..]) {
                    (None, []) => true,
                    (Some(part), [only]) => only.contains(part),
                    _ => false,
                },
                "{row}: {warned:?}"
            );
            for decl in &facts.program.states {
                assert!(
                    decision.schema.state(&decl.name).is_some(),
                    "{row}: state \"{}\" has no number",
                    decl.name
                );
            }
        }
        (Err(error), Expected::Refused(kind, parts)) => {
            assert_eq!(error.kind(), *kind, "{row}: {error}");
            for part in *parts {
                assert!(error.to_string().contains(part), "{row}: {part:?} is not in: {error}");
            }
        }
        (Ok(decision), Expected::Refused(kind, _)) => {
            panic!("{row}: must be refused as {kind:?}, but: {decision}")
        }
        (Err(error), Expected::Go { .. }) => panic!("{row}: must go on, but: {error}"),
    }
}

fn go(row: &str, facts: &Facts, sinks: &[SinkStart]) {
    check(row, facts, &Expected::Go { create: facts.store.is_none(), sinks, warning: None });
}

fn goes_with_warning(row: &str, facts: &Facts, sinks: &[SinkStart], warning: &str) {
    check(row, facts, &Expected::Go { create: false, sinks, warning: Some(warning) });
}

fn refused(row: &str, facts: &Facts, kind: Kind, parts: &[&str]) {
    check(row, facts, &Expected::Refused(kind, parts));
}

fn register(at: u64) -> SinkStart {
    SinkStart::Register { at: Txid(at) }
}

fn resume(at: u64) -> SinkStart {
    SinkStart::Resume { at: Txid(at) }
}

#[test]
fn without_a_store() {
    let fresh = |markers| Facts {
        store: None,
        program: mill(&[("out", true)]),
        markers,
        assume: None,
        known_as: "mill".into(),
    };
    go("new topology", &fresh(vec![None]), &[register(0)]);
    let no_sinks = Facts {
        store: None,
        program: mill(&[]),
        markers: vec![],
        assume: None,
        known_as: "mill".into(),
    };
    go("new topology without sinks", &no_sinks, &[]);
    let lost = ["no state", "\"out\"", "batch 7", "\"mill\"", "4-000000000000000b", "--state"];
    refused("state lost", &fresh(vec![marker(7, THEIRS)]), Kind::Foreign, &lost);
    // The marker of a new topology that was killed between the claim and the record of it, whose
    // folder was then removed.
    refused(
        "state lost before batch 1",
        &fresh(vec![marker(0, OURS)]),
        Kind::Foreign,
        &["no state", "batch 0", "\"mill\""],
    );
    let other = Some(MarkerFacts { topology: "other".into(), txid: Txid(7), incarnation: OURS });
    refused(
        "another program's output",
        &fresh(vec![other]),
        Kind::Foreign,
        &["\"other\"", "--name"],
    );
    let assumed = assuming(Assume::Lost, fresh(vec![marker(7, THEIRS)]));
    refused(
        "a word on missing markers says nothing of one that is there",
        &assumed,
        Kind::Foreign,
        &["no state"],
    );
}

#[test]
fn a_sink_that_is_not_registered() {
    go("new sink", &with_out(out(None, &[]), None), &[register(10)]);
    go(
        "crash between marker and record",
        &with_out(out(None, &[]), marker(10, OURS)),
        &[register(10)],
    );
    let parts = ["\"out\" is new", "somebody else", "batch 9", "another output"];
    refused("an older batch", &with_out(out(None, &[]), marker(9, OURS)), Kind::Foreign, &parts);
    refused(
        "a later batch",
        &with_out(out(None, &[]), marker(11, OURS)),
        Kind::Foreign,
        &["somebody else", "batch 11"],
    );
    refused(
        "not of this history",
        &with_out(out(None, &[]), marker(10, THEIRS)),
        Kind::Foreign,
        &["somebody else"],
    );
    // A counter that is known says nothing without its nonce: copies of a folder count alike.
    let same_counter = Incarnation { counter: OURS.counter, nonce: 0xc };
    refused(
        "known counter, other nonce",
        &with_out(out(None, &[]), marker(10, same_counter)),
        Kind::Foreign,
        &["somebody else"],
    );
    let other = Some(MarkerFacts { topology: "other".into(), txid: Txid(10), incarnation: OURS });
    refused(
        "another topology's",
        &with_out(out(None, &[]), other),
        Kind::Foreign,
        &["somebody else", "\"other\""],
    );
    // A sink that was added with the program: no record of it at all.
    let added = Facts {
        store: Some(store(&mill(&[]), Vec::new())),
        program: mill(&[("out", true)]),
        markers: vec![None],
        assume: None,
        known_as: "mill".into(),
    };
    go("added to the program", &added, &[register(10)]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table, a row for each case")]
fn a_registered_sink_with_a_marker() {
    go("nothing to send", &with_out(out(Some(9), &[]), marker(9, OURS)), &[resume(9)]);
    go(
        "nothing to send, marker claimed later",
        &with_out(out(Some(9), &[]), marker(10, OURS)),
        &[resume(10)],
    );
    go(
        "an earlier run's marker",
        &with_out(out(Some(9), &[]), marker(9, Incarnation { counter: 1, nonce: 0xa })),
        &[resume(9)],
    );
    let rolled = ["\"out\" was rolled back", "holds batch 7", "batch 9", "--start-over"];
    refused("rolled back", &with_out(out(Some(9), &[]), marker(7, OURS)), Kind::Sink, &rolled);
    go("all to be sent", &with_out(out(Some(9), &[(7, 4), (9, 7)]), marker(4, OURS)), &[resume(4)]);
    go("some delivered", &with_out(out(Some(9), &[(7, 4), (9, 7)]), marker(7, OURS)), &[resume(7)]);
    go(
        "all delivered, not trimmed",
        &with_out(out(Some(9), &[(7, 4), (9, 7)]), marker(9, OURS)),
        &[resume(9)],
    );
    go(
        "marker between two entries",
        &with_out(out(Some(9), &[(7, 4), (9, 7)]), marker(5, OURS)),
        &[resume(5)],
    );
    let trimmed = ["\"out\" was rolled back", "holds batch 3", "batch 7", "4, was confirmed"];
    refused(
        "trimmed too far",
        &with_out(out(Some(9), &[(7, 4), (9, 7)]), marker(3, OURS)),
        Kind::Sink,
        &trimmed,
    );
    let older = [
        "state is older",
        "ends with batch 10",
        "holds batch 12",
        "old copy",
        "backup",
        "--start-over",
    ];
    refused(
        "state older than the sink",
        &with_out(out(Some(9), &[]), marker(12, OURS)),
        Kind::Foreign,
        &older,
    );
    refused(
        "older, and of a run it does not know",
        &with_out(out(Some(9), &[]), marker(12, THEIRS)),
        Kind::Foreign,
        &older,
    );
    let owned = ["another instance", "\"out\"", "4-000000000000000b", "batch 9", "history"];
    refused(
        "another history",
        &with_out(out(Some(9), &[]), marker(9, THEIRS)),
        Kind::Foreign,
        &owned,
    );
    refused(
        "another history, entries left",
        &with_out(out(Some(9), &[(9, 4)]), marker(4, THEIRS)),
        Kind::Foreign,
        &owned[..3],
    );
    let other = Some(MarkerFacts { topology: "other".into(), txid: Txid(9), incarnation: OURS });
    refused(
        "another topology's",
        &with_out(out(Some(9), &[]), other),
        Kind::Foreign,
        &["\"other\"", "another output"],
    );
}

#[test]
fn a_registered_sink_without_its_marker() {
    goes_with_warning(
        "marker gone, nothing unconfirmed",
        &with_out(out(Some(9), &[]), None),
        &[resume(10)],
        "lost its marker",
    );
    let unknown = || with_out(out(Some(9), &[(7, 4), (9, 7)]), None);
    let parts = [
        "\"out\" has no marker",
        "batches 7 to 9",
        "unknown",
        "--sink-assume delivered",
        "--sink-assume lost",
    ];
    refused("marker gone, entries", &unknown(), Kind::Sink, &parts);
    goes_with_warning(
        "told delivered",
        &assuming(Assume::Delivered, unknown()),
        &[resume(10)],
        "holds batch 10",
    );
    goes_with_warning(
        "told lost",
        &assuming(Assume::Lost, unknown()),
        &[resume(4)],
        "nothing after batch 4",
    );
}

#[test]
fn a_sink_that_keeps_no_marker() {
    go("at least once, new", &at_least_once(None, &[]), &[register(10)]);
    go("at least once, nothing left", &at_least_once(Some(9), &[]), &[resume(10)]);
    go("at least once, entries left", &at_least_once(Some(9), &[(7, 4), (9, 7)]), &[resume(4)]);
    let decision = resolve(&at_least_once(Some(9), &[(9, 7)])).expect("it goes on").to_string();
    assert!(decision.contains("at least once"), "{decision}");
}

#[test]
fn a_damaged_store() {
    let mut facts = with_out(out(Some(9), &[]), marker(9, OURS));
    let folded =
        |txid| StoreFacts { folded: Txid(txid), ..facts.store.clone().expect("it has a store") };
    let (equal, ahead) = (folded(10), folded(11));
    facts.store = Some(equal);
    go("folded up to the last batch", &facts, &[resume(9)]);
    facts.store = Some(ahead);
    refused(
        "folded > committed",
        &facts,
        Kind::Damaged,
        &["damaged", "folded up to batch 11", "only 10 is committed", "--start-over"],
    );
    // Damage comes before every other refusal: it says that the other facts cannot be trusted
    // either.
    facts.markers = vec![marker(12, THEIRS)];
    refused("damaged, and the sink is ahead", &facts, Kind::Damaged, &["damaged"]);
}

#[test]
fn a_changed_program_is_refused_with_the_difference() {
    let was = || mill(&[("out", true)]);
    let keep = "--start-over";
    let with_states =
        |states: &[(&str, &str, &str)]| program(states, &[("words", "files")], &[("out", true)]);
    let rows = [
        (
            "value type",
            with_states(&[("counts", "str", "f64")]),
            "state \"counts\" was (str) -> u64, is (str) -> f64",
        ),
        (
            "key type",
            with_states(&[("counts", "u32", "u64")]),
            "state \"counts\" was (str) -> u64, is (u32) -> u64",
        ),
        ("state removed", with_states(&[]), "state \"counts\" is gone"),
        ("state renamed", with_states(&[("words", "str", "u64")]), "state \"counts\" is gone"),
        (
            "source removed",
            program(&[("counts", "str", "u64")], &[], &[("out", true)]),
            "source \"words\" is gone",
        ),
        (
            "other source",
            program(&[("counts", "str", "u64")], &[("words", "kafka")], &[("out", true)]),
            "source \"words\" was files, is kafka",
        ),
        ("sink removed", mill(&[]), "sink \"out\" is gone"),
        ("other sink", mill(&[("out", false)]), "sink \"out\" was files, is stdout"),
        (
            "another name",
            Program { topology: "press".into(), ..was() },
            "belongs to topology \"mill\", this is \"press\"",
        ),
    ];
    for (row, is, difference) in rows {
        refused(row, &changed(was(), is), Kind::Config, &[difference, keep]);
    }
    let everything = Program { topology: "press".into(), ..program(&[], &[], &[]) };
    refused(
        "everything",
        &changed(was(), everything),
        Kind::Config,
        &["\"press\"", "\"counts\" is gone", "\"words\" is gone", "\"out\" is gone"],
    );
}

#[test]
fn a_grown_program_goes_on() {
    let was = mill(&[("out", true)]);
    let record = || vec![out(Some(9), &[])];
    let grown = program(
        &[("lengths", "u64", "u64"), ("counts", "str", "u64")],
        &[("more", "files"), ("words", "files")],
        &[("copy", true), ("out", true)],
    );
    let facts = Facts {
        store: Some(store(&was, record())),
        program: grown,
        markers: vec![None, marker(9, OURS)],
        assume: None,
        known_as: "mill".into(),
    };
    go("state, source and sink added, in another order", &facts, &[register(10), resume(9)]);
    let schema = resolve(&facts).expect("it goes on").schema;
    let recorded = &facts.store.as_ref().expect("it has a store").schema;
    assert_eq!((schema.state("counts"), schema.source("words"), schema.sink("out")), {
        (recorded.state("counts"), recorded.source("words"), recorded.sink("out"))
    });
    assert_eq!(
        resolve(&facts).expect("it goes on").to_string().matches("sink").count(),
        2,
        "each sink is told of"
    );
    let reordered = Facts { program: was.clone(), markers: vec![marker(9, OURS)], ..facts.clone() };
    go("the same program", &reordered, &[resume(9)]);
}

#[test]
fn the_decision_names_each_sink_by_its_own_start() {
    // The schema lists sinks in the order of their numbers, the decision in the program's: they
    // must not be mixed up.
    let program = mill(&[("copy", true), ("out", true)]);
    let facts = Facts {
        store: Some(store(&mill(&[("out", true)]), vec![out(Some(9), &[])])),
        program,
        markers: vec![None, marker(9, OURS)],
        assume: None,
        known_as: "mill".into(),
    };
    let words = resolve(&facts).expect("it goes on").to_string();
    for part in ["sink \"copy\" is new, from batch 11", "sink \"out\" holds batch 9"] {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
}
