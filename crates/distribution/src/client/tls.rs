//! TLS of one registry: the machine's roots and its own, client certificates, or no proof at all where the operator says so.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::error::RegistryError;

/// Files that say whom to trust and who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Roots besides the machine's.
    pub roots: Vec<PathBuf>,
    /// Certificate chain and key; the key may be in the same file.
    pub clients: Vec<(PathBuf, PathBuf)>,
    /// Sizes and times of these files, so that changed ones are read again.
    pub stamps: Vec<Option<(u64, SystemTime)>>,
}

impl TlsFiles {
    /// Notes how the files are now.
    pub fn stamp(&mut self) {
        let clients = self.clients.iter().flat_map(|(chain, key)| [chain, key]);
        let stamps = self.roots.iter().chain(clients).map(|path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.len(), meta.modified().ok()?))
        });
        self.stamps = stamps.collect();
    }
}

/// The settings of connections. `verify` is whether the other end must prove who it is; `identify` whether we do.
pub fn settings(
    files: &TlsFiles,
    verify: bool,
    identify: bool,
) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: rustls::Error| RegistryError::Settings(format!("tls: {error}"));
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = if verify {
        let mut roots = machine_roots().clone();
        for path in &files.roots {
            let (_, bad) = roots.add_parsable_certificates(certificates(path)?);
            if bad > 0 {
                return Err(unreadable(path, "a certificate does not parse"));
            }
        }
        builder.with_root_certificates(roots)
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
    };
    match files.clients.first().filter(|_| identify) {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, e))?;
            builder
                .with_client_auth_cert(certificates(chain)?, key_der)
                .map_err(failed)
        }
    }
}

/// The machine's roots, read once.
fn machine_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!("roots of this machine: {error}");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> RegistryError {
    RegistryError::Settings(format!("{}: {error}", path.display()))
}

/// Believes any server; for registries that the operator has listed as insecure.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
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
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
