//! Long answers cut into pieces that fit what they travel in.

use bytes::{Bytes, BytesMut};

/// The size of a piece. A TLS record holds 16 384 bytes; nine of them are the head of an HTTP/2 frame, or eight the size of an HTTP/1.1
/// chunk. A longer piece would become a full record and a tiny one, each encrypted and counted on its own.
pub const PIECE: usize = 16_384 - 9;
/// Bytes that are asked of the allocator at a time.
const BLOCK: usize = 4 * PIECE;

/// What is to be sent and is not yet.
#[derive(Debug, Default)]
pub struct Pieces(BytesMut);

impl Pieces {
    /// Adds to the end.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.0.capacity() - self.0.len() < bytes.len() {
            self.0.reserve(bytes.len().max(BLOCK));
        }
        self.0.extend_from_slice(bytes);
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next piece; a shorter one when there is no more. Empty when there is nothing.
    pub fn pop(&mut self) -> Bytes {
        if self.0.len() <= PIECE { std::mem::take(&mut self.0).freeze() } else { self.0.split_to(PIECE).freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_out_in_order() {
        let whole: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut pieces, mut out) = (Pieces::default(), Vec::new());
        for part in whole.chunks(2_300) {
            pieces.push(part);
            while pieces.len() > PIECE {
                let piece = pieces.pop();
                assert_eq!(piece.len(), PIECE);
                out.extend_from_slice(&piece);
            }
        }
        while !pieces.is_empty() {
            out.extend_from_slice(&pieces.pop());
        }
        assert_eq!(out, whole);
    }
}
