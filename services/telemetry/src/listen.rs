//! Listening where clients come from: by IPv4, by IPv6, or by both.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Listens on an address. `[::]` stands for all addresses of this host, those of IPv4 too, whatever
/// `net.ipv6.bindv6only` says; a kernel without IPv6 listens on `0.0.0.0` instead. So one setting
/// serves clusters of either family and of both.
///
/// # Errors
/// What the operating system says.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    listen_with(addr, bind)
}

fn listen_with<L>(addr: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<L>) -> io::Result<L> {
    match bind(addr) {
        Err(error) if addr.is_ipv6() && addr.ip().is_unspecified() && has_no_family(&error) => {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port())))
        }
        bound => bound,
    }
}

/// Without IPv6 in the kernel there is no such socket; where it is switched off for a while, no
/// such address.
fn has_no_family(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // a port is free again as soon as its process is gone, as with every listener of tokio's
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::cell::RefCell;
    use std::net::Ipv6Addr;
    use std::process::Command;

    use tokio::net::TcpStream;

    use super::*;

    fn any(port: u16) -> SocketAddr {
        (Ipv6Addr::UNSPECIFIED, port).into()
    }

    async fn answers(listener: &TcpListener, client: SocketAddr) -> io::Result<()> {
        // nobody is accepted where nobody comes in
        let (_, connected) = tokio::try_join!(listener.accept(), TcpStream::connect(client))?;
        drop(connected);
        Ok(())
    }

    async fn both_families_are_answered() {
        let listener = listen(any(0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        answers(&listener, (Ipv4Addr::LOCALHOST, port).into())
            .await
            .unwrap();
        answers(&listener, (Ipv6Addr::LOCALHOST, port).into())
            .await
            .unwrap();
    }

    /// Whether this machine has IPv6 at all, which containers often do not.
    async fn has_ipv6() -> bool {
        let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok();
        if !has {
            eprintln!("not tried: there is no IPv6 here");
        }
        has
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        if !has_ipv6().await {
            return;
        }
        both_families_are_answered().await;
    }

    #[tokio::test]
    async fn one_address_is_no_other() {
        if !has_ipv6().await {
            return;
        }
        for (one, other) in [
            (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
            (
                std::net::IpAddr::from(Ipv6Addr::LOCALHOST),
                std::net::IpAddr::from(Ipv4Addr::LOCALHOST),
            ),
        ] {
            let listener = listen((one, 0).into()).unwrap();
            let port = listener.local_addr().unwrap().port();
            answers(&listener, (one, port).into()).await.unwrap();
            TcpStream::connect((other, port)).await.unwrap_err();
        }
    }

    /// What is asked for, when the kernel answers the first request with this.
    fn asked(addr: SocketAddr, answer: i32) -> Vec<SocketAddr> {
        let asked = RefCell::new(Vec::new());
        let _ = listen_with(addr, |addr| {
            asked.borrow_mut().push(addr);
            Err::<(), _>(io::Error::from_raw_os_error(answer))
        });
        asked.into_inner()
    }

    #[test]
    fn a_kernel_without_ipv6_is_asked_for_all_addresses_of_ipv4() {
        let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
        for answer in [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL] {
            assert_eq!(asked(any(80), answer), [any(80), ipv4]);
        }
        assert_eq!(asked(any(80), libc::EADDRINUSE), [any(80)]);
        let loopback = SocketAddr::from((Ipv6Addr::LOCALHOST, 80));
        assert_eq!(asked(loopback, libc::EAFNOSUPPORT), [loopback]);
    }

    /// Runs a test of this module once more, in a network namespace of its own that `prepare` has
    /// changed; nothing where none may be made.
    fn in_a_namespace(test: &str, prepare: &str) {
        let script = format!("ip link set lo up && {prepare} && exec \"$0\" \"$@\"");
        let tried = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up"])
            .status();
        let has_ipv6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
        if !has_ipv6 || !tried.is_ok_and(|status| status.success()) {
            eprintln!("not tried: no IPv6, or no network namespace can be made here");
            return;
        }
        let output = Command::new("unshare")
            .args(["--net", "sh", "-c", &script])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg(format!("listen::tests::{test}"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }

    #[test]
    fn whatever_the_host_takes_for_granted_is_said() {
        in_a_namespace(
            "all_addresses_although_ipv6_is_to_be_alone",
            "echo 1 > /proc/sys/net/ipv6/bindv6only",
        );
    }

    #[tokio::test]
    #[ignore = "for a network namespace of its own"]
    async fn all_addresses_although_ipv6_is_to_be_alone() {
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").unwrap(),
            "1\n"
        );
        both_families_are_answered().await;
    }

    #[test]
    fn where_ipv6_is_switched_off_clients_come_by_ipv4() {
        in_a_namespace(
            "ipv4_is_what_is_left",
            "for of in all default lo; do echo 1 > /proc/sys/net/ipv6/conf/$of/disable_ipv6; done",
        );
    }

    #[tokio::test]
    #[ignore = "for a network namespace of its own"]
    async fn ipv4_is_what_is_left() {
        let listener = listen(any(0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        answers(&listener, (Ipv4Addr::LOCALHOST, port).into())
            .await
            .unwrap();
        TcpStream::connect((Ipv6Addr::LOCALHOST, port))
            .await
            .unwrap_err();
    }
}
