//! Compressed grains.

use libdeflater::{DecompressionError, Decompressor};

use crate::error::Problem;

/// What compression can make of a grain: a little more than it was, and room for writers that are careless with it.
pub(crate) fn max_length(grain: u64) -> u32 {
    (grain + grain / 8 + 1024) as u32
}

/// A decompressor and the data it works on.
pub(crate) struct Inflater {
    decompressor: Decompressor,
    input: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater { decompressor: Decompressor::new(), input: Vec::new() }
    }
}

impl Inflater {
    /// Room for the compressed data.
    pub(crate) fn input(&mut self, length: usize) -> &mut [u8] {
        self.input.resize(length, 0);
        &mut self.input
    }

    /// Inflates the input to a grain; a shorter one is filled up with zeros.
    pub(crate) fn inflate_zlib(&mut self, grain: &mut [u8]) -> Result<(), Problem> {
        if !is_zlib(&self.input) {
            return Err(Problem::NotZlib);
        }
        let result = self.decompressor.zlib_decompress(&self.input, grain);
        fill_up(result, grain)
    }

    /// Like [`Inflater::inflate_zlib`], but takes raw deflate (RFC 1951) too. Says whether it was zlib.
    pub(crate) fn inflate(&mut self, grain: &mut [u8]) -> Result<bool, Problem> {
        if is_zlib(&self.input) && self.inflate_zlib(grain).is_ok() {
            return Ok(true);
        }
        let result = self.decompressor.deflate_decompress(&self.input, grain);
        fill_up(result, grain).map(|()| false)
    }
}

fn fill_up(inflated: Result<usize, DecompressionError>, grain: &mut [u8]) -> Result<(), Problem> {
    let length = inflated.map_err(|_| Problem::Inflate)?;
    grain[length..].fill(0);
    Ok(())
}

/// RFC 1950, section 2.2: deflate, and a check of the header.
fn is_zlib(data: &[u8]) -> bool {
    matches!(data, [cmf, flg, ..] if cmf & 0xf == 8 && u16::from_be_bytes([*cmf, *flg]).is_multiple_of(31))
}
