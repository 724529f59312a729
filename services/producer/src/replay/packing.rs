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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

    use std::io::{Cursor, Read as _};
    use std::process::Command;

    use super::Packer;

    const TEXT: &str = "a line of a log that is long enough to be worth packing\n";

    /// Packed by the program of the same name; `None` where there is none.
    fn packed(program: &str, text: &str) -> Option<Vec<u8>> {
        let file = std::env::temp_dir().join(format!("packing-{}", uuid::Uuid::new_v4()));
        std::fs::write(&file, text).unwrap();
        let output = Command::new(program).arg("-c").arg(&file).output();
        std::fs::remove_file(&file).unwrap();
        match output {
            Ok(output) if output.status.success() => Some(output.stdout),
            _ => {
                eprintln!("skipped: there is no {program} here");
                None
            }
        }
    }

    #[test]
    fn what_the_packers_programs_write_is_read_also_joined_and_a_cut_is_noticed() {
        let text = TEXT.repeat(20_000);
        for packer in [Packer::Gzip, Packer::Zstd, Packer::Xz, Packer::Bzip2] {
            let Some(bytes) = packed(packer.name(), &text) else {
                continue;
            };
            assert_eq!(Packer::of(&bytes), Some(packer));
            let twice = [bytes.clone(), bytes.clone()].concat();
            let mut unpacked = String::new();
            let mut reader = packer.unpacked(Box::new(Cursor::new(twice)));
            reader.read_to_string(&mut unpacked).unwrap();
            assert!(unpacked == text.repeat(2), "{packer:?}");

            let cut = bytes[..bytes.len() / 2].to_vec();
            let mut reader = packer.unpacked(Box::new(Cursor::new(cut)));
            assert!(reader.read_to_end(&mut Vec::new()).is_err(), "{packer:?}");
        }
    }

    #[test]
    fn damaged_bytes_are_errors_or_text_and_never_a_panic() {
        use proptest::prelude::*;
        use proptest::test_runner::TestRunner;

        // lines that differ, so that there is more than one block's worth to damage
        let text: String = (0..3_000)
            .map(|n: u64| format!("{:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        for packer in [Packer::Gzip, Packer::Zstd, Packer::Xz, Packer::Bzip2] {
            let Some(bytes) = packed(packer.name(), &text) else {
                continue;
            };
            let changes = proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4);
            let mut runner = TestRunner::default();
            let tried = runner.run(&(changes, any::<usize>()), |(changes, cut)| {
                let mut bytes = bytes.clone();
                for (at, byte) in changes {
                    let at = at % bytes.len();
                    bytes[at] = byte;
                }
                bytes.truncate(bytes.len() - cut % 64);
                let reader = packer.unpacked(Box::new(Cursor::new(bytes)));
                // damage may make it endless, but not large at once
                let _ = reader.take(10 << 20).read_to_end(&mut Vec::new());
                Ok(())
            });
            tried.unwrap();
        }
    }

    #[test]
    fn texts_are_not_packed() {
        for head in ["", "BZh9 - -", "BZh", "192.0.2.1 - -", "{"] {
            assert_eq!(Packer::of(head.as_bytes()), None, "{head}");
        }
    }
}
