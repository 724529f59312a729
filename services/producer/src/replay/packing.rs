//! Packed inputs: recognised by their first bytes, unpacked on the way.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::input::BUFFER_BYTES;

/// Any reader of bytes.
pub type Bytes = Box<dyn BufRead + Send>;

/// The most memory that unpacking xz takes, in KiB: `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 200 * 1024;

/// What is unpacked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packer {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

/// What files begin with.
const HEADS: [(&[u8], Packer); 4] = [
    (b"\x1f\x8b", Packer::Gzip),
    (b"\x28\xb5\x2f\xfd", Packer::Zstd),
    (b"\xfd7zXZ\0", Packer::Xz),
    // a host may be called BZh: only the whole head of a file is proof
    (b"BZh", Packer::Bzip2),
];

/// What is not unpacked here: its first bytes, its name, and the command that unpacks to standard
/// output.
pub const OTHERS: [(&[u8], &str, &str); 2] = [
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"PK\x03\x04", "zip", "unzip -p"),
];

/// Whether these first bytes are those of a tar archive, which has its mark behind the first name.
#[must_use]
pub fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar".as_slice())
}

impl Packer {
    /// What these first bytes of a file are packed with.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let (_, packer) = HEADS.iter().find(|(magic, _)| head.starts_with(magic))?;
        let proven = match packer {
            Self::Bzip2 => {
                head.get(3).is_some_and(u8::is_ascii_digit)
                    && head.get(4..10) == Some(b"1AY&SY".as_slice())
            }
            _ => true,
        };
        proven.then_some(*packer)
    }

    /// The command that unpacks to standard output.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::Gzip => "gzip -dc",
            Self::Zstd => "zstd -dc",
            Self::Xz => "xz -dc",
            Self::Bzip2 => "bzip2 -dc",
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }

    /// The bytes as they were, also of several packed files joined into one.
    pub fn unpacked(self, packed: Bytes) -> Bytes {
        let unpacked: Box<dyn Read + Send> = match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Bzip2 => Box::new(MultiBzDecoder::new(packed)),
            Self::Xz => Box::new(XzReader::new_mem_limit(packed, true, XZ_MEMORY)),
            Self::Zstd => Box::new(Frames::new(packed)),
        };
        Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked))
    }
}

/// The frames of a file packed by Zstandard, one after the other.
struct Frames {
    packed: Bytes,
    decoder: FrameDecoder,
    within: bool,
}

impl Frames {
    fn new(packed: Bytes) -> Self {
        Self {
            packed,
            decoder: FrameDecoder::new(),
            within: false,
        }
    }

    /// Begins the next frame, or passes over one of somebody else's, such as an index for seeking.
    fn begin(&mut self) -> io::Result<()> {
        use FrameDecoderError::ReadFrameHeaderError as Header;
        match self.decoder.init(&mut self.packed) {
            Ok(()) => {
                self.within = true;
                Ok(())
            }
            Err(Header(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                let skipped = io::copy(&mut (&mut self.packed).take(length), &mut io::sink())?;
                if skipped < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(())
            }
            Err(error) => Err(damaged(error)),
        }
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.within {
                if self.decoder.can_collect() > 0 {
                    return self.decoder.read(buffer);
                }
                if !self.decoder.is_finished() {
                    self.decoder
                        .decode_blocks(&mut self.packed, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(damaged)?;
                    continue;
                }
                let stored = self.decoder.get_checksum_from_data();
                if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
                    return Err(damaged("the checksum differs"));
                }
                self.within = false;
            }
            if self.packed.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.begin()?;
        }
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
