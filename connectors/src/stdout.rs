//! The standard output as a sink: one JSON line per record, at least once.

use crate::json;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use tidemill_engine::sink::{Delivery, Entry, Marker, Outcome, Owner, Prepared, Publisher, Sink};
use tidemill_engine::source::Data;
use tidemill_state::{Error, Result, Txid, system};

/// Writes each committed record as a JSON line to the standard output.
///
/// **At least once**: what was written cannot be asked for or taken back, so after a crash the
/// output that was not yet confirmed is written again. Use [`Files::to`](crate::Files::to) for a
/// file in which each record is exactly once.
///
/// ```
/// use tidemill_connectors::Stdout;
/// let sink = Stdout::<(String, u64)>::new();
/// ```
pub struct Stdout<T> {
    out: Out,
    item: PhantomData<fn() -> T>,
}

type Out = Arc<Mutex<dyn Write + Send>>;

impl<T: Data> Stdout<T> {
    /// The standard output of this process.
    #[must_use]
    pub fn new() -> Stdout<T> {
        Stdout::writing_to(Arc::new(Mutex::new(io::stdout())))
    }

    fn writing_to(out: Out) -> Stdout<T> {
        Stdout { out, item: PhantomData }
    }
}

impl<T: Data> Default for Stdout<T> {
    fn default() -> Stdout<T> {
        Stdout::new()
    }
}

impl<T: Data> Sink for Stdout<T> {
    type Item = T;

    fn kind(&self) -> String {
        "stdout".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn encode(&self, item: &T, into: &mut Vec<u8>) -> Result<()> {
        json::encode_line(item, into)
    }

    fn open(&self, _owner: &Owner) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(StdoutPublisher { out: Arc::clone(&self.out) }))
    }
}

struct StdoutPublisher {
    out: Out,
}

impl Publisher for StdoutPublisher {
    fn is_settled(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn marker(&mut self) -> Result<Option<Marker>> {
        Ok(None)
    }

    fn take_over(&mut self) -> Result<Option<Marker>> {
        Ok(None)
    }

    fn claim(&mut self, _txid: Txid) -> Result<()> {
        Ok(())
    }

    fn prepare<'a>(&'a mut self, entries: &[Entry]) -> Result<Box<dyn Prepared + 'a>> {
        Ok(Box::new(PreparedLines { out: &self.out, entries: entries.to_vec() }))
    }
}

/// Nothing is written before the commit: what is dropped was never seen.
struct PreparedLines<'a> {
    out: &'a Out,
    entries: Vec<Entry>,
}

impl Prepared for PreparedLines<'_> {
    fn commit(self: Box<Self>) -> Result<Outcome> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        write_lines(&mut *out, &self.entries).map_err(|why| match why.kind() {
            ErrorKind::BrokenPipe => Error::sink(
                "the standard output was closed by whoever read it (such as `| head`), so the \
                 output cannot be published; nothing is lost: start again with a reader that \
                 stays, and what is not confirmed is written again",
            ),
            _ => system::error(
                "nothing is lost, and what is not confirmed is written again at the next start: \
                 writing to the standard output",
                &why,
            ),
        })?;
        Ok(Outcome::Confirmed)
    }
}

fn write_lines(out: &mut dyn Write, entries: &[Entry]) -> io::Result<()> {
    let mut lines = BufWriter::with_capacity(64 << 10, out);
    for record in entries.iter().flat_map(Entry::records) {
        lines.write_all(record)?;
        lines.write_all(b"\n")?;
    }
    lines.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_engine::conformance;
    use tidemill_state::{Incarnation, Kind};

    #[test]
    fn stdout_keeps_the_contract_of_a_sink() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let items: Vec<(String, u64)> = (0..9).map(|n| (format!("line\n{n}"), n)).collect();
        conformance::sink(
            || Stdout::writing_to(Arc::clone(&written) as Out),
            &items,
            || {
                written
                    .lock()
                    .expect("not poisoned")
                    .split_inclusive(|b| *b == b'\n')
                    .map(|line| line[..line.len() - 1].to_vec())
                    .collect()
            },
        );
    }

    #[test]
    fn a_closed_reader_is_named() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sink = Stdout::<u64>::writing_to(Arc::new(Mutex::new(Closed)));
        let owner = Owner {
            topology: "t".into(),
            sink: "s".into(),
            incarnation: Incarnation { counter: 1, nonce: 1 },
            points: Arc::default(),
        };
        let mut publisher = sink.open(&owner).expect("it opens");
        let entry = Entry { txid: Txid(1), payload: Arc::from(&b"\x01\x00\x00\x007"[..]) };
        let error =
            publisher.prepare(&[entry]).expect("prepared").commit().expect_err("it is closed");
        assert_eq!(error.kind(), Kind::Sink);
        assert!(error.to_string().contains("closed by whoever read it"), "{error}");
    }
}
