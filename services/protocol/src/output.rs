//! Standard output and standard error, whose readers may have seen enough: `clickstream-processor
//! audit | head`.
//!
//! A program that writes to them ends quietly then, by [`READER_GONE`]. The error is one of its
//! own, since a connection to a server that breaks is a broken pipe as well, and has to be told.

use std::{
    error::Error,
    io::{self, ErrorKind, StderrLock, StdoutLock, Write},
    iter,
    process::ExitCode,
};

use crate::exit::READER_GONE;

/// Nobody reads what is written.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct ReaderGone;

/// A stream whose error says when its reader is gone.
#[derive(Debug)]
pub struct Output<W>(W);

/// Standard output, locked.
#[must_use]
pub fn stdout() -> Output<StdoutLock<'static>> {
    Output(io::stdout().lock())
}

/// Standard error, locked.
#[must_use]
pub fn stderr() -> Output<StderrLock<'static>> {
    Output(io::stderr().lock())
}

impl<W: Write> Output<W> {
    /// Wraps a stream that people read.
    pub const fn new(stream: W) -> Self {
        Self(stream)
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(marked)
    }
}

fn marked(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, ReaderGone),
        _ => error,
    }
}

/// Whether a program failed because nobody reads its output any more.
#[must_use]
pub fn reader_is_gone(error: &(dyn Error + 'static)) -> bool {
    iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>()?.get_ref())
        .any(|inner| inner.is::<ReaderGone>())
}

/// Tells a person why a program ends, and answers with its exit code: quietly where nobody reads
/// any more. `text` is the error's.
#[must_use]
pub fn failed(error: &(dyn Error + 'static), text: &str) -> ExitCode {
    if reader_is_gone(error) {
        return ExitCode::from(READER_GONE);
    }
    // `eprintln` would panic where standard error is closed as well
    let _ = writeln!(stderr(), "error: {text}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    /// A stream that fails.
    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_told_from_a_full_disk_and_a_broken_connection() {
        let written = |kind| writeln!(Output::new(Failing(kind)), "text").unwrap_err();
        assert!(reader_is_gone(&written(ErrorKind::BrokenPipe)));
        assert!(!reader_is_gone(&written(ErrorKind::StorageFull)));
        assert!(!reader_is_gone(&io::Error::from(ErrorKind::BrokenPipe)));
        let flushed = Output::new(Failing(ErrorKind::BrokenPipe)).flush();
        assert!(reader_is_gone(&flushed.unwrap_err()));
    }
}
