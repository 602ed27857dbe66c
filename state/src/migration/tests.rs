//! The plan of a migration, case by case.

use super::*;
use crate::Txid;
use crate::schema::{SinkDecl, SourceDecl};

fn state(name: &str, value: &str) -> StateDecl {
    StateDecl { name: name.into(), key: "str".into(), value: value.into(), ..StateDecl::default() }
}

fn named(name: &str) -> TypeDecl {
    TypeDecl { name: name.into(), parts: String::new() }
}

fn program(states: &[StateDecl], migrations: &[(&str, &[Change])]) -> Program {
    let migration = |(name, changes): &(&str, &[Change])| Migration {
        name: (*name).into(),
        changes: changes.to_vec(),
    };
    Program {
        topology: "t".into(),
        states: states.to_vec(),
        sources: vec![SourceDecl { name: "in".into(), kind: "files".into() }],
        sinks: vec![SinkDecl { name: "out".into(), kind: "files".into(), exactly_once: true }],
        migrations: migrations.iter().map(migration).collect(),
    }
}

fn recorded(states: &[StateDecl]) -> Schema {
    Schema::default().adopt(&program(states, &[])).expect("everything is new")
}

fn rename(from: &str, to: &str) -> Change {
    Change::RenameState { from: from.into(), to: to.into() }
}

fn drop_state(name: &str) -> Change {
    Change::DropState { name: name.into() }
}

fn convert(name: &str, old: &str, new: &str, code: usize) -> Change {
    Change::ConvertState { name: name.into(), keys: None, values: (named(old), named(new)), code }
}

fn migrated(store: &Schema, program: &Program) -> (Schema, Plan) {
    let (schema, plan) = plan(store, program, &[]).expect("it can be done");
    (schema.adopt(program).expect("nothing else has changed"), plan)
}

fn refusal(store: &Schema, program: &Program) -> String {
    plan(store, program, &[]).expect_err("it is refused").to_string()
}

#[test]
fn a_renamed_state_keeps_its_number_and_is_renamed_once() {
    let store = recorded(&[state("a", "u64"), state("b", "u64")]);
    let program = program(&[state("c", "u64"), state("b", "u64")], &[("m", &[rename("a", "c")])]);
    let (schema, plan) = migrated(&store, &program);
    assert_eq!((schema.state("a"), schema.state("c")), (None, store.state("a")));
    assert!(plan.states.is_empty() && plan.conversions.is_empty(), "{plan:?}");
    assert_eq!(plan.pending[0].to_string(), "migration \"m\": state \"a\" becomes \"c\"");
    let (again, plan) = migrated(&schema, &program);
    assert_eq!((again, plan), (schema, Plan::default()));
}

#[test]
fn a_new_store_records_what_it_need_not_do() {
    let program =
        program(&[state("c", "u64")], &[("m", &[rename("a", "c")]), ("n", &[drop_state("x")])]);
    let (schema, plan) = migrated(&Schema::default(), &program);
    assert_eq!(
        (schema.migrations, plan),
        (vec!["m".to_string(), "n".to_string()], Plan::default())
    );
}

#[test]
fn the_number_of_what_goes_is_never_given_again() {
    let store = recorded(&[state("a", "u64"), state("b", "u64")]);
    let without = program(&[state("a", "u64")], &[("m", &[drop_state("b")])]);
    let (schema, plan) = migrated(&store, &without);
    assert_eq!((plan.states, schema.state("b")), (vec![StateId(2)], None));
    let again = program(&[state("a", "u64"), state("b", "u64")], &[]);
    assert_eq!(migrated(&schema, &again).0.state("b"), Some(StateId(3)));
    // In one migration too: what has the same name afterwards is another state.
    let anew = program(&[state("a", "u64"), state("b", "f64")], &[("m", &[drop_state("b")])]);
    assert_eq!(migrated(&store, &anew).0.state("b"), Some(StateId(3)));
}

#[test]
fn a_converted_state_gets_another_number_and_all_conversions_that_it_missed() {
    let store = recorded(&[state("a", "u32"), state("b", "u64")]);
    let first: (&str, &[Change]) = ("one", &[convert("a", "u32", "u64", 0)]);
    let second: (&str, &[Change]) = ("two", &[rename("a", "c"), convert("c", "u64", "f64", 1)]);
    let program = program(&[state("c", "f64"), state("b", "u64")], &[first, second]);
    let (schema, plan) = migrated(&store, &program);
    assert_eq!((schema.state("c"), schema.highest.state), (Some(StateId(3)), 3));
    let conversion =
        Conversion { from: StateId(1), to: StateId(3), state: state("c", "f64"), code: vec![0, 1] };
    assert_eq!((plan.conversions, plan.states), (vec![conversion], vec![StateId(1)]));
    // One that has seen the first makes the second only.
    let mut seen = recorded(&[state("a", "u64"), state("b", "u64")]);
    seen.migrations.push("one".into());
    assert_eq!(migrated(&seen, &program).1.conversions[0].code, [1]);
}

