//! A stream of records, and how operators are put between streams.

use crate::batch::chunk::Chunk;
use crate::dataflow::context::{Context, Site};
use crate::dataflow::guard::Guard;
use crate::plan::NodeKind;
use crate::record::Record;
use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OperatorInfo;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe::Probe;

pub(crate) type Raw<'s, C> = timely::dataflow::Stream<'s, u64, C>;

/// A stream of records of type `T`, on one worker: what one operator gives to the next. Cloning it
/// gives a second reader of the same records.
///
/// Operators are methods; each gives a new stream. What a stream carries belongs to a batch, and
/// operators keep it there. Records of one source partition stay in order until an exchange
/// ([`Stream::group_by`] and what follows); between partitions there is no order.
pub struct Stream<'s, T: Record> {
    raw: Raw<'s, Chunk<T>>,
    pub(crate) site: Site,
    unread: Rc<Unread<'s, T>>,
}

impl<T: Record> Clone for Stream<'_, T> {
    fn clone(&self) -> Self {
        Stream { raw: self.raw.clone(), site: self.site.clone(), unread: Rc::clone(&self.unread) }
    }
}

/// A stream that nothing has read yet. If nothing ever does, it is the end of a path through the
/// dataflow: a batch must not count as complete before it has passed there.
struct Unread<'s, T: Record> {
    raw: Raw<'s, Chunk<T>>,
    /// It is read by now, or its end is marked.
    read: Cell<bool>,
    context: Rc<Context>,
}

impl<T: Record> Unread<'_, T> {
    fn end(&self) {
        if !self.read.replace(true) {
            let _ = self.raw.clone().probe_with(&self.context.probe);
        }
    }
}

impl<T: Record> Drop for Unread<'_, T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

impl<'s, T: Record> Stream<'s, T> {
    /// The stream of what the operator at `site` gives.
    pub(crate) fn at(site: Site, raw: Raw<'s, Chunk<T>>) -> Stream<'s, T> {
        let unread =
            Unread { raw: raw.clone(), read: Cell::new(false), context: Rc::clone(&site.context) };
        Stream { raw, site, unread: Rc::new(unread) }
    }

    /// Puts an operator behind this stream that turns chunks into chunks, each on its own, on the
    /// same worker. `logic` leaves the input empty.
    pub(crate) fn per_chunk<U: Record>(
        self,
        kind: &'static str,
        at: &'static Location<'static>,
        mut logic: impl FnMut(&Guard, &mut Chunk<T>, &mut Chunk<U>) + 'static,
    ) -> Stream<'s, U> {
        let (raw, site) = self.read();
        let site = site.behind(NodeKind::Operator(kind), at, &[]);
        let guard = Guard::new(&site);
        let mut builder = OperatorBuilder::new(kind.to_string(), raw.scope());
        let mut input = builder.new_input(raw, Pipeline);
        let (mut output, raw) = builder.new_output::<Chunk<U>>();
        builder.build(move |_| {
            move |_frontiers| {
                let mut session = output.activate();
                input.for_each(|capability, chunk| {
                    let mut given = Chunk::default();
                    guard.at_batch(capability.least().copied());
                    let _busy = guard.meter.busy();
                    guard.meter.took(chunk.items.len());
                    if guard.is_running() {
                        logic(&guard, chunk, &mut given);
                    }
                    chunk.items.clear();
                    session.give(&capability, &mut given);
                });
            }
        });
        Stream::at(site, raw)
    }

    /// Returns the input of an operator that is put behind this stream, and the operator's site.
    pub(crate) fn read(self) -> (Raw<'s, Chunk<T>>, Site) {
        self.unread.read.set(true);
        (self.raw, self.site)
    }

    /// Marks the end of a path through the dataflow, whatever reads it besides: a batch is complete
    /// only when it has passed here.
    pub(crate) fn end(&self) {
        self.unread.end();
    }
}

/// Wakes an operator again after it has done one slice of its work.
pub(crate) fn activator<C>(raw: &Raw<'_, C>, info: &OperatorInfo) -> timely::scheduling::Activator {
    raw.scope().activator_for(Rc::clone(&info.address))
}
