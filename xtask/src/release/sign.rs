//! Checksums over everything, and a signature over them.
//!
//! With a key of one's own: ECDSA on P-256 over SHA-256 by OpenSSL, which every system has; the
//! same signature is what `cosign verify-blob --key` takes. Without a key, in continuous
//! integration: cosign with the identity of the workflow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::archive::sha256;
use crate::program;

/// Checksums, in the form that `sha256sum --check` reads.
pub const SUMS: &str = "SHA256SUMS";
const SIGNATURE: &str = "SHA256SUMS.sig";
const PUBLIC_KEY: &str = "release.pub";

/// Names the variable with the key's password.
const PASSWORD: &str = "CLICKSTREAM_RELEASE_KEY_PASSWORD";

/// Every file below `folder` but the checksums and what is made of them: path and SHA-256, in
/// order.
///
/// # Errors
/// A file cannot be read.
pub fn sums(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut sums = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            if !name.starts_with(SUMS) && name != PUBLIC_KEY {
                sums.push((name, sha256(&fs::read(&path)?)));
            }
        }
    }
    sums.sort();
    Ok(sums)
}

/// Writes the checksums.
///
/// # Errors
/// A file cannot be read or written.
pub fn write_sums(folder: &Path) -> anyhow::Result<usize> {
    let sums = sums(folder)?;
    let lines: String = sums
        .iter()
        .map(|(name, sum)| format!("{sum}  {name}\n"))
        .collect();
    fs::write(folder.join(SUMS), lines)?;
    Ok(sums.len())
}

/// Signs the checksums with a private key in PEM, puts the public one beside them and checks the
/// signature with it.
///
/// # Errors
/// The key is of another kind, its password is wrong, or there is no OpenSSL.
pub fn with_key(folder: &Path, key: &Path) -> anyhow::Result<()> {
    let password = std::env::var_os(PASSWORD).map(|_| format!("env:{PASSWORD}"));
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(args);
        if let Some(password) = &password {
            command.args(["-passin", password]);
        }
        command
    };
    let public = folder.join(PUBLIC_KEY);
    program::output(
        openssl(&["pkey", "-pubout", "-in"])
            .arg(key)
            .arg("-out")
            .arg(&public),
    )
    .with_context(|| {
        format!(
            "{} is no private key in PEM, or {PASSWORD} is wrong",
            key.display()
        )
    })?;
    let mut show = Command::new("openssl");
    let shown = program::output(
        show.args(["pkey", "-pubin", "-noout", "-text", "-in"])
            .arg(&public),
    )?;
    ensure!(
        shown.contains("prime256v1"),
        "{} is on another curve than P-256: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`",
        key.display()
    );
    program::output(
        openssl(&["dgst", "-sha256", "-sign"])
            .arg(key)
            .arg("-out")
            .arg(folder.join(SIGNATURE))
            .arg(folder.join(SUMS)),
    )?;
    verify(folder, &public)
}

/// Checks the signature.
///
/// # Errors
/// It is not of this key, or not of these checksums.
pub fn verify(folder: &Path, public: &Path) -> anyhow::Result<()> {
    let mut verify = Command::new("openssl");
    verify.args(["dgst", "-sha256", "-verify"]).arg(public);
    verify
        .arg("-signature")
        .arg(folder.join(SIGNATURE))
        .arg(folder.join(SUMS));
    program::output(&mut verify).map(|_| ())
}

/// Signs the checksums, and images by their digests where they have been pushed, with the identity
/// that cosign finds in its environment.
///
/// # Errors
/// cosign finds none, or the transparency log or the registry cannot be reached.
pub fn keyless(cosign: &PathBuf, folder: &Path, pushed: &[String]) -> anyhow::Result<()> {
    let mut blob = Command::new(cosign);
    blob.args(["sign-blob", "--yes", "--bundle"]);
    blob.arg(folder.join("SHA256SUMS.sigstore.json"))
        .arg(folder.join(SUMS));
    program::output(&mut blob)?;
    for image in pushed {
        program::output(Command::new(cosign).args(["sign", "--yes", image]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::scratch;
    use super::*;

    fn signed(name: &str) -> anyhow::Result<PathBuf> {
        let folder = scratch(name)?;
        let key = scratch(&format!("{name}-key"))?.join("key.pem");
        let mut make = Command::new("openssl");
        make.args([
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
        ]);
        program::output(make.arg(&key))?;
        fs::create_dir_all(folder.join("chart"))?;
        fs::write(folder.join("chart/one.tgz"), "one")?;
        fs::write(folder.join("two"), "two")?;
        assert_eq!(write_sums(&folder)?, 2);
        with_key(&folder, &key)?;
        Ok(folder)
    }

    #[test]
    fn what_was_signed_is_known_again_and_anything_else_is_not() -> anyhow::Result<()> {
        let folder = signed("signed")?;
        let public = folder.join(PUBLIC_KEY);
        verify(&folder, &public)?;
        let mut check = Command::new("sha256sum");
        program::output(check.args(["--check", SUMS]).current_dir(&folder))?;
        let sums = fs::read_to_string(folder.join(SUMS))?;
        fs::write(folder.join(SUMS), sums.replace("two", "ten"))?;
        assert!(verify(&folder, &public).is_err());
        Ok(())
    }

    #[test]
    fn signing_changes_no_checksum() -> anyhow::Result<()> {
        let folder = signed("again")?;
        let before = fs::read(folder.join(SUMS))?;
        assert_eq!(write_sums(&folder)?, 2);
        assert_eq!(fs::read(folder.join(SUMS))?, before);
        Ok(())
    }

    #[test]
    fn a_key_of_another_kind_is_refused_with_the_command_that_makes_one() -> anyhow::Result<()> {
        let folder = scratch("curve")?;
        let key = folder.join("key.pem");
        let mut make = Command::new("openssl");
        make.args(["genpkey", "-algorithm", "ED25519", "-out"]);
        program::output(make.arg(&key))?;
        write_sums(&folder)?;
        let refused = with_key(&folder, &key).map_err(|error| error.to_string());
        assert!(refused.is_err_and(|said| said.contains("openssl genpkey")));
        Ok(())
    }
}
