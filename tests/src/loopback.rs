//! Where servers listen and are found: 127.0.0.1, or another address of the loopback interface, as
//! in a network without IPv4.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    sync::LazyLock,
    time::Duration,
};

use anyhow::ensure;
use clickstream_tools::{Tool, servers};

use crate::Process;

/// Names the address, such as `::1`.
pub const VARIABLE: &str = "CLICKSTREAM_LOOPBACK";

/// The only address of a network without IPv4.
const IPV6: &str = "::1";

/// Set in a network with an address for pods.
const PODS: &str = "CLICKSTREAM_PODS_HAVE_AN_ADDRESS";
/// That address: one of those for documentation.
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// Longest time for a test in a network of its own, the start of its servers included.
const PATIENCE: Duration = Duration::from_secs(400);

static HOST: LazyLock<String> = LazyLock::new(|| {
    let named = std::env::var(VARIABLE).unwrap_or_default();
    if named.is_empty() {
        Ipv4Addr::LOCALHOST.to_string()
    } else {
        named
    }
});

/// The address as a host's name: `127.0.0.1` or `::1`.
#[must_use]
pub fn host() -> &'static str {
    &HOST
}

/// The address.
///
/// # Panics
/// When [`VARIABLE`] holds something else.
#[must_use]
pub fn ip() -> IpAddr {
    host()
        .parse()
        .expect("CLICKSTREAM_LOOPBACK holds an address")
}

/// The address with a port, which is written as URLs and Kafka have it: `127.0.0.1:80` or
/// `[::1]:80`.
///
/// # Panics
/// As [`ip`].
#[must_use]
pub fn at(port: u16) -> SocketAddr {
    (ip(), port).into()
}

/// The address that pods of a test have: loopback, but in [`again_with_pods`].
///
/// # Panics
/// As [`ip`].
#[must_use]
pub fn of_pods() -> IpAddr {
    if std::env::var_os(PODS).is_some() {
        POD
    } else {
        ip()
    }
}

/// Runs a test once more, in a network of its own that has no address but `::1`: servers, programs
/// and the test itself find no IPv4 there, neither to listen nor to reach anybody. False where this
/// is that run already: the test has to do its work then.
///
/// A network takes root. Others are told that the test was left out, and for root whatever goes
/// wrong is a failure.
///
/// # Errors
/// The test fails there, or there is no such test; servers or the network cannot be had.
pub async fn again_without_ipv4(test: &str) -> anyhow::Result<bool> {
    if host() == IPV6 {
        return Ok(false);
    }
    again(test, "ip -4 address flush dev lo", (VARIABLE, IPV6)).await
}

/// The same in a network that has an address for pods beside those of loopback, to which no API
/// server hands a request on.
///
/// # Errors
/// As [`again_without_ipv4`].
pub async fn again_with_pods(test: &str) -> anyhow::Result<bool> {
    if std::env::var_os(PODS).is_some() {
        return Ok(false);
    }
    let address = format!("ip address add {POD}/32 dev lo");
    again(test, &address, (PODS, "1")).await
}

async fn again(test: &str, network: &str, env: (&str, &str)) -> anyhow::Result<bool> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: {test} (a network of its own takes root)");
        return Ok(true);
    }
    // whatever has to be fetched is fetched here: there is nobody to ask in there
    tokio::task::spawn_blocking(|| {
        clickstream_tools::ensure(&[Tool::Ip])?;
        servers()
    })
    .await??;
    let mut command = Command::new("unshare");
    command
        .args(["--net", "sh", "-c"])
        .arg(format!("ip link set lo up && {network} && exec \"$@\""))
        .arg("sh")
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(env.0, env.1);
    let again = Process::spawn(&command, "again")?;
    let status = again.wait(PATIENCE).await?;
    // a name that is no test's runs nothing, and ends well
    let log = again.log();
    ensure!(
        status.success() && log.contains("test result: ok. 1 passed"),
        "in a network of its own {test} ends with {status}:\n{log}"
    );
    Ok(true)
}
