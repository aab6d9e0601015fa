//! Zstandard frames (RFC 8878) of known size: one call in, one call out, contexts kept.

use std::io::{self, Read};

use zstd::zstd_safe::{CParameter, DParameter};

use super::{FormatError, bounded};

/// A frame has at most this many bytes uncompressed (section 12).
pub const MAX_FRAME: u64 = 64 << 20;
/// The largest window a reader accepts, as a power of two.
const MAX_WINDOW_LOG: u32 = 23;

/// Makes frames. Keep one per thread: its tables are used again.
pub struct Encoder {
    context: zstd::bulk::Compressor<'static>,
}

impl Encoder {
    /// An encoder for this compression level (1 to 19).
    ///
    /// # Errors
    /// If zstd cannot get memory.
    pub fn new(level: i32) -> io::Result<Self> {
        let mut context = zstd::bulk::Compressor::new(level)?;
        context.set_parameter(CParameter::ChecksumFlag(true))?;
        context.set_parameter(CParameter::ContentSizeFlag(true))?;
        Ok(Self { context })
    }

    /// Compresses `raw` into one frame, replacing what `out` holds.
    ///
    /// # Errors
    /// If zstd fails, which it does only for lack of memory.
    pub fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        // as much as it needs and not twice that: frames have nearly one size
        out.reserve_exact(zstd::zstd_safe::compress_bound(raw.len()));
        self.context.compress_to_buffer(raw, out)?;
        Ok(())
    }
}

/// Reads frames. Keep one per thread.
pub struct Decoder {
    context: zstd::bulk::Decompressor<'static>,
    // for beginnings of frames, made when the first is asked for
    partial: Option<zstd::zstd_safe::DCtx<'static>>,
}

impl Decoder {
    /// A new decoder.
    ///
    /// # Errors
    /// If zstd cannot get memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { context: zstd::bulk::Decompressor::new()?, partial: None })
    }

    /// Decodes `stored` into `out`, which then holds exactly `size` bytes.
    ///
    /// # Errors
    /// [`FormatError`] if the bytes are no frame, fail their checksum or have another size. Never
    /// uses more memory than `size`.
    pub fn decode(&mut self, stored: &[u8], size: u64, out: &mut Vec<u8>) -> Result<(), FormatError> {
        bounded("a frame", size, MAX_FRAME)?;
        let size = size as usize; // at most 64 MiB
        out.clear();
        out.reserve_exact(size.max(1));
        self.context.decompress_to_buffer(stored, out).map_err(|e| FormatError::malformed("a frame", e))?;
        if out.len() != size {
            let why = format!("it holds {} bytes, {size} were announced", out.len());
            return Err(FormatError::malformed("a frame", why));
        }
        Ok(())
    }
}

impl Decoder {
    /// Decodes only the first `size` bytes of a frame into `out`. The frame's checksum is not
    /// compared: the caller compares hashes of what it uses.
    ///
    /// # Errors
    /// [`FormatError`] if the bytes are no frame or end before that.
    pub fn decode_beginning(
        &mut self,
        stored: &[u8],
        size: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        bounded("a frame", size, MAX_FRAME)?;
        let size = size as usize; // at most 64 MiB
        let bad = |why: &str| FormatError::malformed("a frame", why);
        let said = |code| FormatError::malformed("a frame", zstd::zstd_safe::get_error_name(code));
        let context = match &mut self.partial {
            Some(context) => context,
            none => {
                none.insert(zstd::zstd_safe::DCtx::try_create().ok_or_else(|| bad("no memory to decode it"))?)
            }
        };
        context.reset(zstd::zstd_safe::ResetDirective::SessionOnly).map_err(said)?;
        context.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG)).map_err(said)?;
        out.resize(size, 0);
        let mut input = zstd::zstd_safe::InBuffer::around(stored);
        let mut have = 0;
        while have < size {
            let before = (input.pos(), have);
            let mut piece = zstd::zstd_safe::OutBuffer::around_pos(&mut out[..], have);
            context.decompress_stream(&mut piece, &mut input).map_err(said)?;
            have = piece.pos();
            if (input.pos(), have) == before {
                return Err(bad("it ends too early"));
            }
        }
        Ok(())
    }
}

/// Decodes a stream of unknown length piece by piece, with a bounded window; the caller bounds
/// what it takes.
///
/// # Errors
/// If zstd cannot get memory.
pub fn stream_decoder<'a>(stored: impl Read + 'a) -> io::Result<impl io::BufRead + 'a> {
    let mut decoder = zstd::stream::read::Decoder::new(stored)?;
    decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
    Ok(io::BufReader::with_capacity(128 << 10, decoder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_only_in_its_announced_size() {
        let raw = b"lifeboat ".repeat(1000);
        let (mut stored, mut back) = (Vec::new(), Vec::new());
        Encoder::new(3).unwrap().encode(&raw, &mut stored).unwrap();
        let mut decoder = Decoder::new().unwrap();
        decoder.decode(&stored, raw.len() as u64, &mut back).unwrap();
        assert_eq!(back, raw);
        assert!(decoder.decode(&stored, raw.len() as u64 - 1, &mut back).is_err());
        assert!(decoder.decode(&stored, raw.len() as u64 + 1, &mut back).is_err());
        assert!(decoder.decode(&stored, 1 << 40, &mut back).is_err());
        decoder.decode(&stored, raw.len() as u64, &mut back).unwrap();
        for size in [1, 4000, raw.len()] {
            decoder.decode_beginning(&stored, size as u64, &mut back).unwrap();
            assert_eq!(back, raw[..size]);
        }
        assert!(decoder.decode_beginning(&stored, raw.len() as u64 + 1, &mut back).is_err());
        assert!(decoder.decode_beginning(&stored[..10], 4000, &mut back).is_err());
    }
}
