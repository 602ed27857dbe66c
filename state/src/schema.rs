//! The schema of a topology: its states, sources and sinks, by name, as declared by the program and
//! as recorded in its store.

use crate::type_names::readable;
use crate::{Error, Result, SinkId, SourceId, StateId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A state as the program declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDecl {
    /// Its name, unique in the topology.
    pub name: String,
    /// The type of its keys.
    pub key: String,
    /// The type of its values.
    pub value: String,
    /// True if all of its keys are on one worker, whatever they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub together: bool,
    /// The parts of the state's keys, see [`crate::shape`]: a type may change without its name.
    /// Empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key_parts: String,
    /// The parts of the state's values.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value_parts: String,
}

/// A type of a state's keys or values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeDecl {
    /// Its name.
    pub name: String,
    /// The parts of the type, see [`crate::shape`]. Empty if unknown.
    pub parts: String,
}

/// Returns whether two descriptions of what a type is made of differ; one that is not known does
/// not.
pub(crate) fn parts_differ(one: &str, other: &str) -> bool {
    !one.is_empty() && !other.is_empty() && one != other
}

impl StateDecl {
    /// Its types in words, without the modules that they lie in.
    #[must_use]
    pub fn shape(&self) -> String {
        let place = if self.together { " on one worker" } else { "" };
        format!("({}) -> {}{place}", readable(&self.key), readable(&self.value))
    }

    /// Returns what this state was and what it is in words, if `now` declares other types. Names
    /// are compared without modules; what types are made of is compared where it is known.
    #[must_use]
    pub fn difference(&self, now: &StateDecl) -> Option<(String, String)> {
        if self.shape() != now.shape() {
            return Some((self.shape(), now.shape()));
        }
        // An older version has not recorded what is in a type.
        let differ = parts_differ(&self.key_parts, &now.key_parts)
            || parts_differ(&self.value_parts, &now.value_parts);
        let made_of =
            |state: &StateDecl| format!("made of ({}) -> {}", state.key_parts, state.value_parts);
        differ.then(|| (format!("{}, {}", self.shape(), made_of(self)), made_of(now)))
    }
}

/// A source as the program declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceDecl {
    /// Its name, unique in the topology.
    pub name: String,
    /// The kind of the source.
    pub kind: String,
}

/// A sink as the program declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkDecl {
    /// Its name, unique in the topology.
    pub name: String,
    /// The kind of the sink.
    pub kind: String,
    /// True if it keeps a marker, and so holds each batch once.
    pub exactly_once: bool,
}

/// The declarations of a program, which are compared with the record in its store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The topology's name.
    pub topology: String,
    /// Its states, in the order in which they are declared.
    pub states: Vec<StateDecl>,
    /// Its sources.
    pub sources: Vec<SourceDecl>,
    /// Its sinks.
    pub sinks: Vec<SinkDecl>,
    /// The migrations by which stores of older versions of the program become its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<Migration>,
}

/// The declarations that a store has recorded, with their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// The topology's name.
    pub topology: String,
    /// States with their numbers.
    pub states: Vec<(StateId, StateDecl)>,
    /// Sources with their numbers.
    pub sources: Vec<(SourceId, SourceDecl)>,
    /// Sinks with their numbers.
    pub sinks: Vec<(SinkId, SinkDecl)>,
    /// The names of the migrations that were made, or that it began with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<String>,
    /// The highest numbers that were ever given.
    #[serde(default)]
    pub highest: Highest,
}

/// The highest numbers that were given in a store: none is given again, also when what had it is
/// gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Highest {
    /// Of states.
    pub state: u32,
    /// Of sources.
    pub source: u32,
    /// Of sinks.
    pub sink: u32,
}

/// A declaration that is recorded under a number.
pub(crate) trait Numbered: Clone + PartialEq {
    fn name(&self) -> &str;
    fn set_name(&mut self, name: &str);

    /// Returns the old and the new description, if `now` differs from `self`.
    fn difference(&self, now: &Self) -> Option<(String, String)>;
}

