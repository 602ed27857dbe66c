//! Rights of users at a broker with an authorizer, as `kafka-acls.sh` grants them: by the protocol's own requests, which the crate
//! rdkafka does not have.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long anything may take: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A right: on which resource, and to do what. The numbers are the protocol's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    resource: i8,
    name: String,
    operation: i8,
}

fn right(resource: i8, name: &str, operation: i8) -> Right {
    Right { resource, name: name.to_string(), operation }
}

impl Right {
    pub(crate) fn read(topic: &str) -> Right {
        right(2, topic, 3)
    }

    pub(crate) fn write(topic: &str) -> Right {
        right(2, topic, 4)
    }

    pub(crate) fn create(topic: &str) -> Right {
        right(2, topic, 5)
    }

    pub(crate) fn describe_configs(topic: &str) -> Right {
        right(2, topic, 10)
    }

    pub(crate) fn read_group(group: &str) -> Right {
        right(3, group, 3)
    }

    pub(crate) fn write_transactions(id: &str) -> Right {
        right(5, id, 4)
    }
}

/// The pattern of a whole name, and any pattern.
const LITERAL: i8 = 3;
const ANY_PATTERN: i8 = 1;

/// Whether somebody may, or may not.
const ALLOW: i8 = 3;
const DENY: i8 = 2;

/// Grants a user these rights, and waits until the broker goes by them.
pub(crate) fn grant(brokers: &str, user: &str, rights: &[Right]) {
    set(brokers, user, rights, ALLOW);
}

/// Takes these rights from a user, whatever was granted, and waits until the broker goes by it.
pub(crate) fn deny(brokers: &str, user: &str, rights: &[Right]) {
    set(brokers, user, rights, DENY);
}

fn set(brokers: &str, user: &str, rights: &[Right], permission: i8) {
    let before = known(brokers, user);
    let mut body = Body::default();
    body.number(rights.len());
    for Right { resource, name, operation } in rights {
        body.byte(*resource).text(name).byte(LITERAL).text(&format!("User:{user}")).text("*").byte(*operation).byte(permission);
    }
    // CreateAcls answers with how long it was held back, and an error for each.
    let answer = ask(brokers, 30, &body);
    let errors = answer[8..].chunks(4).map(|error| i16::from_be_bytes([error[0], error[1]]));
    assert!(errors.clone().count() >= rights.len() && errors.clone().all(|error| error == 0), "{:?}", errors.collect::<Vec<_>>());
    let until = Instant::now() + PATIENCE;
    while known(brokers, user) < before + rights.len() {
        assert!(Instant::now() < until, "the broker does not go by the rights of {user}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many resources the broker knows rights of a user for: each of these tests' rights has one of its own, or an operation of its own.
fn known(brokers: &str, user: &str) -> usize {
    let mut body = Body::default();
    body.byte(1).null().byte(ANY_PATTERN).text(&format!("User:{user}")).null().byte(1).byte(1);
    let answer = ask(brokers, 29, &body);
    // Each right of the user names it once.
    let principal = format!("User:{user}");
    answer.windows(principal.len()).filter(|window| *window == principal.as_bytes()).count()
}

/// The fields of a request.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn byte(&mut self, byte: i8) -> &mut Body {
        self.0.extend(byte.to_be_bytes());
        self
    }

    fn number(&mut self, number: usize) -> &mut Body {
        self.0.extend(i32::try_from(number).expect("few").to_be_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Body {
        self.0.extend(i16::try_from(text.len()).expect("short").to_be_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    fn null(&mut self) -> &mut Body {
        self.0.extend((-1_i16).to_be_bytes());
        self
    }
}

/// Sends a request of version 1 without a client's name, and returns what follows the number of its answer.
fn ask(brokers: &str, api: i16, body: &Body) -> Vec<u8> {
    let head = [&api.to_be_bytes()[..], &1_i16.to_be_bytes(), &7_i32.to_be_bytes(), &(-1_i16).to_be_bytes()].concat();
    let request = [head, body.0.clone()].concat();
    let mut stream = TcpStream::connect(brokers).expect("the broker takes connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a time-out");
    stream.write_all(&i32::try_from(request.len()).expect("small").to_be_bytes()).expect("the broker takes a request");
    stream.write_all(&request).expect("the broker takes a request");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("the broker answers");
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length is positive")];
    stream.read_exact(&mut answer).expect("the broker answers");
    assert_eq!(answer[..4], 7_i32.to_be_bytes(), "an answer has its request's number");
    answer.split_off(4)
}
