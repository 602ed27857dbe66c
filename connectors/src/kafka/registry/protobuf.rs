//! Protobuf: messages of one type, which the schema of each names.

use super::super::decode::{self, Incoming, NoRecord};
use super::proto_names::{indexes_of, name_at};
use super::schemas::{Language, Schemas};
use super::subject::Subject;
use super::wire;
use prost::Message;
use std::collections::HashSet;
use std::sync::{Arc, RwLock};
use tidemill_state::{Error, Result};

/// Returns a decoder for messages of this type.
pub(super) fn decoder<T: Message + Default>(
    schemas: &Arc<Schemas>,
    wanted: &str,
) -> impl Fn(&Incoming<'_>) -> std::result::Result<T, NoRecord> + Send + Sync + 'static {
    let (schemas, wanted) = (Arc::clone(schemas), wanted.trim_start_matches('.').to_string());
    // The ids and indexes that were found to mean this type.
    let right: RwLock<HashSet<(u32, Vec<usize>)>> = RwLock::default();
    move |message| {
        let value = decode::value(message).map_err(NoRecord::Undecodable)?;
        let (id, body) = wire::split(value).map_err(NoRecord::Undecodable)?;
        let of_schema = |why: String| NoRecord::Undecodable(format!("schema {id}: {why}"));
        let (indexes, body) = wire::split_indexes(body).map_err(of_schema)?;
        let kind = (id, indexes);
        if !right.read().expect("no holder of this lock panics").contains(&kind) {
            let schema = schemas.get(id)?;
            if schema.language != Language::Protobuf {
                return Err(of_schema(format!(
                    "it is {}, and the source reads PROTOBUF",
                    schema.language.name()
                )));
            }
            match name_at(&schema.text, &kind.1) {
                Some(name) if name == wanted => {}
                Some(name) => {
                    return Err(of_schema(format!(
                        "its value is a message {name}, and the source reads {wanted}"
                    )));
                }
                None => {
                    return Err(of_schema(format!(
                        "it has no message at {:?}: was the value written with it?",
                        kind.1
                    )));
                }
            }
            right.write().expect("no holder of this lock panics").insert(kind);
        }
        T::decode(body).map_err(|why| of_schema(format!("its value is no message {wanted}: {why}")))
    }
}

/// Returns an encoder of messages of this type, which is one of the schema of the subject.
pub(super) fn encoder<T: Message>(
    subject: Subject,
    message: &str,
) -> impl Fn(&T) -> Result<Vec<u8>> + Send + Sync + 'static {
    let indexes = indexes_of(subject.text(), message.trim_start_matches('.'));
    let message = message.to_string();
    move |record| {
        let indexes = indexes.as_ref().ok_or_else(|| {
            Error::config(format!(
                "the schema that KafkaSink::protobuf was given has no message {message}: give its \
                 name with the package"
            ))
        })?;
        let mut bytes = wire::head(subject.id()?);
        wire::push_indexes(&mut bytes, indexes);
        record
            .encode(&mut bytes)
            .map_err(|why| Error::bug(format!("a message does not fit into memory: {why}")))?;
        Ok(bytes)
    }
}