macro_rules! numbered {
    ($($decl:ty, $difference:expr;)*) => {
        $(impl Numbered for $decl {
            fn difference(&self, now: &Self) -> Option<(String, String)> {
                $difference(self, now)
            }

            fn name(&self) -> &str {
                &self.name
            }

            fn set_name(&mut self, name: &str) {
                self.name = name.to_string();
            }
        })*
    };
}

numbered! {
    StateDecl, StateDecl::difference;
    SourceDecl, |was: &SourceDecl, is: &SourceDecl| kind_difference(&was.kind, &is.kind);
    SinkDecl, sink_difference;
}

/// Two kinds, with the types in them, if they differ. A module is no part of a type's name: another
/// version of Rust or of a library may move it.
fn kind_difference(was: &str, is: &str) -> Option<(String, String)> {
    let (was, is) = (readable(was), readable(is));
    (was != is).then_some((was, is))
}

fn sink_difference(was: &SinkDecl, is: &SinkDecl) -> Option<(String, String)> {
    let once = |sink: &SinkDecl| if sink.exactly_once { "exactly once" } else { "at least once" };
    let and_once = |sink: &SinkDecl| format!("{}, {}", readable(&sink.kind), once(sink));
    let other_delivery =
        (was.exactly_once != is.exactly_once).then(|| (and_once(was), and_once(is)));
    kind_difference(&was.kind, &is.kind).or(other_delivery)
}

impl Schema {
    /// The number of the state of this name.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<StateId> {
        self.states.iter().find(|(_, state)| state.name == name).map(|(id, _)| *id)
    }

    /// The number of the source of this name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<SourceId> {
        self.sources.iter().find(|(_, source)| source.name == name).map(|(id, _)| *id)
    }

    /// The number of the sink of this name.
    #[must_use]
    pub fn sink(&self, name: &str) -> Option<SinkId> {
        self.sinks.iter().find(|(_, sink)| sink.name == name).map(|(id, _)| *id)
    }

    /// The schema after `program` has started on this store: what is new gets a number, the next
    /// free one.
    ///
    /// # Errors
    /// Kind Config, with every difference, if the program lacks or changes something that is
    /// recorded.
    pub fn adopt(&self, program: &Program) -> Result<Schema> {
        let mut differences = Vec::new();
        differences.extend(changed("state", &self.states, &program.states));
        differences.extend(changed("source", &self.sources, &program.sources));
        differences.extend(changed("sink", &self.sinks, &program.sinks));
        if !self.topology.is_empty() && self.topology != program.topology {
            let (was, is) = (&self.topology, &program.topology);
            let other = format!("the store belongs to topology \"{was}\", this is \"{is}\"");
            if differences.is_empty() {
                return Err(Error::config(format!(
                    "{other}. A topology has the name of its binary unless it is given one: if \
                     this is the same one, start it with --name {was}; else give another --state \
                     folder, or begin anew with --start-over (the old folder is kept)"
                )));
            }
            differences
                .insert(0, format!("{other} (if it is the same one, start it with --name {was})"));
        }
        if !differences.is_empty() {
            return Err(Error::config(format!(
                "the program has changed under its state: {}. Declare what is meant with \
                 topology.migration(name), by rename_state, drop_state, convert_state, \
                 rename_source, drop_source or drop_sink; or start the program that wrote it, \
                 give another --state folder, or begin anew with --start-over (the old folder is \
                 kept)",
                differences.join("; ")
            )));
        }
        let mut schema = self.clone();
        schema.topology.clone_from(&program.topology);
        schema.note_highest();
        for (_, state) in &mut schema.states {
            if let Some(declared) =
                program.states.iter().find(|declared| declared.name == state.name)
            {
                state.key_parts.clone_from(&declared.key_parts);
                state.value_parts.clone_from(&declared.value_parts);
            }
        }
        add(&mut schema.states, &program.states, &mut schema.highest.state, StateId);
        add(&mut schema.sources, &program.sources, &mut schema.highest.source, SourceId);
        add(&mut schema.sinks, &program.sinks, &mut schema.highest.sink, SinkId);
        Ok(schema)
    }

    /// Takes the numbers that are given now into account: a store of an older version has not
    /// recorded the highest.
    pub(crate) fn note_highest(&mut self) {
        let Highest { state, source, sink } = &mut self.highest;
        *state = self.states.iter().map(|(id, _)| id.0).fold(*state, u32::max);
        *source = self.sources.iter().map(|(id, _)| id.0).fold(*source, u32::max);
        *sink = self.sinks.iter().map(|(id, _)| id.0).fold(*sink, u32::max);
    }
}

