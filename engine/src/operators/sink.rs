//! `sink`: committed output.

use crate::batch::chunk::Chunk;
use crate::dataflow::context::Context;
use crate::dataflow::guard::Guard;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::{Data, Record};
use crate::sink::{Delivery, Sink};
use crate::table::codec::type_name;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use tidemill_state::schema::SinkDecl;
use tidemill_state::{Error, SinkId, Txid};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// The sink of the run that stands at this place of the program, or `sink` while there is none:
/// what a sink learns when it is opened, such as how large a record may be, all workers then know.
fn sink_of_this_run<S: Sink>(context: &Context, sink: S) -> Arc<S> {
    let place = context.declared.borrow().sinks.len();
    let known =
        context.shared.sinks.get(place).map(|known| Arc::clone(known).any().downcast::<S>());
    known.and_then(std::result::Result::ok).unwrap_or_else(|| Arc::new(sink))
}

/// Registers a sink's name and kind, and finds its number; refuses a name that is taken.
pub(crate) fn declare<S: Sink>(context: &Context, name: &str, sink: S) -> (SinkId, Arc<S>) {
    let sink = sink_of_this_run(context, sink);
    let mut declared = context.declared.borrow_mut();
    if declared.program.sinks.iter().any(|known| known.name == name) {
        declared.error.get_or_insert(Error::config(format!(
            "two sinks are named \"{name}\": give each its own name"
        )));
    }
    let kind = format!("{} of {}", sink.kind(), type_name::<S::Item>());
    let exactly_once = sink.delivery() == Delivery::ExactlyOnce;
    declared.program.sinks.push(SinkDecl { name: name.to_string(), kind, exactly_once });
    declared.sinks.push(Arc::clone(&sink) as Arc<dyn crate::sink::AnySink>);
    (context.shared.schema.sink(name).unwrap_or(SinkId(0)), sink)
}

impl<T: Record + Data> Stream<'_, T> {
    /// Publishes the records to `sink`, under this name, once their batch is committed.
    ///
    /// # Contract
    /// Output of a batch becomes durable with the batch, and is published after it, in order of the
    /// batches. What reaches the outside once or at least once is the sink's [`Delivery`]. Within a
    /// batch, one worker's records keep their order. The name is unique and stays the same.
    #[track_caller]
    pub fn sink(self, name: &str, sink: impl Sink<Item = T>) {
        let (raw, site) = self.read();
        let site = site.behind(NodeKind::Sink(name.to_string()), Location::caller(), &[]);
        let context = Rc::clone(&site.context);
        let (id, sink) = declare(&context, name, sink);
        let guard = Guard::new(&site);
        let inside = Rc::clone(&context);
        let mut builder = OperatorBuilder::new("sink".to_string(), raw.scope());
        let mut input = builder.new_input(raw, Pipeline);
        let (_, done) = builder.new_output::<Chunk<()>>();
        builder.build(move |_| {
            move |_frontiers| {
                input.for_each(|capability, chunk: &mut Chunk<T>| {
                    let Some(txid) = capability.least().copied() else { return };
                    guard.at_batch(Some(txid));
                    let _busy = guard.meter.busy();
                    guard.meter.took(chunk.items.len());
                    let chunk = std::mem::take(chunk);
                    if !guard.is_running() {
                        return;
                    }
                    let mut payload = inside.in_batch(Txid(txid), |made| {
                        std::mem::take(made.outputs.entry(id).or_default())
                    });
                    guard.each(chunk.origin.as_ref(), &chunk.items, |record| {
                        payload
                            .push(|into| sink.encode(record, into))
                            .map_err(|error| error.to_string())
                    });
                    inside.in_batch(Txid(txid), |made| made.outputs.insert(id, payload));
                });
            }
        });
        Stream::at(site, done).end();
    }
}
