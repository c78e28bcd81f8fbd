//! SPAKE2's messages: the side's letter, then an element of edwards25519 as RFC 8032 encodes it. The spake2 crate checks
//! the letter and takes every point that it can decompress; this is what it does not look at.

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::IsIdentity as _;

/// The element of a message, if it is one that an honest peer could have sent.
pub(super) fn of(message: &[u8]) -> Option<[u8; 32]> {
    let (_, element) = message.split_first()?;
    element.try_into().ok().filter(|element| is_proper(*element))
}

/// Whether `bytes` encode a point other than the identity in the group of prime order. A point with a part of low order
/// would show whether that part survives the peer's scalar. That an encoding is the shortest need not be looked at: those
/// that are not encode no point of that group.
pub(super) fn is_proper(bytes: [u8; 32]) -> bool {
    CompressedEdwardsY(bytes)
        .decompress()
        .is_some_and(|point| !point.is_identity() && point.is_torsion_free())
}
