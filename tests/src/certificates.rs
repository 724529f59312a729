//! Certificates, made for each run by `openssl`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use crate::run_dir::server_dir;
use anyhow::ensure;

/// The user that the testbed runs PostgreSQL as when it runs as root itself.
const NOBODY: u32 = 65534;

/// Runs `openssl` in a folder.
fn openssl(folder: &Path, args: &str) -> anyhow::Result<()> {
    let output = Command::new("openssl")
        .args(args.split(' '))
        .current_dir(folder)
        .output()?;
    ensure!(
        output.status.success(),
        "openssl {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A folder with an authority (`ca.crt`), another that signed nothing (`other.crt`), a server's
/// certificate for `localhost` only, and a client's.
///
/// # Errors
/// There is no `openssl`, or the folder cannot be made.
pub fn certificates() -> anyhow::Result<PathBuf> {
    certificates_for("localhost")
}

/// The same, valid for this name only. The server's stand there as `tls.crt` and `tls.key` too, as
/// in a mounted Secret.
///
/// # Errors
/// There is no `openssl`, or the folder cannot be made.
pub fn certificates_for(name: &str) -> anyhow::Result<PathBuf> {
    let folder = server_dir("certificates")?;
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for authority in ["ca", "other"] {
        openssl(
            &folder,
            &format!(
                "req -x509 {new} -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.crt"
            ),
        )?;
    }
    let names = format!("subjectAltName=DNS:{name}\n");
    fs::write(folder.join("names"), names)?;
    for who in ["server", "client"] {
        openssl(
            &folder,
            &format!("req {new} -subj /CN=localhost -keyout {who}.key -out {who}.csr"),
        )?;
        openssl(
            &folder,
            &format!(
                "x509 -req -in {who}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {who}.crt"
            ),
        )?;
    }
    fs::copy(folder.join("server.crt"), folder.join("tls.crt"))?;
    fs::copy(folder.join("server.key"), folder.join("tls.key"))?;
    let key = folder.join("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    // only root may give a file away, and only for root the server runs as somebody else
    chown(&key, Some(NOBODY), Some(NOBODY)).ok();
    Ok(folder)
}
