//! Kafka's requests and answers, as far as a proxy has to understand them: what is asked, for which
//! transaction and partitions, and whether it was granted.

/// What a request asks for. The numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Writes records.
    Produce,
    /// Begins as the transactional producer with an id, and fences older ones.
    InitProducerId,
    /// Adds partitions to a transaction.
    AddPartitionsToTxn,
    /// Ends a transaction, by a commit or by an abort.
    EndTxn,
    /// How a topic is set: asked for one topic at a time, in no transaction.
    DescribeConfigs,
    /// Anything else is passed on unread.
    Other,
}

impl Api {
    fn from_key(key: i16) -> Api {
        match key {
            0 => Api::Produce,
            22 => Api::InitProducerId,
            24 => Api::AddPartitionsToTxn,
            26 => Api::EndTxn,
            32 => Api::DescribeConfigs,
            _ => Api::Other,
        }
    }

    /// The newest version that is understood here, and the first whose strings and arrays are
    /// written compactly.
    fn versions(self) -> (i16, i16) {
        match self {
            Api::Produce => (12, 9),
            Api::InitProducerId => (5, 2),
            Api::AddPartitionsToTxn => (3, 3),
            Api::EndTxn => (4, 3),
            Api::DescribeConfigs => (4, 4),
            Api::Other => (i16::MAX, i16::MAX),
        }
    }
}

/// A request as it came from a client, without the length in front.
#[derive(Clone)]
pub struct Request {
    /// The kind of the request.
    pub api: Api,
    /// By this number the client knows the answer.
    pub number: i32,
    /// The transactional id.
    pub transaction: Option<String>,
    /// The topics and partitions that it is about.
    pub partitions: Vec<(String, i32)>,
    version: i16,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Request { api, version, number, transaction, partitions, .. } = self;
        write!(
            f,
            "{api:?} v{version} #{number} of {} for {partitions:?}",
            transaction.as_deref().unwrap_or("no transaction")
        )
    }
}

impl Request {
    /// Reads a request.
    ///
    /// # Panics
    /// If it is of a version that is newer than what is understood: the proxy would miss what it is
    /// to catch.
    pub fn read(bytes: Vec<u8>) -> Request {
        let mut fields = Fields { rest: &bytes, compact: false };
        let (api, version, number) = (Api::from_key(fields.i16()), fields.i16(), fields.i32());
        let (newest, compact_from) = api.versions();
        assert!(
            version <= newest,
            "{api:?} of version {version} is newer than what the proxy understands, {newest}"
        );
        let _client = fields.text();
        let compact = version >= compact_from;
        fields.compact = compact;
        fields.tags();
        let transaction =
            if matches!(api, Api::DescribeConfigs | Api::Other) { None } else { fields.text() };
        let partitions = match api {
            Api::Produce => {
                let (_acks, _timeout) = (fields.i16(), fields.i32());
                fields.detailed(Fields::skip_bytes)
            }
            Api::AddPartitionsToTxn => {
                let (_producer, _epoch) = (fields.take(8), fields.i16());
                fields.numbers()
            }
            Api::DescribeConfigs => {
                let (_resources, _type) = (fields.length(), fields.take(1));
                fields.text().map(|topic| (topic, 0)).into_iter().collect()
            }
            Api::InitProducerId | Api::EndTxn | Api::Other => Vec::new(),
        };
        Request { api, number, transaction, partitions, version, bytes }
    }

    /// The bytes as they go over a connection, the length in front.
    pub fn framed(&self) -> Vec<u8> {
        framed(&self.bytes)
    }

    /// The same request under another number.
    pub fn renumbered(&self, number: i32) -> Request {
        let mut other = self.clone();
        other.bytes[4..8].copy_from_slice(&number.to_be_bytes());
        other.number = number;
        other
    }

    /// The first error in its answer, as the protocol's number; 0 if there is none.
    pub fn error_in(&self, answer: &[u8]) -> i16 {
        let compact = self.version >= self.api.versions().1;
        let mut fields = Fields { rest: answer, compact };
        assert_eq!(fields.i32(), self.number, "an answer has its request's number");
        fields.tags();
        let mut errors = Vec::new();
        match self.api {
            Api::EndTxn | Api::InitProducerId => {
                let _throttle = fields.i32();
                errors.push(fields.i16());
            }
            // The rest of a partition's answer depends on the version, and these are asked about
            // few partitions: the first one is looked at.
            Api::Produce => {
                let _topics = fields.length();
                let (_topic, _partitions, _partition) =
                    (fields.text(), fields.length(), fields.i32());
                errors.push(fields.i16());
            }
            Api::AddPartitionsToTxn => {
                let _throttle = fields.i32();
                fields.detailed(|fields| errors.push(fields.i16()));
            }
            Api::DescribeConfigs | Api::Other => {
                panic!("the proxy does not understand this answer: {self:?}")
            }
        }
        errors.into_iter().find(|error| *error != 0).unwrap_or(0)
    }
}

/// Bytes with their length in front.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = i32::try_from(bytes.len()).expect("a frame is not that large");
    [&length.to_be_bytes(), bytes].concat()
}

/// The request's number in an answer.
pub fn number_of(answer: &[u8]) -> i32 {
    Fields { rest: answer, compact: false }.i32()
}

/// What is left to read of a request or an answer.
struct Fields<'a> {
    rest: &'a [u8],
    /// Whether lengths are varints, one too great, and structures end in tagged fields.
    compact: bool,
}

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) =
            self.rest.split_at_checked(bytes).expect("a request or answer has all its fields");
        self.rest = rest;
        taken
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = usize::from(self.take(1)[0]);
            value |= (byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    /// The length of an array or of bytes; of null, 0.
    fn length(&mut self) -> usize {
        if self.compact {
            self.varint().saturating_sub(1)
        } else {
            usize::try_from(self.i32()).unwrap_or(0)
        }
    }

    fn text(&mut self) -> Option<String> {
        let length = if self.compact {
            self.varint().checked_sub(1)
        } else {
            usize::try_from(self.i16()).ok()
        };
        length.map(|length| String::from_utf8_lossy(self.take(length)).into_owned())
    }

    fn skip_bytes(&mut self) {
        let length = self.length();
        self.take(length);
    }

    fn tags(&mut self) {
        if self.compact {
            for _ in 0..self.varint() {
                let (_tag, length) = (self.varint(), self.varint());
                self.take(length);
            }
        }
    }

    /// Topics with their partitions, each of which is followed by what `more` reads.
    fn detailed(&mut self, mut more: impl FnMut(&mut Fields<'a>)) -> Vec<(String, i32)> {
        let mut partitions = Vec::new();
        for _ in 0..self.length() {
            let topic = self.text().expect("a topic has a name");
            for _ in 0..self.length() {
                partitions.push((topic.clone(), self.i32()));
                more(self);
                self.tags();
            }
            self.tags();
        }
        partitions
    }

    /// Topics with their partitions as bare numbers, which no tagged fields follow.
    fn numbers(&mut self) -> Vec<(String, i32)> {
        let mut partitions = Vec::new();
        for _ in 0..self.length() {
            let topic = self.text().expect("a topic has a name");
            for _ in 0..self.length() {
                partitions.push((topic.clone(), self.i32()));
            }
            self.tags();
        }
        partitions
    }
}
