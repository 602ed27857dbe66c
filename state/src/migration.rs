//! Migrations: declared changes of what a store has recorded, beyond what adding can do. From
//! declarations to a plan, without reading or writing anything.
//!
//! A migration has a name, and is made once on each store: the names of those that were made are
//! recorded with the schema, in the same write as what they change. A new store records all of them
//! as made, since it begins with what the program is now.
//!
//! Numbers are never used again. So a state that is converted gets a new one: its new values are
//! complete under a number that nothing knows before the one write that records it, and a crash
//! before that write leaves the state as it was.

use crate::facts::SinkRecord;
pub use crate::schema::{Change, Migration};
use crate::schema::{Numbered, Program, Schema, StateDecl, TypeDecl, parts_differ};
use crate::type_names::readable;
use crate::{Error, Result, SinkId, SourceId, StateId};

/// The changes that a start makes to a store for the migrations that the store has not seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The migrations that are made.
    pub pending: Vec<Migration>,
    /// States whose content goes; those that are converted, under their old numbers, too.
    pub states: Vec<StateId>,
    /// Sources whose positions go.
    pub sources: Vec<SourceId>,
    /// Sinks that go.
    pub sinks: Vec<SinkId>,
    /// States that are converted, before the old ones go.
    pub conversions: Vec<Conversion>,
}

/// A state that gets other values, and with them another number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// Its number so far.
    pub from: StateId,
    /// Its number from now on.
    pub to: StateId,
    /// The state as it is then.
    pub state: StateDecl,
    /// Which of the program's conversions are made, one after the other.
    pub code: Vec<usize>,
}

/// Returns the recorded schema with the pending migrations made, and the plan by which a start
/// makes them.
///
/// # Errors
/// Kind Config: a change is of something that the store has not, or a sink that goes has not
/// confirmed everything.
pub fn plan(recorded: &Schema, program: &Program, sinks: &[SinkRecord]) -> Result<(Schema, Plan)> {
    let mut work = Work { schema: recorded.clone(), plan: Plan::default(), converted: Vec::new() };
    for migration in &program.migrations {
        if recorded.migrations.contains(&migration.name) {
            continue;
        }
        work.schema.migrations.push(migration.name.clone());
        if recorded.topology.is_empty() {
            // Nothing has run on it: it begins with what the program is now.
            continue;
        }
        for change in &migration.changes {
            work.make(change, program, sinks).map_err(|why| refused(migration, &why))?;
        }
        work.plan.pending.push(migration.clone());
    }
    Ok(work.finish(program))
}

fn refused(migration: &Migration, why: &str) -> Error {
    Error::config(format!("{migration}: this cannot be done here, {why}"))
}

struct Work {
    schema: Schema,
    plan: Plan,
    /// By the number of the state.
    converted: Vec<(StateId, Vec<usize>)>,
}

impl Work {
    fn make(
        &mut self,
        change: &Change,
        program: &Program,
        sinks: &[SinkRecord],
    ) -> std::result::Result<(), String> {
        match change {
            Change::RenameState { from, to } => rename("state", &mut self.schema.states, from, to),
            Change::DropState { name } => {
                let id = remove("state", &mut self.schema.states, name)?;
                self.converted.retain(|(converted, _)| *converted != id);
                self.plan.states.push(id);
                Ok(())
            }
            Change::ConvertState { name, keys, values, code } => {
                self.convert(name, keys.as_ref(), values, *code)
            }
            Change::RenameSource { from, to } => {
                rename("source", &mut self.schema.sources, from, to)
            }
            Change::DropSource { name } => {
                self.plan.sources.push(remove("source", &mut self.schema.sources, name)?);
                Ok(())
            }
            Change::DropSink { name } => self.drop_sink(name, program, sinks),
        }
    }

    fn convert(
        &mut self,
        name: &str,
        keys: Option<&(TypeDecl, TypeDecl)>,
        values: &(TypeDecl, TypeDecl),
        code: usize,
    ) -> std::result::Result<(), String> {
        let (id, state) = find("state", &mut self.schema.states, name)?;
        if let Some(keys) = keys {
            become_other(name, "keys", (&mut state.key, &mut state.key_parts), keys)?;
        }
        become_other(name, "values", (&mut state.value, &mut state.value_parts), values)?;
        let id = *id;
        match self.converted.iter_mut().find(|(converted, _)| *converted == id) {
            Some((_, codes)) => codes.push(code),
            None => self.converted.push((id, vec![code])),
        }
        Ok(())
    }