/// Every difference between what is recorded and what is declared, but for what is new.
fn changed<I, D: Numbered>(what: &str, recorded: &[(I, D)], declared: &[D]) -> Vec<String> {
    let is_new = |is: &&D| !recorded.iter().any(|(_, was)| was.name() == is.name());
    let new: Vec<String> =
        declared.iter().filter(is_new).map(|is| format!("\"{}\"", is.name())).collect();
    let new = if new.is_empty() {
        String::new()
    } else {
        format!(" (new in the program: {})", new.join(", "))
    };
    let differences = recorded.iter().filter_map(|(_, was)| {
        let name = was.name();
        match declared.iter().find(|is| is.name() == name) {
            None => Some(format!("{what} \"{name}\" is gone{new}")),
            Some(is) => {
                was.difference(is).map(|(was, is)| format!("{what} \"{name}\" was {was}, is {is}"))
            }
        }
    });
    differences.collect()
}

/// Appends the declarations whose names are not there yet, numbered on from the highest number.
fn add<I, D: Numbered>(
    recorded: &mut Vec<(I, D)>,
    declared: &[D],
    highest: &mut u32,
    id: fn(u32) -> I,
) {
    for decl in declared {
        if !recorded.iter().any(|(_, known)| known.name() == decl.name()) {
            *highest += 1;
            recorded.push((id(*highest), decl.clone()));
        }
    }
}

/// Changes under one name: all of them are made, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Its name, unique in the program, and the same for ever.
    pub name: String,
    /// The migration's changes, in the order in which they are made.
    pub changes: Vec<Change>,
}

