//! `source`: where a stream begins.

use crate::batch::chunk::Chunk;
use crate::dataflow::context::Site;
use crate::dataflow::source_feed::SourceFeed;
use crate::dataflow::stream::Stream;
use crate::dataflow::topology::Topology;
use crate::dead_letter::DeadLetter;
use crate::plan::NodeKind;
use crate::record::Record;
use crate::source::Source;
use crate::table::codec::type_name;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use tidemill_state::schema::SourceDecl;
use tidemill_state::{Error, SourceId};
use timely::dataflow::operators::Input;

impl<'s> Topology<'s> {
    /// A stream of what `source` gives, under this name.
    ///
    /// # Contract
    /// Every record of every partition belongs to exactly one committed batch. Records of one
    /// partition come in order. The name is unique and stays the same: it is how a restart finds
    /// its positions again. A source that sets records aside which it cannot decode
    /// ([`Source::dead_letters`]) gives them to a sink named `<name>.dead-letters`, with the batch
    /// that they were read in.
    #[track_caller]
    pub fn source<S: Source>(&self, name: &str, source: S) -> Stream<'s, S::Item>
    where
        S::Item: Record,
    {
        let context = &self.context;
        let node = context.plan.borrow_mut().add(
            NodeKind::Source(name.to_string()),
            Location::caller(),
            &[],
        );
        let source = Arc::new(source);
        let (input, raw) = self.scope.new_input::<Chunk<S::Item>>();
        let mut declared = context.declared.borrow_mut();
        if declared.program.sources.iter().any(|known| known.name == name) {
            declared.error.get_or_insert(Error::config(format!(
                "two sources are named \"{name}\": give each its own name"
            )));
        }
        let kind = format!("{} of {}", source.kind(), type_name::<S::Item>());
        declared.program.sources.push(SourceDecl { name: name.to_string(), kind });
        declared.sources.push(Arc::clone(&source) as Arc<dyn crate::source::AnySource>);
        let id = context.shared.schema.source(name).unwrap_or(SourceId(0));
        let place = declared.feeds.len();
        let letters = source.dead_letters();
        let site = Site {
            context: Rc::clone(context),
            node,
            on_failure: context.on_failure.borrow().clone(),
        };
        declared.feeds.push(Box::new(SourceFeed::new((id, node), name, source, input, context)));
        drop(declared);
        if let Some(sink) = letters {
            // Declared after the source, so that a source with dead letters is still one step of
            // the plan before its sink.
            let (input, raw) = self.scope.new_input::<Chunk<DeadLetter>>();
            Stream::at(site.clone(), raw).sink(&format!("{name}.dead-letters"), sink);
            context.declared.borrow_mut().feeds[place].give_letters_to(input);
        }
        Stream::at(site, raw)
    }
}
