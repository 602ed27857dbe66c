//! The dataflow as a person sees it: operators, states, sources and sinks, and what flows between
//! them.

use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;
use std::panic::Location;
use tidemill_state::Error;

/// A node's number in its plan, from 0, in the order of the calls that made them. The same on every
/// worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct NodeId(pub usize);

/// The kind of a node.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// An operator, by the name of its method.
    Operator(&'static str),
    /// An operator whose records are first sent to the worker that owns their key.
    Exchange(&'static str),
    /// An operator that sends records to other workers, not by key.
    Repartitioned(&'static str),
    /// A source, by its name.
    Source(String),
    /// A state, by its name; records are first sent to the worker that owns their key.
    State(String),
    /// A sink, by its name.
    Sink(String),
    /// A query, by its name: the operator at which its requests enter.
    Query(String),
}

/// One node.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// The kind of the node.
    pub kind: NodeKind,
    /// The place in the program where the node was made: file and line.
    pub at: String,
    /// The nodes that the node reads.
    pub inputs: Vec<NodeId>,
}

/// The dataflow of a topology.
#[derive(Clone, Debug, Default, JsonSchema, Serialize)]
pub struct Plan {
    /// Its nodes, in the order in which they were made.
    pub nodes: Vec<Node>,
}

impl Plan {
    pub(crate) fn add(&mut self, kind: NodeKind, at: &Location<'_>, inputs: &[NodeId]) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node {
            id,
            kind,
            at: format!("{}:{}", at.file(), at.line()),
            inputs: inputs.to_vec(),
        });
        id
    }

    /// Two things of one kind and name, with the calls that have made them.
    pub(crate) fn clash(&self) -> Option<Error> {
        self.nodes.iter().enumerate().find_map(|(index, node)| {
            let (what, name) = match &node.kind {
                NodeKind::Source(name) => ("sources", name),
                NodeKind::State(name) => ("states", name),
                NodeKind::Sink(name) => ("sinks", name),
                NodeKind::Query(name) => ("queries", name),
                NodeKind::Operator(_) | NodeKind::Exchange(_) | NodeKind::Repartitioned(_) => {
                    return None;
                }
            };
            let first = self.nodes[..index].iter().find(|first| first.kind == node.kind)?;
            Some(Error::config(format!(
                "two {what} are named \"{name}\": the call at {} makes one, and that at {} \
                 another. Give each its own name, which is how a restart finds it again",
                first.at, node.at
            )))
        })
    }

    /// A node in words: `map#3 (src/main.rs:12)`.
    #[must_use]
    pub fn describe(&self, id: NodeId) -> String {
        self.nodes
            .get(id.0)
            .map_or_else(|| format!("#{}", id.0), |node| format!("{} ({})", label(node), node.at))
    }

    /// Returns whether a batch's records come to a node from other workers.
    pub(crate) fn receives(&self, id: NodeId) -> bool {
        let node = &self.nodes[id.0];
        let begins_at = std::iter::successors(Some(node), |node| {
            node.inputs.first().map(|input| &self.nodes[input.0])
        })
        .last();
        way(node).is_some()
            && !begins_at.is_some_and(|first| matches!(first.kind, NodeKind::Query(_)))
    }

    /// The plan as text, a line a node.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let inputs: Vec<String> =
                node.inputs.iter().map(|input| label(&self.nodes[input.0])).collect();
            let exchange =
                way(node).map_or(String::new(), |way| format!(", {way} over all workers"));
            let from = if inputs.is_empty() {
                String::new()
            } else {
                format!("  <- {}{exchange}", inputs.join(", "))
            };
            let _ = writeln!(text, "{}{from}  ({})", label(node), node.at);
        }
        text
    }

    /// The plan in the language of Graphviz.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut text = String::from(
            "digraph topology {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n",
        );
        for node in &self.nodes {
            let shape = match node.kind {
                NodeKind::State(_) => ", shape=cylinder",
                NodeKind::Source(_) | NodeKind::Sink(_) | NodeKind::Query(_) => ", shape=cds",
                NodeKind::Operator(_) | NodeKind::Exchange(_) | NodeKind::Repartitioned(_) => "",
            };
            let _ = writeln!(text, "  n{} [label={:?}{shape}];", node.id.0, label(node));
            for input in &node.inputs {
                let style = way(node)
                    .map_or(String::new(), |way| format!(" [label=\"{way}\", style=bold]"));
                let _ = writeln!(text, "  n{} -> n{}{style};", input.0, node.id.0);
            }
        }
        text + "}\n"
    }
}

/// Returns the way on which records come to a node from other workers, if they do.
fn way(node: &Node) -> Option<&'static str> {
    match node.kind {
        NodeKind::State(_) | NodeKind::Exchange(_) => Some("by key"),
        NodeKind::Repartitioned(how) => Some(how),
        NodeKind::Operator(_) | NodeKind::Source(_) | NodeKind::Sink(_) | NodeKind::Query(_) => {
            None
        }
    }
}

fn label(node: &Node) -> String {
    match &node.kind {
        NodeKind::Operator(name) | NodeKind::Exchange(name) | NodeKind::Repartitioned(name) => {
            format!("{name}#{}", node.id.0)
        }
        NodeKind::Source(name) => format!("source \"{name}\""),
        NodeKind::State(name) => format!("state \"{name}\""),
        NodeKind::Sink(name) => format!("sink \"{name}\""),
        NodeKind::Query(name) => format!("query \"{name}\""),
    }
}