/// One change of what is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A state keeps its content under another name.
    RenameState {
        /// Its name so far.
        from: String,
        /// Its name from now on.
        to: String,
    },
    /// A state goes, with its content.
    DropState {
        /// Its name.
        name: String,
    },
    /// A state's values, or keys and values, become others.
    ConvertState {
        /// Its name.
        name: String,
        /// The type of its keys before and after; `None` if they stay.
        keys: Option<(TypeDecl, TypeDecl)>,
        /// The type of its values before and after.
        values: (TypeDecl, TypeDecl),
        /// Which of the program's conversions does it.
        code: usize,
    },
    /// A source keeps its positions under another name.
    RenameSource {
        /// Its name so far.
        from: String,
        /// Its name from now on.
        to: String,
    },
    /// A source goes, with its positions.
    DropSource {
        /// Its name.
        name: String,
    },
    /// A sink goes. It must have confirmed everything.
    DropSink {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        write!(f, "migration \"{}\": {}", self.name, changes.join(", "))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::RenameState { from, to } => write!(f, "state \"{from}\" becomes \"{to}\""),
            Change::DropState { name } => write!(f, "state \"{name}\" is dropped"),
            Change::ConvertState { name, keys: None, values: (old, new), .. } => {
                write!(f, "the values of state \"{name}\" go from {} to {}", old.name, new.name)
            }
            Change::ConvertState {
                name, keys: Some((old_key, key)), values: (old, new), ..
            } => {
                let [old_key, key, old, new] = [old_key, key, old, new].map(|of| &of.name);
                write!(f, "state \"{name}\" goes from ({old_key}) -> {old} to ({key}) -> {new}")
            }
            Change::RenameSource { from, to } => write!(f, "source \"{from}\" becomes \"{to}\""),
            Change::DropSource { name } => write!(f, "source \"{name}\" is dropped"),
            Change::DropSink { name } => write!(f, "sink \"{name}\" is dropped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, value: &str) -> StateDecl {
        StateDecl {
            name: name.into(),
            key: "str".into(),
            value: value.into(),
            ..StateDecl::default()
        }
    }

    fn program(states: &[StateDecl]) -> Program {
        Program { topology: "t".into(), states: states.to_vec(), ..Program::default() }
    }

    #[test]
    fn what_is_new_gets_the_next_number_and_what_is_known_keeps_its_own() {
        let first = Schema::default().adopt(&program(&[state("a", "u64")])).expect("new");
        let second = first.adopt(&program(&[state("b", "u64"), state("a", "u64")])).expect("grown");
        assert_eq!(
            (second.state("a"), second.state("b"), second.state("c")),
            (Some(StateId(1)), Some(StateId(2)), None)
        );
    }

    #[test]
    fn a_type_that_has_changed_its_fields_under_its_name_is_refused() {
        let made_of = |parts: &str| {
            program(&[StateDecl {
                key_parts: "text".into(),
                value_parts: parts.into(),
                ..state("a", "Total")
            }])
        };
        let recorded = Schema::default().adopt(&made_of("{sum: u64}")).expect("new");
        recorded.adopt(&made_of("{sum: u64}")).expect("the same");
        let error = recorded.adopt(&made_of("{sum: i64}")).expect_err("changed").to_string();
        let difference = "state \"a\" was (str) -> Total, made of (text) -> {sum: u64}, is made \
            of (text) -> {sum: i64}";
        assert!(error.contains(difference) && error.contains("convert_state"), "{error}");
        // What an older version has recorded is taken for what the program has, from then on.
        let older = Schema::default().adopt(&made_of("")).expect("new");
        let now = older.adopt(&made_of("{sum: u64}")).expect("it is not known to differ");
        now.adopt(&made_of("{sum: i64}")).expect_err("now it is");
    }

    #[test]
    fn a_type_that_only_moved_to_another_module_is_the_same() {
        let with = |key: &str, value: &str, kind: &str| Program {
            sources: vec![SourceDecl { name: "s".into(), kind: kind.into() }],
            ..program(&[StateDecl { key: key.into(), ..state("a", value) }])
        };
        let kind = "files of alloc::string::String";
        let recorded = Schema::default()
            .adopt(&with("compact_str::CompactString", "orders::v1::Total", kind))
            .expect("new");
        let moved = with(
            "compact_str::repr::CompactString",
            "orders::Total",
            "files of std::string::String",
        );
        let kept = recorded.adopt(&moved).expect("only modules differ");
        assert_eq!(kept.states, recorded.states, "what is recorded stays");
        let error = recorded
            .adopt(&with("alloc::string::String", "orders::Total", kind))
            .expect_err("another type")
            .to_string();
        assert!(error.contains("state \"a\" was (Str) -> Total, is (String) -> Total"), "{error}");
        let error = recorded
            .adopt(&with("x::CompactString", "x::Total", "files of u64"))
            .expect_err("another type")
            .to_string();
        assert!(error.contains("source \"s\" was files of String, is files of u64"), "{error}");
    }

    #[test]
    fn a_renamed_binary_is_told_its_way_out() {
        let recorded = Schema::default().adopt(&program(&[state("a", "u64")])).expect("new");
        let renamed = Program { topology: "u".into(), ..program(&[state("a", "u64")]) };
        let error = recorded.adopt(&renamed).expect_err("another name").to_string();
        assert!(
            error.contains("belongs to topology \"t\", this is \"u\"")
                && error.contains("--name t"),
            "{error}"
        );
        assert!(!error.contains("migration"), "no migration renames a topology: {error}");
    }

    #[test]
    fn what_is_gone_or_changed_is_refused_with_every_difference() {
        let recorded = Schema::default()
            .adopt(&program(&[state("a", "u64"), state("b", "u64")]))
            .expect("new");
        let mut other = program(&[state("b", "f64"), state("c", "u64")]);
        other.topology = "u".into();
        let error = recorded.adopt(&other).expect_err("changed").to_string();
        for part in [
            "topology \"t\"",
            "--name t",
            "state \"a\" is gone (new in the program: \"c\")",
            "state \"b\" was (str) -> u64, is (str) -> f64",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}
