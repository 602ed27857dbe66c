//! Requests to a broker by Kafka's own protocol, for what the crate rdkafka cannot ask or will not
//! send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

/// How long anything may take: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The fields of a request, one after the other.
#[derive(Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// Adds a byte.
    pub fn byte(&mut self, byte: i8) -> &mut Fields {
        self.0.extend(byte.to_be_bytes());
        self
    }

    fn short(&mut self, number: i16) -> &mut Fields {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn int(&mut self, number: i32) -> &mut Fields {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn long(&mut self, number: i64) -> &mut Fields {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// The length of an array.
    pub fn number(&mut self, number: usize) -> &mut Fields {
        self.int(i32::try_from(number).expect("few"))
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) -> &mut Fields {
        self.0.extend(i16::try_from(text.len()).expect("short").to_be_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    /// A text that is not there.
    pub fn null(&mut self) -> &mut Fields {
        self.short(-1)
    }

    /// A small number as a record has it, and these bytes after it.
    fn sized(&mut self, bytes: &[u8]) -> &mut Fields {
        self.0.push(small(bytes.len()));
        self.0.extend(bytes);
        self
    }
}

/// A number below 64 as a record has it.
fn small(number: usize) -> u8 {
    u8::try_from(number).ok().filter(|number| *number < 64).expect("it is small") * 2
}

/// Sends a request of this kind and version without a client's name, and returns what follows the
/// number of its answer.
pub fn ask(brokers: &str, api: i16, version: i16, body: &Fields) -> Vec<u8> {
    let mut request = Fields::default();
    request.short(api).short(version).int(7).null().0.extend(&body.0);
    let mut stream = TcpStream::connect(brokers).expect("the broker takes connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a time-out");
    stream
        .write_all(&i32::try_from(request.0.len()).expect("small").to_be_bytes())
        .expect("the broker takes a request");
    stream.write_all(&request.0).expect("the broker takes a request");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("the broker answers");
    let mut answer =
        vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length is positive")];
    stream.read_exact(&mut answer).expect("the broker answers");
    assert_eq!(answer[..4], 7_i32.to_be_bytes(), "an answer has its request's number");
    answer.split_off(4)
}

/// Sends a message to partition 0, whose headers' names are these bytes, whatever they are. Each
/// has its own name as value.
pub fn produce_with_headers(brokers: &str, topic: &str, value: &str, names: &[&[u8]]) {
    let mut record = Fields::default();
    // No attributes, no time and no offset after the batch's, no key (-1).
    record.byte(0).byte(0).byte(0).byte(1).sized(value.as_bytes()).0.push(small(names.len()));
    for name in names {
        record.sized(name).sized(name);
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    let now = i64::try_from(since.as_millis()).expect("it is small");
    // No attributes, one record of now, no producer.
    let mut summed = Fields::default();
    summed.short(0).int(0).long(now).long(now).long(-1).short(-1).int(-1).int(1).sized(&record.0);
    let mut batch = Fields::default();
    batch
        .long(0)
        .number(summed.0.len() + 9)
        .int(-1)
        .byte(2)
        .0
        .extend(crc32c(&summed.0).to_be_bytes());
    batch.0.extend(&summed.0);
    let mut body = Fields::default();
    body.null()
        .short(-1)
        .int(30_000)
        .number(1)
        .text(topic)
        .number(1)
        .int(0)
        .number(batch.0.len())
        .0
        .extend(&batch.0);
    let answer = ask(brokers, 0, 3, &body);
    // One topic with its name, one partition with its number, and the error.
    let at = 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[at..at + 2], [0, 0], "the broker takes the message: {answer:?}");
}

/// The checksum of a batch, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
