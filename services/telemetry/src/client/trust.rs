//! Whom a client trusts and what it shows, as files that others renew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{HttpClient, TrustError};

/// How often the files are read again, at most.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// How long authorities are trusted that others have taken the place of. A server goes on with a
/// certificate of theirs until a kubelet has brought it the renewed one, which takes a minute or
/// two.
pub const BESIDE: Duration = Duration::from_mins(5);

/// Authorities that others take the place of.
#[derive(Debug, Default)]
pub struct Authorities {
    pem: Vec<u8>,
    /// Those of before, and since when they are.
    before: Vec<(Vec<u8>, Instant)>,
    looked: Option<Instant>,
}

impl Authorities {
    /// A client that trusts the authorities of this PEM from now on, and for [`BESIDE`] those that
    /// were named before.
    ///
    /// # Errors
    /// [`TrustError`], by which nothing changes.
    pub fn client(
        &mut self,
        pem: &[u8],
        name: Option<&str>,
        now: Instant,
    ) -> Result<HttpClient, TrustError> {
        let alone = HttpClient::trusting(pem, name)?;
        self.looked = Some(now);
        if pem != self.pem {
            let before = std::mem::replace(&mut self.pem, pem.to_owned());
            if !before.is_empty() {
                self.before.push((before, now));
            }
        }
        self.before
            .retain(|(before, since)| before != pem && is_recent(*since, now));
        if self.before.is_empty() {
            return Ok(alone);
        }
        let before = self.before.iter().map(|(before, _)| before.as_slice());
        let all: Vec<_> = [pem].into_iter().chain(before).collect();
        HttpClient::trusting(&all.join(&b'\n'), name)
    }

    /// Whether a client of now would trust fewer than the last one that was made.
    #[must_use]
    pub fn have_ended(&self, now: Instant) -> bool {
        self.before.iter().any(|(_, since)| !is_recent(*since, now))
    }

    /// Whether what was trusted last is of use for a client of now.
    #[must_use]
    pub fn are_of_use(&self, now: Instant) -> bool {
        self.looked.is_some_and(|looked| is_recent(looked, now))
    }
}

fn is_recent(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < BESIDE
}

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
    trusted: Authorities,
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
    /// Trusts the authorities of a file, whose servers' certificates are valid for `name`, or for
    /// the host that is asked; shows the first line of another file as a token. Without authorities
    /// it asks in the clear, and shows nothing.
    ///
    /// # Errors
    /// [`TrustError`]: at the start the files have to be there.
    pub fn following(
        authorities: Option<PathBuf>,
        name: Option<String>,
        token: Option<PathBuf>,
    ) -> Result<Self, TrustError> {
        let texts = read(authorities.as_deref(), token.as_deref())?;
        let mut trusted = Authorities::default();
        let client = client(&texts, name.as_deref(), &mut trusted)?;
        Ok(Self {
            authorities,
            name,
            token,
            current: Mutex::new(Current {
                client,
                texts,
                trusted,
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
            if texts == current.texts && !current.trusted.have_ended(Instant::now()) {
                return Ok(None);
            }
            let client = client(&texts, self.name.as_deref(), &mut current.trusted)?;
            Ok(Some((client, texts)))
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

fn client(
    texts: &Texts,
    name: Option<&str>,
    trusted: &mut Authorities,
) -> Result<HttpClient, TrustError> {
    let client = match &texts.authorities {
        Some(authorities) => trusted.client(authorities, name, Instant::now())?,
        None => HttpClient::new(),
    };
    match texts.token.as_deref() {
        Some("") => Err(TrustError::Token),
        Some(token) => client.with_token(token),
        None => Ok(client),
    }
}