#[test]
fn a_state_that_is_converted_and_then_dropped_is_only_dropped() {
    let store = recorded(&[state("a", "u32")]);
    let changes = [convert("a", "u32", "u64", 0), drop_state("a")];
    let (schema, plan) = migrated(&store, &program(&[], &[("m", &changes)]));
    assert_eq!(
        (schema.states.len(), plan.states, plan.conversions),
        (0, vec![StateId(1)], Vec::new())
    );
}

#[test]
fn a_conversion_may_move_a_state_to_one_worker() {
    let store = recorded(&[state("a", "u32")]);
    let together = StateDecl { together: true, ..state("a", "u32") };
    let is = program(std::slice::from_ref(&together), &[("m", &[convert("a", "u32", "u32", 0)])]);
    assert_eq!(migrated(&store, &is).1.conversions[0].state, together);
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let store = recorded(&[state("a", "u32"), state("b", "app::Total")]);
    let refused = |change: Change, parts: &[&str]| {
        let error = refusal(&store, &program(&[], &[("m", &[change])]));
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    };
    refused(
        rename("x", "y"),
        &["migration \"m\"", "state \"x\" becomes \"y\"", "no state \"x\"", "it has \"a\", \"b\""],
    );
    refused(rename("a", "b"), &["a state \"b\" already"]);
    refused(drop_state("x"), &["no state \"x\""]);
    refused(convert("a", "i32", "u64", 0), &["recorded as u32", "takes i32"]);
    refused(
        convert("b", "app::OldTotal", "app::Total", 0),
        &["recorded as Total", "takes OldTotal", "v1::Total"],
    );
    refused(Change::DropSource { name: "x".into() }, &["no source \"x\"", "it has \"in\""]);
    refused(Change::DropSink { name: "x".into() }, &["no sink \"x\""]);
    refused(Change::DropSink { name: "out".into() }, &["still has a sink \"out\""]);
    let rekeyed = Change::ConvertState {
        name: "a".into(),
        keys: Some((named("u8"), named("u16"))),
        values: (named("u32"), named("u32")),
        code: 0,
    };
    refused(rekeyed, &["keys of state \"a\" are recorded as str"]);
}

#[test]
fn a_sink_goes_only_when_it_has_everything() {
    let store = recorded(&[]);
    let without = Program {
        sinks: Vec::new(),
        ..program(&[], &[("m", &[Change::DropSink { name: "out".into() }])])
    };
    let with = |entries: Vec<(Txid, Txid)>| {
        [SinkRecord { name: "out".into(), last: Some(Txid(9)), entries }]
    };
    let error = plan(&store, &without, &with(vec![(Txid(7), Txid(4)), (Txid(9), Txid(7))]))
        .expect_err("it has not")
        .to_string();
    for part in ["batches 7 to 9", "not confirmed", "Start the program that has it"] {
        assert!(error.contains(part), "{error}");
    }
    let (schema, plan) = plan(&store, &without, &with(Vec::new())).expect("it has everything");
    assert_eq!((schema.sink("out"), plan.sinks), (None, vec![SinkId(1)]));
}

#[test]
fn a_type_is_known_by_its_name_without_modules() {
    let pairs = [
        ("u32", "u32"),
        ("alloc::string::String", "String"),
        ("core::option::Option<(app::v1::Total, [u8; 4])>", "Option<(Total, [u8; 4])>"),
        ("app::Total<app::deep::Er, u8>", "Total<Er, u8>"),
    ];
    for (name, is) in pairs {
        assert_eq!(readable(name), is);
    }
}

#[test]
fn a_schema_of_a_store_without_migrations_can_be_read() {
    let text = r#"{"topology":"t","states":[[2,{"name":"a","key":"str","value":"u64"}]],"sources":[],"sinks":[]}"#;
    let old: Schema = serde_json::from_str(text).expect("it is of an older version");
    let grown = Program {
        sources: Vec::new(),
        sinks: Vec::new(),
        ..program(&[state("a", "u64"), state("b", "u64")], &[])
    };
    let (schema, _) = migrated(&old, &grown);
    assert_eq!((schema.state("a"), schema.state("b")), (Some(StateId(2)), Some(StateId(3))));
}

#[test]
fn a_conversion_takes_what_is_recorded_not_only_what_is_called_so() {
    let made_of = |parts: &str| TypeDecl { name: "app::Total".into(), parts: parts.into() };
    let store =
        recorded(&[StateDecl { value_parts: "{sum: u64}".into(), ..state("a", "app::Total") }]);
    let change = |old: &str| Change::ConvertState {
        name: "a".into(),
        keys: None,
        values: (made_of(old), made_of("{sum: i64}")),
        code: 0,
    };
    let is = StateDecl { value_parts: "{sum: i64}".into(), ..state("a", "app::Total") };
    let (schema, _) =
        migrated(&store, &program(std::slice::from_ref(&is), &[("m", &[change("{sum: u64}")])]));
    assert_eq!(schema.states[0].1, is);
    let error = refusal(&store, &program(&[is], &[("m", &[change("{sum: i64}")])]));
    for part in
        ["recorded as Total, made of {sum: u64}", "takes one made of {sum: i64}", "v1::Total"]
    {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}
