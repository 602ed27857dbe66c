//! Rights of users at a broker with an authorizer, as `kafka-acls.sh` grants them: by the
//! protocol's own requests, which the crate rdkafka does not have.

use super::wire::{Fields, ask};
use std::time::{Duration, Instant};

/// How long anything may take: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A right: on which resource, and to do what. The numbers are the protocol's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    resource: i8,
    name: String,
    operation: i8,
}

fn right(resource: i8, name: &str, operation: i8) -> Right {
    Right { resource, name: name.to_string(), operation }
}

impl Right {
    /// The right to read a topic.
    pub fn read(topic: &str) -> Right {
        right(2, topic, 3)
    }

    /// The right to write to a topic.
    pub fn write(topic: &str) -> Right {
        right(2, topic, 4)
    }

    /// The right to create a topic.
    pub fn create(topic: &str) -> Right {
        right(2, topic, 5)
    }

    /// The right to read a topic's configuration.
    pub fn describe_configs(topic: &str) -> Right {
        right(2, topic, 10)
    }

    /// The right to commit offsets as a consumer group.
    pub fn read_group(group: &str) -> Right {
        right(3, group, 3)
    }

    /// The right to use a transactional id.
    pub fn write_transactions(id: &str) -> Right {
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
pub fn grant(brokers: &str, user: &str, rights: &[Right]) {
    set(brokers, user, rights, ALLOW);
}

/// Takes these rights from a user, whatever was granted, and waits until the broker goes by it.
pub fn deny(brokers: &str, user: &str, rights: &[Right]) {
    set(brokers, user, rights, DENY);
}

fn set(brokers: &str, user: &str, rights: &[Right], permission: i8) {
    let before = known(brokers, user);
    let mut body = Fields::default();
    body.number(rights.len());
    for Right { resource, name, operation } in rights {
        body.byte(*resource)
            .text(name)
            .byte(LITERAL)
            .text(&format!("User:{user}"))
            .text("*")
            .byte(*operation)
            .byte(permission);
    }
    // CreateAcls answers with how long it was held back, and an error for each.
    let answer = ask(brokers, 30, 1, &body);
    let errors = answer[8..].chunks(4).map(|error| i16::from_be_bytes([error[0], error[1]]));
    assert!(
        errors.clone().count() >= rights.len() && errors.clone().all(|error| error == 0),
        "{:?}",
        errors.collect::<Vec<_>>()
    );
    let until = Instant::now() + PATIENCE;
    while known(brokers, user) < before + rights.len() {
        assert!(Instant::now() < until, "the broker does not go by the rights of {user}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many resources the broker knows rights of a user for: each of these tests' rights has one of
/// its own, or an operation of its own.
fn known(brokers: &str, user: &str) -> usize {
    let mut body = Fields::default();
    body.byte(1).null().byte(ANY_PATTERN).text(&format!("User:{user}")).null().byte(1).byte(1);
    let answer = ask(brokers, 29, 1, &body);
    // Each right of the user names it once.
    let principal = format!("User:{user}");
    answer.windows(principal.len()).filter(|window| *window == principal.as_bytes()).count()
}
