//! A server's certificate and key, as files that others renew.
//!
//! cert-manager and its like write a Secret anew, and the kubelet the files of a pod that mounts
//! it. They are read when a connection comes, once a second at most, so a certificate is renewed
//! without a restart and costs nothing at rest. What cannot be used does not replace what is in
//! use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The chain, the server's own certificate first.
pub const CERTIFICATE: &str = "tls.crt";
/// Its private key.
pub const KEY: &str = "tls.key";

/// How often the files are read again, at most.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Why a certificate cannot be used. None of them holds anything of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: cannot be read", file.display())]
    Unreadable {
        /// Which one.
        file: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file is no PEM, or holds nothing of the kind.
    #[error("{}: holds no {what} in PEM", file.display())]
    NoPem {
        /// Which one.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// Certificate and key do not belong together, or are of a kind that is not known.
    #[error("{}: certificate and key cannot be used", folder.display())]
    Unusable {
        /// Where they are.
        folder: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// What a server proves with who it is; clones share it.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Followed>);

#[derive(Debug)]
struct Followed {
    folder: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    files: Files,
    config: Arc<ServerConfig>,
    looked: Instant,
    /// Whether the files could not be used when they were read last.
    unusable: bool,
}

struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Files")
    }
}

impl Tls {
    /// Follows [`CERTIFICATE`] and [`KEY`] of a folder. TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// [`TlsError`]: at the start they have to be there.
    pub fn following(folder: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let folder = folder.into();
        let files = read(&folder)?;
        let config = config(&folder, &files)?;
        let current = Mutex::new(Current {
            files,
            config,
            looked: Instant::now(),
            unusable: false,
        });
        Ok(Self(Arc::new(Followed { folder, current })))
    }

    /// What the next handshake goes by.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        let Followed { folder, current } = &*self.0;
        let mut current = current.lock();
        if current.looked.elapsed() >= READ_AGAIN {
            current.looked = Instant::now();
            current.follow(folder);
        }
        Arc::clone(&current.config)
    }
}

impl Current {
    fn follow(&mut self, folder: &Path) {
        let renewed = read(folder).and_then(|files| {
            if files.certificate == self.files.certificate && files.key == self.files.key {
                return Ok(None);
            }
            Ok(Some((config(folder, &files)?, files)))
        });
        match renewed {
            Ok(None) => self.unusable = false,
            Ok(Some((config, files))) => {
                tracing::info!(folder = %folder.display(), "the certificate has been renewed");
                (self.config, self.files, self.unusable) = (config, files, false);
            }
            // said once; a renewal that is half written is whole a second later
            Err(_) if self.unusable => {}
            Err(error) => {
                self.unusable = true;
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "the certificate in use stays: the renewed one cannot be used"
                );
            }
        }
    }
}

fn read(folder: &Path) -> Result<Files, TlsError> {
    let file = |name| {
        let file = folder.join(name);
        fs::read(&file).map_err(|source| TlsError::Unreadable { file, source })
    };
    Ok(Files {
        certificate: file(CERTIFICATE)?,
        key: file(KEY)?,
    })
}

fn config(folder: &Path, files: &Files) -> Result<Arc<ServerConfig>, TlsError> {
    let no_pem = |name, what| {
        let file = folder.join(name);
        move |source| TlsError::NoPem { file, what, source }
    };
    let chain = CertificateDer::pem_slice_iter(&files.certificate)
        .collect::<Result<Vec<_>, _>>()
        .and_then(|chain| match chain.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(chain),
        })
        .map_err(no_pem(CERTIFICATE, "certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(no_pem(KEY, "private key"))?;
    let unusable = |source| TlsError::Unusable {
        folder: folder.to_owned(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
