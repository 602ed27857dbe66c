//! The oracle: the input counted again, with plain maps and without any of the engine.

use super::input::{Input, InputFile};
use std::collections::BTreeMap;

/// What must have come of the input up to given positions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recount {
    /// How often each word is there.
    pub counts: BTreeMap<String, u64>,
    /// The lengths of all lines; none of no lines.
    pub bytes: Option<u64>,
    /// What the sink "lines" is given of each file, in order.
    pub lines: BTreeMap<String, Vec<String>>,
    /// Files whose position is within a line, or behind their end.
    pub misplaced: Vec<String>,
}

impl Recount {
    /// Of each file the lines that begin before its position, by path; of a file without position
    /// none.
    pub fn of(input: &Input, positions: &BTreeMap<String, u64>) -> Recount {
        let mut recount = Recount::default();
        for file in &input.files {
            recount
                .add(file, positions.get(&file.path.display().to_string()).copied().unwrap_or(0));
        }
        recount
    }

    fn add(&mut self, file: &InputFile, position: u64) {
        let mut offset = 0;
        for whole in file.text.split_inclusive('\n') {
            if offset >= position {
                break;
            }
            offset += whole.len() as u64;
            let line = whole.strip_suffix('\n').unwrap_or(whole);
            *self.bytes.get_or_insert(0) += line.len() as u64;
            for word in line.split(' ').skip(1) {
                *self.counts.entry(word.to_string()).or_default() += 1;
            }
            if line.contains("tide") {
                self.lines.entry(file.name.to_string()).or_default().push(line.to_uppercase());
            }
        }
        if offset != position {
            self.misplaced.push(file.name.to_string());
        }
    }
}
