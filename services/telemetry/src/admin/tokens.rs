//! Tokens in files, one a line: while one replaces another both stand there. A folder stands for
//! its files, as a mounted Secret has them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// How often the file is read again, at most.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Shorter tokens can be guessed.
const SHORTEST: usize = 16;
/// Longer ones fit into no header.
pub(super) const LONGEST: usize = 8 << 10;
/// Two while one replaces the other, and a few for whoever has one of its own.
const MOST: usize = 32;

/// Why tokens cannot be used. None of them holds anything of a token.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read", file.display())]
    Unreadable {
        /// Which one.
        file: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It holds none, or too many.
    #[error("{}: holds {found} tokens, one a line; 1 to {MOST} are possible", place.display())]
    Count {
        /// Which file or folder.
        place: PathBuf,
        /// How many there are.
        found: usize,
    },
    /// One can be guessed, or can stand in no header.
    #[error(
        "{}: line {line}: a token is {SHORTEST} to {LONGEST} visible ASCII characters (for example: openssl rand -hex 32)",
        file.display()
    )]
    Form {
        /// Which file.
        file: PathBuf,
        /// Which line, counted from 1.
        line: usize,
    },
}

/// The tokens of a file or folder, which may change.
#[derive(Debug)]
pub(super) struct Tokens {
    place: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// Digests are compared, which takes the same time wherever they differ.
    digests: Vec<[u8; 32]>,
    looked: Instant,
    /// Whether the file held nothing usable when it was read last.
    unusable: bool,
}

impl Tokens {
    /// # Errors
    /// [`TokensError`]: at the start there has to be one.
    pub(super) fn following(place: PathBuf) -> Result<Self, TokensError> {
        let current = Mutex::new(Current {
            digests: read(&place)?,
            looked: Instant::now(),
            unusable: false,
        });
        Ok(Self { place, current })
    }

    /// Whether this is one of them.
    pub(super) fn hold(&self, token: &str) -> bool {
        let mut current = self.current.lock();
        if current.looked.elapsed() >= READ_AGAIN {
            current.looked = Instant::now();
            current.follow(&self.place);
        }
        let given = digest(token);
        let known = current.digests.iter().map(|known| known.ct_eq(&given));
        known
            .fold(Choice::from(0), |found, same| found | same)
            .into()
    }
}

impl Current {
    fn follow(&mut self, place: &Path) {
        match read(place) {
            Ok(digests) => (self.digests, self.unusable) = (digests, false),
            // said once
            Err(_) if self.unusable => {}
            Err(error) => {
                self.unusable = true;
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the tokens before stay in force");
            }
        }
    }
}

fn read(place: &Path) -> Result<Vec<[u8; 32]>, TokensError> {
    let mut digests = Vec::new();
    for file in files(place)? {
        let text = fs::read_to_string(&file).map_err(unreadable(&file))?;
        for (index, line) in text.lines().enumerate() {
            let token = line.trim_end();
            if token.is_empty() {
                continue;
            }
            let fits = (SHORTEST..=LONGEST).contains(&token.len());
            if !fits || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                let line = index + 1;
                return Err(TokensError::Form { file, line });
            }
            digests.push(digest(token));
        }
    }
    match digests.len() {
        1..=MOST => Ok(digests),
        found => Err(TokensError::Count {
            place: place.to_owned(),
            found,
        }),
    }
}

/// The files of a place. In a Secret's volume what begins with a dot is how its files are replaced.
fn files(place: &Path) -> Result<Vec<PathBuf>, TokensError> {
    if !place.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(place).map_err(unreadable(place))? {
        let entry = entry.map_err(unreadable(place))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn unreadable(file: &Path) -> impl Fn(io::Error) -> TokensError {
    let file = file.to_owned();
    move |source| TokensError::Unreadable {
        file: file.clone(),
        source,
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}
