//! The running checksum of all content before a position. It distinguishes a copy of a file from
//! another file.
//!
//! A chain of checksums (xxh3) over aligned blocks of 64 KiB, and one over the block that has
//! begun: a restart reads only that block again.

use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64_with_seed};

/// The length of a block.
pub(super) const BLOCK_BYTES: u64 = 64 << 10;

/// The checksum of all content before an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    /// Over the whole blocks.
    pub(super) blocks: u64,
    /// Over everything.
    pub(super) all: u64,
}

/// A running checksum and the offset that it has reached.
#[derive(Clone)]
pub(super) struct Running {
    blocks: u64,
    block: Xxh3Default,
    offset: u64,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("offset", &self.offset).field("sum", &self.sum()).finish()
    }
}

impl Default for Running {
    fn default() -> Running {
        Running { blocks: 0, block: Xxh3Default::new(), offset: 0 }
    }
}

impl Running {
    /// The checksum at the beginning of the block that `offset` is in: the bytes from there on come
    /// next.
    pub(super) fn resume(sum: Sum, offset: u64) -> Running {
        Running {
            blocks: sum.blocks,
            block: Xxh3Default::new(),
            offset: offset - offset % BLOCK_BYTES,
        }
    }

    /// The number of bytes that were added.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Adds the content's next bytes.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.offset % BLOCK_BYTES;
            let length = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let (now, rest) = bytes.split_at(length);
            self.block.update(now);
            self.offset += to_u64(length);
            if self.offset.is_multiple_of(BLOCK_BYTES) {
                self.blocks = self.sum().all;
                self.block.reset();
            }
            bytes = rest;
        }
    }

    pub(super) fn sum(&self) -> Sum {
        let block = self.block.digest().to_le_bytes();
        Sum { blocks: self.blocks, all: xxh3_64_with_seed(&block, self.blocks) }
    }
}

/// The checksum of the first `length` bytes of `content`; none if there are fewer.
pub(super) fn sum_of(content: impl Read, length: u64) -> io::Result<Option<Sum>> {
    let mut running = Running::default();
    let mut content = content.take(length);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok((running.offset() == length).then(|| running.sum())),
            Ok(read) => running.add(&buffer[..read]),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
}

/// A length in memory as a length in a file.
pub(super) fn to_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_the_same_in_pieces_and_after_restarts() {
        let content: Vec<u8> =
            (0..300_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 300_000] {
            let sum = sum_of(&content[..], length).expect("read").expect("long enough");
            for piece in [1_000, 65_536, 200_000] {
                let mut running = Running::default();
                content[..usize::try_from(length).expect("small")]
                    .chunks(piece)
                    .for_each(|piece| running.add(piece));
                assert_eq!(running.sum(), sum, "{length} bytes in pieces of {piece}");
            }
            let mut resumed = Running::resume(sum, length);
            let from = usize::try_from(resumed.offset()).expect("small");
            resumed.add(&content[from..usize::try_from(length).expect("small")]);
            assert_eq!(resumed.sum(), sum, "resumed at {length}");
        }
        assert_eq!(sum_of(&content[..10], 11).expect("read"), None);
    }
}
