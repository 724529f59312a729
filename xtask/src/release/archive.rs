//! Archives whose bytes follow from their content: one owner, one time, one order.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// A file of an archive.
#[derive(Clone, Debug)]
pub struct File {
    /// Relative, with `/`.
    pub path: String,
    /// Whether it can be run.
    pub executable: bool,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl File {
    /// A file that is read.
    #[must_use]
    pub fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            executable: false,
            bytes: bytes.into(),
        }
    }

    /// A program.
    #[must_use]
    pub fn program(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            executable: true,
            ..Self::new(path, bytes)
        }
    }
}

/// A tar archive of these files and the folders above them, all of root's and of this time.
///
/// # Errors
/// A path does not fit.
pub fn tar(files: &[File], time: u64) -> anyhow::Result<Vec<u8>> {
    let mut sorted: Vec<&File> = files.iter().collect();
    sorted.sort_by(|one, other| one.path.cmp(&other.path));
    let mut builder = Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    for file in sorted {
        let above: Vec<&Path> = Path::new(&file.path).ancestors().skip(1).collect();
        for folder in above.into_iter().rev() {
            if folder.as_os_str().is_empty() || !folders.insert(folder.to_owned()) {
                continue;
            }
            let mut header = header(EntryType::Directory, 0o755, time);
            header.set_size(0);
            let name = format!("{}/", folder.display());
            builder.append_data(&mut header, name, std::io::empty())?;
        }
        let mode = if file.executable { 0o755 } else { 0o644 };
        let mut header = header(EntryType::Regular, mode, time);
        header.set_size(file.bytes.len() as u64);
        builder
            .append_data(&mut header, &file.path, file.bytes.as_slice())
            .with_context(|| format!("cannot pack {}", file.path))?;
    }
    Ok(builder.into_inner()?)
}

fn header(kind: EntryType, mode: u32, time: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time);
    header
}

/// Compressed, without a name and without a time.
///
/// # Errors
/// None that this machine has memory for.
pub fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    // 255 stands for an operating system that is not told
    let builder = GzBuilder::new().mtime(0).operating_system(255);
    let mut encoder = builder.write(Vec::new(), Compression::new(6));
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// SHA-256, as 64 digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn files() -> Vec<File> {
        vec![
            File::program("tool", b"#!".to_vec()),
            File::new("etc/ssl/certs.crt", b"certificates".to_vec()),
            File::new("etc/hosts", b"hosts".to_vec()),
        ]
    }

    #[test]
    fn the_same_files_are_the_same_bytes_in_whatever_order_they_come() -> anyhow::Result<()> {
        let one = gzip(&tar(&files(), 1_700_000_000)?)?;
        let mut turned = files();
        turned.reverse();
        assert_eq!(one, gzip(&tar(&turned, 1_700_000_000)?)?);
        assert_ne!(one, gzip(&tar(&files(), 1_700_000_001)?)?);
        Ok(())
    }

    /// A change of the crates that pack shows here: releases would no longer be reproduced by later
    /// checkouts.
    #[test]
    fn what_is_packed_today_is_packed_tomorrow() -> anyhow::Result<()> {
        let packed = tar(&files(), 1_700_000_000)?;
        let want = "8cd4a1bcc38f1c22a80a1dd026a0f29cebe087cc6921a4cb16e224db6fbb400e";
        assert_eq!(sha256(&packed), want);
        assert_eq!(
            sha256(&gzip(&packed)?),
            "806d8c510fca6be43b15dbe8123f99c13bf3bde6a4d3951371f2b06b8fa889e8"
        );
        Ok(())
    }

    #[test]
    fn everything_is_of_root_and_folders_come_before_what_is_in_them() -> anyhow::Result<()> {
        let packed = gzip(&tar(&files(), 1_700_000_000)?)?;
        let mut bytes = Vec::new();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes)?;
        let mut archive = ::tar::Archive::new(bytes.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries()? {
            let entry = entry?;
            let header = entry.header();
            assert_eq!((header.uid()?, header.gid()?), (0, 0));
            assert_eq!(header.mtime()?, 1_700_000_000);
            let path = entry.path()?.to_string_lossy().into_owned();
            seen.push(format!("{path} {:o}", header.mode()?));
        }
        let want = [
            "etc/ 755",
            "etc/hosts 644",
            "etc/ssl/ 755",
            "etc/ssl/certs.crt 644",
            "tool 755",
        ];
        assert_eq!(seen, want);
        Ok(())
    }
}
