//! Whom a client trusts and what it shows, as files that others renew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{HttpClient, TrustError};

/// How often the files are read again, at most.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// A client made of files, and made anew when they change.
#[derive(Debug)]
pub struct TrustFiles {
    authorities: Option<PathBuf>,
    name: Option<String>,
    token: Option<PathBuf>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    client: HttpClient,
    texts: Texts,
    looked: Instant,
    /// Whether the files could not be used when they were read last.
    unusable: bool,
}

/// What the files hold, which is not for `Debug`.
#[derive(Default, PartialEq)]
struct Texts {
    authorities: Option<Vec<u8>>,
    token: Option<String>,
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Texts")
    }
}

impl TrustFiles {
    /// Trusts the authorities of a file, whose servers' certificates are valid for `name`, or for the host that is asked; shows the
    /// first line of another file as a token. Without authorities it asks in the clear, and shows nothing.
    ///
    /// # Errors
    /// [`TrustError`]: at the start the files have to be there.
    pub fn following(
        authorities: Option<PathBuf>,
        name: Option<String>,
        token: Option<PathBuf>,
    ) -> Result<Self, TrustError> {
        let texts = read(authorities.as_deref(), token.as_deref())?;
        let client = client(&texts, name.as_deref())?;
        Ok(Self {
            authorities,
            name,
            token,
            current: Mutex::new(Current {
                client,
                texts,
                looked: Instant::now(),
                unusable: false,
            }),
        })
    }

    /// The client of today.
    #[must_use]
    pub fn client(&self) -> HttpClient {
        let mut current = self.current.lock();
        if current.looked.elapsed() >= READ_AGAIN {
            current.looked = Instant::now();
            self.follow(&mut current);
        }
        current.client.clone()
    }

    fn follow(&self, current: &mut Current) {
        let renewed = read(self.authorities.as_deref(), self.token.as_deref()).and_then(|texts| {
            if texts == current.texts {
                return Ok(None);
            }
            Ok(Some((client(&texts, self.name.as_deref())?, texts)))
        });
        match renewed {
            Ok(None) => current.unusable = false,
            Ok(Some((client, texts))) => {
                (current.client, current.texts, current.unusable) = (client, texts, false);
            }
            // said once
            Err(_) if current.unusable => {}
            Err(error) => {
                current.unusable = true;
                tracing::warn!(%error, "authorities and token before stay in force");
            }
        }
    }
}

fn read(authorities: Option<&Path>, token: Option<&Path>) -> Result<Texts, TrustError> {
    let file = |file: &Path| {
        fs::read(file).map_err(|source| TrustError::Unreadable {
            file: file.to_owned(),
            source,
        })
    };
    let token = token.map(file).transpose()?.map(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty());
        first.unwrap_or_default().to_owned()
    });
    Ok(Texts {
        authorities: authorities.map(file).transpose()?,
        token,
    })
}

fn client(texts: &Texts, name: Option<&str>) -> Result<HttpClient, TrustError> {
    let client = match &texts.authorities {
        Some(authorities) => HttpClient::trusting(authorities, name)?,
        None => HttpClient::new(),
    };
    match texts.token.as_deref() {
        Some("") => Err(TrustError::Token),
        Some(token) => client.with_token(token),
        None => Ok(client),
    }
}