    fn drop_sink(
        &mut self,
        name: &str,
        program: &Program,
        sinks: &[SinkRecord],
    ) -> std::result::Result<(), String> {
        let id = remove("sink", &mut self.schema.sinks, name)?;
        let entries =
            sinks.iter().find(|sink| sink.name == name).map_or(&[][..], |sink| &sink.entries);
        if let ([(first, _), ..], [.., (last, _)]) = (entries, entries) {
            return Err(format!(
                "because batches {first} to {last} are committed for sink \"{name}\" and not \
                 confirmed. Start the program that has it, stop it when it has published them, \
                 then start this one"
            ));
        }
        if program.sinks.iter().any(|sink| sink.name == name) {
            return Err(format!(
                "because the program still has a sink \"{name}\". Give the new one another name"
            ));
        }
        self.plan.sinks.push(id);
        Ok(())
    }

    /// Gives what is converted its new numbers.
    fn finish(mut self, program: &Program) -> (Schema, Plan) {
        self.schema.note_highest();
        for (from, code) in self.converted {
            let to = StateId(self.schema.highest.state + 1);
            self.schema.highest.state = to.0;
            let (id, state) = self
                .schema
                .states
                .iter_mut()
                .find(|(id, _)| *id == from)
                .expect("what is dropped is not converted");
            *id = to;
            // Where its keys lie may change with a conversion: all of them are written anew.
            if let Some(declared) =
                program.states.iter().find(|declared| declared.name == state.name)
            {
                state.together = declared.together;
            }
            self.plan.states.push(from);
            self.plan.conversions.push(Conversion { from, to, state: state.clone(), code });
        }
        (self.schema, self.plan)
    }
}

/// Makes the recorded type of a state's keys or values the new one, if it is what the conversion
/// takes.
fn become_other(
    state: &str,
    what: &str,
    (type_name, parts): (&mut String, &mut String),
    (old, new): &(TypeDecl, TypeDecl),
) -> std::result::Result<(), String> {
    let named_alike = readable(&old.name) == readable(type_name);
    if !named_alike || parts_differ(&old.parts, parts) {
        let (had, takes) = if named_alike {
            (
                format!("{}, made of {parts}", readable(type_name)),
                format!("one made of {}", old.parts),
            )
        } else {
            (readable(type_name), readable(&old.name))
        };
        return Err(format!(
            "because the {what} of state \"{state}\" are recorded as {had}, and the conversion \
             takes {takes}. An old type keeps its name and fields; give it a module of its own, \
             as in v1::{}",
            readable(type_name)
        ));
    }
    type_name.clone_from(&new.name);
    parts.clone_from(&new.parts);
    Ok(())
}

fn find<'a, I, D: Numbered>(
    what: &str,
    all: &'a mut [(I, D)],
    name: &str,
) -> std::result::Result<&'a mut (I, D), String> {
    let there: Vec<String> = all.iter().map(|(_, decl)| format!("\"{}\"", decl.name())).collect();
    all.iter_mut().find(|(_, decl)| decl.name() == name).ok_or_else(|| {
        let has = if there.is_empty() { "none".to_string() } else { there.join(", ") };
        format!("because the store has no {what} \"{name}\" (it has {has})")
    })
}

fn rename<I, D: Numbered>(
    what: &str,
    all: &mut [(I, D)],
    from: &str,
    to: &str,
) -> std::result::Result<(), String> {
    if all.iter().any(|(_, decl)| decl.name() == to) {
        return Err(format!("because the store has a {what} \"{to}\" already"));
    }
    let (_, decl) = find(what, all, from)?;
    decl.set_name(to);
    Ok(())
}

fn remove<I: Copy, D: Numbered>(
    what: &str,
    all: &mut Vec<(I, D)>,
    name: &str,
) -> std::result::Result<I, String> {
    let id = find(what, all, name)?.0;
    all.retain(|(_, decl)| decl.name() != name);
    Ok(id)
}

#[cfg(test)]
mod tests;
