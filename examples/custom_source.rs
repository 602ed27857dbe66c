//! A source of your own: paragraphs, records of several lines with empty lines between them,
//! counted by their length.
//!
//! ```text
//! cargo run --release --example custom_source -- run --state target/paragraphs --exit-at-end
//! cargo run --release --example custom_source -- state scan lengths --state target/paragraphs
//! cargo test --release --example custom_source
//! ```
//!
//! Look at the three parts of a source: partitions (the files), positions (byte offsets, with a
//! witness that recognises the file), and a reader that resumes at any position. The conformance
//! suite in the test at the end checks their contract.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tidemill::clap;
use tidemill::prelude::*;
use tidemill::source::{ReadStatus, Reader, Records, Source};
use tidemill::{Kind, Position};

/// The paragraphs of the text files of a folder, each file a partition. Files must stay as they
/// are; each start finds new ones.
struct Paragraphs(PathBuf);

/// The number of bytes before a position that its witness keeps: enough to recognise the file, and
/// cheap to check.
const WITNESS_BYTES: usize = 64;

/// The most paragraphs of one call, so that no call holds its worker for long.
const MOST_RECORDS: usize = 32;

impl Source for Paragraphs {
    type Item = String;

    fn kind(&self) -> String {
        "paragraphs".into()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        let failed = |why: io::Error| {
            Error::config(format!("the folder {} cannot be read: {why}", self.0.display()))
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            names.extend(name.to_str().filter(|name| name.ends_with(".txt")).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, partition: &str, from: Option<&Position>) -> Result<Box<dyn Reader<String>>> {
        let path = self.0.join(partition);
        // A file that was read before and has changed is lost input. It must never be read from its
        // beginning again.
        let kind = if from.is_some() { Kind::SourceLost } else { Kind::Config };
        let failed = |why: io::Error| {
            Error::new(kind, format!("{}: {why}; put the file back as it was", path.display()))
        };
        let start = from.cloned().unwrap_or_default();
        let input = open_at(&path, &start).map_err(failed)?;
        Ok(Box::new(ParagraphReader { path, input, position: start }))
    }
}

/// Opens a file at a position whose witness fits: the bytes before the offset are those that were
/// read.
fn open_at(path: &Path, position: &Position) -> io::Result<BufReader<File>> {
    let mut input = BufReader::new(File::open(path)?);
    let mut before = vec![0; position.witness.len()];
    input.seek(SeekFrom::Start(position.offset.saturating_sub(before.len() as u64)))?;
    input.read_exact(&mut before)?;
    if before == position.witness {
        Ok(input)
    } else {
        Err(io::Error::other("its content has changed"))
    }
}

struct ParagraphReader {
    path: PathBuf,
    input: BufReader<File>,
    /// The position after the last paragraph that was given.
    position: Position,
}

impl ParagraphReader {
    /// The bytes up to the end of the next paragraph, with the empty lines before it; none at the
    /// end of the file.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        loop {
            let line = bytes.len();
            let read = self.input.read_until(b'\n', &mut bytes)?;
            let has_text = !bytes[..line].trim_ascii().is_empty();
            if read == 0 || (has_text && bytes[line..].trim_ascii().is_empty()) {
                return Ok((read > 0 || has_text).then_some(bytes));
            }
        }
    }
}

impl Reader<String> for ParagraphReader {
    fn read(&mut self, into: &mut Records<String>) -> Result<ReadStatus> {
        for _ in 0..MOST_RECORDS {
            if into.is_full() {
                break;
            }
            let at = format!("{}, after byte {}", self.path.display(), self.position.offset);
            let next = self.next().map_err(|why| Error::try_again(format!("{at}: {why}")))?;
            let Some(bytes) = next else { return Ok(ReadStatus::End) };
            let text = std::str::from_utf8(&bytes)
                .map_err(|why| Error::user_code(format!("{at}: {why}")))?;
            into.push(self.position.offset, bytes.len(), text.trim().to_owned());
            self.position.offset += bytes.len() as u64;
            let kept = self.position.witness.len().min(WITNESS_BYTES.saturating_sub(bytes.len()));
            self.position.witness.drain(..self.position.witness.len() - kept);
            self.position
                .witness
                .extend_from_slice(&bytes[bytes.len().saturating_sub(WITNESS_BYTES)..]);
        }
        Ok(ReadStatus::More)
    }

    fn position(&self) -> Position {
        self.position.clone()
    }
}

#[derive(clap::Args, Clone)]
struct Arguments {
    /// The folder with the texts, which end in .txt
    #[arg(long, value_name = "DIR", default_value = "examples/data/text")]
    input: PathBuf,
}

fn main() -> Result<()> {
    tidemill::main_with(|topology, arguments: &Arguments| {
        let paragraphs = topology.source("paragraphs", Paragraphs(arguments.input.clone()));
        let words = paragraphs.map(|paragraph| paragraph.split_whitespace().count() as u64);
        // By tens of words: how many paragraphs are this long.
        words.clone().group_by(|words| words / 10 * 10).persistent_aggregate("lengths", Count);
        words.persistent_aggregate("words", Sum);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill::conformance;

    #[test]
    fn paragraphs_keep_the_contract_of_a_source() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("it can be written")
        };
        write("a.txt", "\n\none\ntwo\n\n \nthree\n\n\n");
        write(
            "b.txt",
            &(0..40).map(|n| format!("paragraph {n}\nof two lines\n\n")).collect::<String>(),
        );
        write("none.txt", " \n");
        write("other.md", "not read\n");
        let paragraphs = || Paragraphs(folder.path().to_owned());
        let many: Vec<String> = (0..40).map(|n| format!("paragraph {n}\nof two lines")).collect();
        let expected = [
            ("a.txt", vec!["one\ntwo".into(), "three".into()]),
            ("b.txt", many),
            ("none.txt", vec![]),
        ];
        conformance::source(paragraphs, &expected);
        conformance::damaged_source(paragraphs, "b.txt", 3, || {
            write("b.txt", &"another text\n\n".repeat(99))
        });
        conformance::damaged_source(paragraphs, "a.txt", 2, || write("a.txt", "one\n"));
    }
}
