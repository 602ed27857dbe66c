//! The decision of what a file is to a recorded position: facts in, decision out.

/// The facts about a file beside a recorded position and the original: the file that the position
/// was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// True if it has the original's device and inode.
    pub(super) same_inode: bool,
    /// True if it has the path at which the original was seen last.
    pub(super) same_path: bool,
    /// The state of the original: there with all that was read of it, or gone.
    pub(super) original: Original,
    pub(super) content: Content,
}

/// The state of the file that a position was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Original {
    There,
    /// Removed, cut or overwritten.
    Gone,
}

/// A file's content beside the original's; beside what was recorded of it, if the original is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Empty,
    Other,
    /// All of it is how the original begins.
    Prefix,
    /// It has all that is known of the original, so many bytes, and may have more.
    Whole(u64),
}

/// The relation of a file to the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinship {
    /// The original.
    Same,
    /// The original's inode with other content: what was read is not there any more.
    Cut,
    /// It takes the original's place: reading resumes in it.
    Heir,
    /// A copy: it is not read.
    Copy,
    /// An older or unfinished copy of an original that is gone.
    Remnant,
    /// Another file.
    New,
    /// It has no content yet by which it could be known.
    Unknown,
}

/// Two files that begin with so many equal bytes are no coincidence, such as files with the same
/// headings.
pub(super) const CONVINCING: u64 = 4 << 10;

/// Decides what a file is to a recorded position.
pub(super) fn identify(facts: Facts) -> Kinship {
    match (facts.same_inode, facts.original, facts.content) {
        (true, Original::There, _) => Kinship::Same,
        (true, Original::Gone, _) => Kinship::Cut,
        (false, _, Content::Empty) => Kinship::Unknown,
        (false, _, Content::Other) => Kinship::New,
        (false, Original::Gone, Content::Whole(_)) => Kinship::Heir,
        (false, Original::Gone, Content::Prefix) => Kinship::Remnant,
        (false, Original::There, Content::Prefix) => Kinship::Copy,
        // Programs that replace a file, and keep the old one as a backup, copy what it had.
        (false, Original::There, Content::Whole(_)) if facts.same_path => Kinship::Heir,
        (false, Original::There, Content::Whole(common)) if common >= CONVINCING => Kinship::Copy,
        (false, Original::There, Content::Whole(_)) => Kinship::New,
    }
}

#[cfg(test)]
mod tests {
    use super::Content::{Empty, Other, Prefix, Whole};
    use super::Original::{Gone, There};
    use super::*;

    #[test]
    fn every_row_of_what_a_file_is() {
        let other =
            |original, content| Facts { same_inode: false, same_path: false, original, content };
        let same = |original, content| Facts { same_inode: true, ..other(original, content) };
        for (facts, expected) in [
            (same(There, Whole(9)), Kinship::Same),
            (same(Gone, Other), Kinship::Cut),
            (same(Gone, Prefix), Kinship::Cut),
            (same(Gone, Empty), Kinship::Cut),
            (other(There, Empty), Kinship::Unknown),
            (other(Gone, Empty), Kinship::Unknown),
            (other(There, Other), Kinship::New),
            (other(Gone, Other), Kinship::New),
            (Facts { same_path: true, ..other(Gone, Other) }, Kinship::New),
            (other(There, Prefix), Kinship::Copy),
            (Facts { same_path: true, ..other(There, Prefix) }, Kinship::Copy),
            (other(There, Whole(CONVINCING)), Kinship::Copy),
            // The headings of a table that has no rows, and those of one that has.
            (other(There, Whole(CONVINCING - 1)), Kinship::New),
            (Facts { same_path: true, ..other(There, Whole(9)) }, Kinship::Heir),
            (other(Gone, Whole(9)), Kinship::Heir),
            (other(Gone, Prefix), Kinship::Remnant),
        ] {
            assert_eq!(identify(facts), expected, "{facts:?}");
        }
    }
}
