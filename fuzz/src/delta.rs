//! Target: entries of the delta log. What is read is written again with the same changes, and no
//! byte of an entry is passed over.

use crate::{Seed, is_explained};
use tidemill_state::delta::{Before, Change, Section, assemble, read};
use tidemill_state::{KeyGroup, StateId};

/// Runs the target: the input is an entry.
pub fn run(input: &[u8]) {
    let Some(changes) = changes(input) else { return };
    let again = assemble(&sections(&changes)).expect("an input is short");
    assert_eq!(self::changes(&again).expect("it was written so"), changes);
    // An empty section is left out, and a number may have been written with more bytes than it
    // needs.
    assert!(again.len() <= input.len(), "{} bytes of {}", again.len(), input.len());
    assert!(
        changes.len() <= input.len() / 5,
        "each change takes at least the bytes of a group and three numbers"
    );
    // A byte after the last section begins another one.
    let longer = [&again[..], &[0]].concat();
    assert!(self::changes(&longer).is_none(), "a cut-off section is an error");
    // A byte within the last section, behind its changes.
    if let Some(hidden) = with_hidden_byte(&again, &changes) {
        assert!(self::changes(&hidden).is_none(), "bytes behind a section's changes are an error");
    }
}

fn changes(blob: &[u8]) -> Option<Vec<Change<'_>>> {
    let mut changes = Vec::new();
    let outcome = read(blob, |change| {
        changes.push(change);
        Ok(())
    });
    is_explained(outcome).map(|()| changes)
}

/// Makes the sections again: each begins with change 0.
fn sections(changes: &[Change<'_>]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for change in changes {
        if change.number == 0 {
            sections.push(Section::new(change.state));
        }
        let section = sections.last_mut().expect("the first change of a section has the number 0");
        assert_eq!(section.len(), usize::try_from(change.number).expect("small"));
        section.push(change.group, change.key, change.value, change.before);
    }
    sections
}

/// Lengthens the last section by a byte that belongs to no change.
fn with_hidden_byte(blob: &[u8], changes: &[Change<'_>]) -> Option<Vec<u8>> {
    let (last, first_of_last) =
        (sections(changes).pop()?, changes.iter().rposition(|change| change.number == 0)?);
    let before = assemble(&sections(&changes[..first_of_last])).ok()?;
    let length_at = before.len() + 8;
    let mut hidden = blob.to_vec();
    let length = u32::try_from(blob.len() - before.len() - 12).ok()?;
    hidden.get_mut(length_at..length_at + 4)?.copy_from_slice(&(length + 1).to_le_bytes());
    hidden.push(0);
    (!last.is_empty()).then_some(hidden)
}

/// Returns entries of one and of several sections.
pub fn seeds() -> Vec<Seed> {
    let mut counts = Section::new(StateId(1));
    counts.push(KeyGroup(3), b"\x01the\0\0\0\0\0\x03", Some(&[1, 5]), None);
    let before = Some(Before { batches: 300, change: 70_000 });
    counts.push(KeyGroup(255), b"\x01tide\0\0\0\0\x04", None, before);
    let mut totals = Section::new(StateId(9));
    totals.push(KeyGroup(0), b"", Some(&[1; 200]), Some(Before { batches: 1, change: 0 }));
    let assembled = |sections: &[Section]| assemble(sections).expect("they are short");
    vec![
        ("empty", assembled(&[])),
        ("one-section", assembled(std::slice::from_ref(&counts))),
        ("two-sections", assembled(&[counts, totals])),
    ]
}
