//! TLS to PostgreSQL with rustls: `VerifyFull` checks chain and host name, `Require` only encrypts,
//! as libpq does.

use std::sync::Arc;

use clickstream_pipeline::spec::{PostgresSettings, SslMode};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use thiserror::Error;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What is wrong with the certificates that the spec names.
#[derive(Debug, Error)]
pub enum TlsError {
    /// `sslMode: VerifyFull` needs something to verify against.
    #[error("sslMode VerifyFull needs a certificate authority: set connection.caSecret")]
    NoAuthority,
    /// A PEM file cannot be read.
    #[error("{what} is no readable PEM: {source}")]
    Pem {
        /// Which of the files.
        what: &'static str,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// rustls refuses the material.
    #[error(transparent)]
    Refused(#[from] rustls::Error),
}

/// Builds the connector for a target.
pub(crate) fn connector(settings: &PostgresSettings) -> Result<MakeRustlsConnect, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match (&settings.ca_pem, settings.ssl_mode) {
        (Some(pem), _) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem, "the certificate authority")? {
                roots.add(certificate)?;
            }
            builder.with_root_certificates(roots)
        }
        (None, SslMode::VerifyFull) => return Err(TlsError::NoAuthority),
        (None, _) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(EncryptOnly(provider))),
    };
    let config = match (&settings.client_cert_pem, &settings.client_key_pem) {
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|source| {
                TlsError::Pem {
                    what: "the client's private key",
                    source,
                }
            })?;
            builder
                .with_client_auth_cert(certificates(certificate, "the client certificate")?, key)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what, source })
}

/// `sslMode: Require` without a certificate authority: the connection is encrypted, the server is
/// not authenticated.
#[derive(Debug)]
struct EncryptOnly(Arc<CryptoProvider>);

impl ServerCertVerifier for EncryptOnly {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
