//! What a topology has: its states, sources and sinks, by name, as declared by the program and as recorded in its store.

use crate::{Error, Result, SinkId, SourceId, StateId};
use serde::{Deserialize, Serialize};

/// A state as the program declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDecl {
    /// Its name, unique in the topology.
    pub name: String,
    /// The type of its keys.
    pub key: String,
    /// The type of its values.
    pub value: String,
    /// Whether all of its keys are on one worker, whatever they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub together: bool,
}

impl StateDecl {
    /// Its types in words.
    #[must_use]
    pub fn shape(&self) -> String {
        let place = if self.together { " on one worker" } else { "" };
        format!("({}) -> {}{place}", self.key, self.value)
    }
}

/// A source as the program declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceDecl {
    /// Its name, unique in the topology.
    pub name: String,
    /// What kind of source it is.
    pub kind: String,
}

/// A sink as the program declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkDecl {
    /// Its name, unique in the topology.
    pub name: String,
    /// What kind of sink it is.
    pub kind: String,
    /// Whether it keeps a marker, and so holds each batch once.
    pub exactly_once: bool,
}

/// What the program is: compared with what its store has recorded.
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
}

/// What a store has recorded: declarations with their numbers.
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

    /// The schema after `program` has started on this store: what is new gets a number, the next free one.
    ///
    /// # Errors
    /// Kind Config, with every difference, if the program lacks or changes something that is recorded.
    pub fn adopt(&self, program: &Program) -> Result<Schema> {
        let mut differences = Vec::new();
        if !self.topology.is_empty() && self.topology != program.topology {
            differences.push(format!("the store belongs to topology \"{}\", this is \"{}\"", self.topology, program.topology));
        }
        for (_, recorded) in &self.states {
            match program.states.iter().find(|state| state.name == recorded.name) {
                None => differences.push(format!("state \"{}\" is gone", recorded.name)),
                Some(state) if state != recorded => {
                    differences.push(format!("state \"{}\" was {}, is {}", recorded.name, recorded.shape(), state.shape()));
                }
                Some(_) => {}
            }
        }
        for (_, recorded) in &self.sources {
            match program.sources.iter().find(|source| source.name == recorded.name) {
                None => differences.push(format!("source \"{}\" is gone", recorded.name)),
                Some(source) if source != recorded => {
                    differences.push(format!("source \"{}\" was {}, is {}", recorded.name, recorded.kind, source.kind));
                }
                Some(_) => {}
            }
        }
        for (_, recorded) in &self.sinks {
            match program.sinks.iter().find(|sink| sink.name == recorded.name) {
                None => differences.push(format!("sink \"{}\" is gone", recorded.name)),
                Some(sink) if sink != recorded => {
                    differences.push(format!("sink \"{}\" was {}, is {}", recorded.name, recorded.kind, sink.kind));
                }
                Some(_) => {}
            }
        }
        if !differences.is_empty() {
            return Err(Error::config(format!(
                "the program has changed under its state: {}. Start the program that wrote it, give another --state folder, \
                 or begin anew with --start-over (the old folder is kept)",
                differences.join("; ")
            )));
        }
        let mut schema = self.clone();
        schema.topology.clone_from(&program.topology);
        add(&mut schema.states, &program.states, |state| &state.name, |id| id.0, StateId);
        add(&mut schema.sources, &program.sources, |source| &source.name, |id| id.0, SourceId);
        add(&mut schema.sinks, &program.sinks, |sink| &sink.name, |id| id.0, SinkId);
        Ok(schema)
    }
}

/// Appends the declarations whose names are not there yet, numbered on from the highest number.
fn add<I: Copy, D: Clone>(
    recorded: &mut Vec<(I, D)>,
    declared: &[D],
    name: fn(&D) -> &String,
    number: fn(I) -> u32,
    id: fn(u32) -> I,
) {
    for decl in declared {
        if !recorded.iter().any(|(_, known)| name(known) == name(decl)) {
            let next = recorded.iter().map(|(id, _)| number(*id)).max().unwrap_or(0) + 1;
            recorded.push((id(next), decl.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, value: &str) -> StateDecl {
        StateDecl { name: name.into(), key: "str".into(), value: value.into(), together: false }
    }

    fn program(states: &[StateDecl]) -> Program {
        Program { topology: "t".into(), states: states.to_vec(), ..Program::default() }
    }

    #[test]
    fn what_is_new_gets_the_next_number_and_what_is_known_keeps_its_own() {
        let first = Schema::default().adopt(&program(&[state("a", "u64")])).expect("new");
        let second = first.adopt(&program(&[state("b", "u64"), state("a", "u64")])).expect("grown");
        assert_eq!((second.state("a"), second.state("b"), second.state("c")), (Some(StateId(1)), Some(StateId(2)), None));
    }

    #[test]
    fn what_is_gone_or_changed_is_refused_with_every_difference() {
        let recorded = Schema::default().adopt(&program(&[state("a", "u64"), state("b", "u64")])).expect("new");
        let mut other = program(&[state("b", "f64")]);
        other.topology = "u".into();
        let error = recorded.adopt(&other).expect_err("changed").to_string();
        for part in ["belongs to topology \"t\"", "state \"a\" is gone", "state \"b\" was (str) -> u64, is (str) -> f64"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
