//! The client's address in the spellings of proxies and logs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::CleanReason;
use crate::spec::IpRange;

/// Finds the client's address in a text that is not just an address, and says what was done about
/// it.
///
/// Of a list, as proxies make it, it is the left-most valid address; where some proxies are
/// trusted, the right-most one that is none of them, since anybody can write what stands left of
/// it.
///
/// # Errors
/// There is none.
pub(super) fn client(
    text: &str,
    proxies: &[IpRange],
) -> Result<(IpAddr, CleanReason), CleanReason> {
    if !text.contains(',') {
        return match one(text) {
            Some(address) => Ok((address, CleanReason::Trimmed)),
            None if is_nothing(text) => Err(CleanReason::Empty),
            None => Err(CleanReason::NotAnAddress),
        };
    }
    let found = if proxies.is_empty() {
        text.split(',').find_map(one)
    } else {
        behind(text, proxies)
    };
    match found {
        Some(address) => Ok((address, CleanReason::List)),
        None if text.split(',').all(is_nothing) => Err(CleanReason::Empty),
        None => Err(CleanReason::NotAnAddress),
    }
}

/// The address that the trusted proxies at the end of a list were called by; the first one if all
/// of them are trusted.
fn behind(list: &str, proxies: &[IpRange]) -> Option<IpAddr> {
    let mut first = None;
    for item in list.rsplit(',') {
        // a trusted proxy that could not say who called it says nothing of those before either
        let address = one(item)?;
        if !proxies.iter().any(|range| range.contains(address)) {
            return Some(address);
        }
        first = Some(address);
    }
    first
}

/// One address, alone or with port, zone, brackets, quotes or spaces.
fn one(text: &str) -> Option<IpAddr> {
    let text = trimmed(text);
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) = rest.split_once(']')?;
        let is_bare = behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port);
        return is_bare.then(|| v6(inside))?;
    }
    match text.split_once(':') {
        Some((host, port)) if is_port(port) => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        _ => v6(text),
    }
}

/// An IPv6 address, with or without the zone that means something on its own machine only.
fn v6(text: &str) -> Option<IpAddr> {
    let address = match text.split_once('%') {
        Some((_, "")) => return None,
        Some((address, _)) => address,
        None => text,
    };
    address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// What logs and scripts write where there is no address.
fn is_nothing(text: &str) -> bool {
    let text = trimmed(text);
    ["", "-"].contains(&text)
        || ["unknown", "null"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word))
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t', '"'])
}
