//! The changes of one batch to one worker's states, as bytes: absolute new values and removals,
//! never increments.
//!
//! A delta is the format byte and then sections, one per state: state (u32), number of changes
//! (u32), length of the changes in bytes (u32), all little-endian, and the changes. A change is the
//! key group (u16, little-endian); how many batches before this one the key was last changed by the
//! same worker in the same run (0: not, or not known), and if it was, the number of that change in
//! its section; the key's length and the key; the value's length and the value. Numbers and lengths
//! are LEB128. A value always has its own format byte in front, so that length 0 means "removed".
//!
//! The earlier change is named so that a fold finds most of what a later batch has overwritten
//! without looking a key up.

use crate::{Error, KeyGroup, Result, StateId, codec::FORMAT};

/// Collects what one batch changed in one state on one worker.
#[derive(Clone, Debug)]
pub struct Section {
    state: StateId,
    changes: u32,
    bytes: Vec<u8>,
}

impl Section {
    /// No changes yet.
    #[must_use]
    pub fn new(state: StateId) -> Section {
        Section { state, changes: 0, bytes: Vec::new() }
    }

    /// Records that `key` now has this encoded value, or none; and its earlier change, so many
    /// batches ago, the so-manieth of its section.
    pub fn push(
        &mut self,
        group: KeyGroup,
        key: &[u8],
        value: Option<&[u8]>,
        before: Option<Before>,
    ) {
        debug_assert!(
            value.is_none_or(|value| !value.is_empty()),
            "an encoded value has its format byte"
        );
        let value = value.unwrap_or_default();
        self.bytes.extend_from_slice(&group.0.to_le_bytes());
        let batches = before.map_or(0, |before| before.batches);
        push_number(&mut self.bytes, batches);
        if let Some(before) = before.filter(|before| before.batches > 0) {
            push_number(&mut self.bytes, u64::from(before.change));
        }
        push_length(&mut self.bytes, key.len());
        self.bytes.extend_from_slice(key);
        push_length(&mut self.bytes, value.len());
        self.bytes.extend_from_slice(value);
        self.changes += 1;
    }

    /// The number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.changes).expect("a usize holds a u32")
    }

    /// Returns whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes == 0
    }
}

/// Lays out a delta of these sections. Empty ones are left out.
///
/// # Errors
/// A section of 4 GiB or more: one batch changed too much.
pub fn assemble(sections: &[Section]) -> Result<Vec<u8>> {
    let mut blob = Vec::with_capacity(
        1 + sections.iter().map(|section| 12 + section.bytes.len()).sum::<usize>(),
    );
    blob.push(FORMAT);
    for section in sections.iter().filter(|section| !section.is_empty()) {
        let length = u32::try_from(section.bytes.len()).map_err(|_| {
            Error::config(
                "one batch changed 4 GiB or more of one state: lower \
                --max-batch-records or --max-batch-bytes",
            )
        })?;
        blob.extend_from_slice(&section.state.0.to_le_bytes());
        blob.extend_from_slice(&section.changes.to_le_bytes());
        blob.extend_from_slice(&length.to_le_bytes());
        blob.extend_from_slice(&section.bytes);
    }
    Ok(blob)
}

/// The earlier change of a key, by the same worker in the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// The number of batches ago, at least 1.
    pub batches: u64,
    /// The number of the change in its section.
    pub change: u32,
}

/// One change as it stands in a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The state.
    pub state: StateId,
    /// The key's group.
    pub group: KeyGroup,
    /// The encoded key.
    pub key: &'a [u8],
    /// The encoded value, `None` if the key was removed.
    pub value: Option<&'a [u8]>,
    /// The key's earlier change, if it is known.
    pub before: Option<Before>,
    /// The number of this change in its section.
    pub number: u32,
}

/// Calls `each` with every change of a delta, in order.
///
/// # Errors
/// The bytes are not a delta, or `each` fails.
pub fn read<'a>(blob: &'a [u8], mut each: impl FnMut(Change<'a>) -> Result<()>) -> Result<()> {
    let mut rest = Cursor(blob);
    match rest.byte()? {
        FORMAT => {}
        format => return Err(Error::damaged(format!("a delta has the unknown format {format}"))),
    }
    while !rest.0.is_empty() {
        let (state, changes, length) = (StateId(rest.u32()?), rest.u32()?, rest.u32()?);
        let mut section = Cursor(rest.take(usize::try_from(length).expect("a usize holds a u32"))?);
        for number in 0..changes {
            let group = KeyGroup(section.u16()?);
            let batches = section.number()?;
            let before = match batches {
                0 => None,
                batches => {
                    let change = u32::try_from(section.number()?)
                        .map_err(|_| Error::damaged("a delta names a change that cannot be"))?;
                    Some(Before { batches, change })
                }
            };
            let length = section.length()?;
            let key = section.take(length)?;
            let length = section.length()?;
            let value = section.take(length)?;
            each(Change {
                state,
                group,
                key,
                value: (!value.is_empty()).then_some(value),
                before,
                number,
            })?;
        }
        if !section.0.is_empty() {
            return Err(Error::damaged("a section of a delta is longer than its changes"));
        }
    }
    Ok(())
}

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    push_number(bytes, length as u64);
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| Error::damaged("a delta is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take gives as many bytes as asked for"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn length(&mut self) -> Result<usize> {
        usize::try_from(self.number()?)
            .map_err(|_| Error::damaged("a delta has a length that is too long"))
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Error::damaged("a delta has a number that is too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_in_order() {
        let long = vec![7u8; 70_000];
        let mut one = Section::new(StateId(1));
        let before = Some(Before { batches: 300, change: 70_000 });
        one.push(KeyGroup(3), b"a", Some(&[FORMAT, 5]), before);
        one.push(KeyGroup(255), &long, Some(&long), None);
        let mut two = Section::new(StateId(2));
        two.push(KeyGroup(0), b"", None, None);
        let blob = assemble(&[one, Section::new(StateId(9)), two]).expect("assembled");
        let mut seen = Vec::new();
        read(&blob, |change| {
            seen.push(change);
            Ok(())
        })
        .expect("read");
        assert_eq!(
            seen,
            [
                Change {
                    state: StateId(1),
                    group: KeyGroup(3),
                    key: b"a",
                    value: Some(&[FORMAT, 5]),
                    before,
                    number: 0
                },
                Change {
                    state: StateId(1),
                    group: KeyGroup(255),
                    key: &long,
                    value: Some(&long),
                    before: None,
                    number: 1
                },
                Change {
                    state: StateId(2),
                    group: KeyGroup(0),
                    key: b"",
                    value: None,
                    before: None,
                    number: 0
                },
            ]
        );
        for cut in [1, 5, 13, 20, blob.len() - 1] {
            let _ = read(&blob[..cut], |_| Ok(()));
        }
        assert!(read(&blob[..blob.len() - 1], |_| Ok(())).is_err());
        assert!(read(&[], |_| Ok(())).is_err());
        // A section that is longer than its changes, by a byte that would be passed over.
        let mut longer = blob[..blob.len() - 1].to_vec();
        let length_at = longer.len() - 4 - 4;
        longer.extend_from_slice(&[0, 0]);
        longer[length_at] += 1;
        assert!(read(&longer, |_| Ok(())).is_err_and(|why| why.to_string().contains("longer")));
    }
}
