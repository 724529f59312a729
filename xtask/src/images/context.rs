//! The folder that an image is built from: a program, what TLS and name look-ups read, and the
//! instructions.

use std::fs;
use std::path::{Path, PathBuf};

use clickstream_tools::workspace_root;

/// glibc asks files, then name servers, also where this file is missing; written down so that it
/// stays so.
const NAME_LOOKUPS: &str = "hosts: files dns\n";

/// Writes the folder and returns it.
///
/// # Errors
/// It cannot be written.
pub fn write(service: &str, version: &str, program: &Path) -> anyhow::Result<PathBuf> {
    let folder = workspace_root().join("target/images/context").join(service);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for (path, text) in files() {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        fs::write(path, text)?;
    }
    fs::copy(program, folder.join(program_name(service)))?;
    fs::write(folder.join("Dockerfile"), instructions(service, version))?;
    Ok(folder)
}

/// What every image holds beside its program, by path.
#[must_use]
pub fn files() -> [(&'static str, String); 2] {
    [
        ("etc/nsswitch.conf", NAME_LOOKUPS.to_owned()),
        ("etc/ssl/certs/ca-certificates.crt", public_authorities()),
    ]
}

/// Mozilla's list, from a crate: the same on every machine, and nothing that this machine trusts
/// beside it.
fn public_authorities() -> String {
    let certificates: Vec<pem::Pem> = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|certificate| pem::Pem::new("CERTIFICATE", certificate.as_ref()))
        .collect();
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_many_config(&certificates, config)
}

/// The program of a service; it stands at the root of its image.
#[must_use]
pub fn program_name(service: &str) -> String {
    format!("clickstream-{service}")
}

/// The end of the Dockerfile in the workspace's root is the same.
fn instructions(service: &str, version: &str) -> String {
    let program = program_name(service);
    format!(
        "FROM scratch\n\
         COPY etc /etc\n\
         COPY {program} /{program}\n\
         LABEL org.opencontainers.image.title=\"{program}\" \\\n      \
         org.opencontainers.image.version=\"{version}\" \\\n      \
         org.opencontainers.image.licenses=\"Apache-2.0\"\n\
         USER 65532:65532\n\
         ENTRYPOINT [\"/{program}\"]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authorities_are_many_certificates_in_one_file() -> anyhow::Result<()> {
        let read = pem::parse_many(public_authorities())?;
        assert!(read.len() > 100, "{}", read.len());
        assert!(read.iter().all(|one| one.tag() == "CERTIFICATE"));
        Ok(())
    }

    #[test]
    fn an_image_runs_its_program_as_nobody_in_particular() {
        let text = instructions("operator", "1.2.3");
        assert!(text.starts_with("FROM scratch\n"), "{text}");
        assert!(text.contains("\nUSER 65532:65532\n"), "{text}");
        assert!(
            text.contains("\nENTRYPOINT [\"/clickstream-operator\"]\n"),
            "{text}"
        );
    }
}
