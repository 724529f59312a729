//! A `.tar.gz` that is written part by part.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context as _;
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use tar::{Builder, Header};

/// The archive. All of it lies in one folder, so that unpacking it fills no other.
pub struct Archive {
    tar: Builder<GzEncoder<File>>,
    folder: String,
    time: u64,
}

impl Archive {
    /// A new file, which only its owner may read.
    ///
    /// # Errors
    /// There is one already, or it cannot be written.
    pub fn create(file: &Path, folder: &str, time: Timestamp) -> anyhow::Result<Self> {
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)
            .with_context(|| format!("{}: choose another with --file", file.display()))?;
        Ok(Self {
            tar: Builder::new(GzEncoder::new(opened, Compression::default())),
            folder: folder.to_owned(),
            time: u64::try_from(time.as_second()).unwrap_or(0),
        })
    }

    /// Adds a text.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        let path = format!("{}/{path}", self.folder);
        self.tar
            .append_data(&mut header, &path, text.as_bytes())
            .with_context(|| path.clone())
    }

    /// Ends it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> anyhow::Result<()> {
        self.tar.into_inner()?.finish()?.sync_all()?;
        Ok(())
    }
}
