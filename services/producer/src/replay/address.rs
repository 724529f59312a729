//! The client's address, in the spellings of servers and proxies.

use std::net::IpAddr;

/// The left-most valid address of a text: one address, or a list as `X-Forwarded-For` has it; each
/// with or without port, brackets, quotes and zone.
#[must_use]
pub fn first(text: &str) -> Option<IpAddr> {
    // most texts are one address and nothing else
    text.parse().ok().or_else(|| text.split(',').find_map(one))
}

fn one(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    // `Forwarded: for="[2001:db8::1]:443";proto=https`
    let text = text.split(';').next().unwrap_or(text);
    let text = match text.split_at_checked(4) {
        Some((name, rest)) if name.eq_ignore_ascii_case("for=") => rest.trim_matches('"'),
        _ => text,
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (address, _) = rest.split_once(']')?;
        return without_zone(address).parse().ok().map(IpAddr::V6);
    }
    if let Ok(address) = without_zone(text).parse() {
        return Some(address);
    }
    let (address, port) = text.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    address.parse().ok().filter(|_| is_port).map(IpAddr::V4)
}

fn without_zone(text: &str) -> &str {
    text.split_once('%').map_or(text, |(address, _)| address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::first;

    #[test]
    fn the_left_most_valid_address_counts_in_every_spelling() {
        for (text, address) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:51234", Some("192.0.2.1")),
            ("192.0.2.1, 198.51.100.7", Some("192.0.2.1")),
            ("unknown,192.0.2.1:80 , 198.51.100.7", Some("192.0.2.1")),
            ("\"192.0.2.1, 198.51.100.7\"", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("[2001:db8::1%eth0]", Some("2001:db8::1")),
            ("fe80::1%3, 192.0.2.1", Some("fe80::1")),
            ("for=\"[2001:db8::1]:443\";proto=https", Some("2001:db8::1")),
            ("For=192.0.2.1", Some("192.0.2.1")),
            ("host.example", None),
            ("-", None),
            ("", None),
            ("[", None),
            ("300.0.2.1", None),
            ("192.0.2.1:http", None),
        ] {
            let found = first(text).map(|address| address.to_string());
            assert_eq!(found.as_deref(), address, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = first(&text);
        }
    }
}
