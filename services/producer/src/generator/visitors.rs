//! Who visits: everything about a visitor follows from the seed and the visitor's number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::random::scatter;

/// Share (per mille) and text of the clients in use; apps describe themselves shortly.
const USER_AGENTS: [(u64, &str); 16] = [
    (250, "ShopApp/5.2.1 (iPhone; iOS 18.5)"),
    (190, "ShopApp/5.2.0 (Android 15; Pixel 9)"),
    (130, "ShopApp/5.1.4 (Android 14; SM-S921B)"),
    (80, "ShopApp/4.9.9 (iPad; iOS 17.7)"),
    (
        85,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    ),
    (
        60,
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    ),
    (
        50,
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36",
    ),
    (
        40,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    ),
    (
        25,
        "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
    ),
    (
        25,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:141.0) Gecko/20100101 Firefox/141.0",
    ),
    (
        15,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 Edg/138.0.0.0",
    ),
    (
        10,
        "Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-A546B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
    ),
    (
        15,
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Twitter for iPhone/11.2",
    ),
    (
        15,
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    ),
    (
        7,
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    ),
    (3, "curl/8.14.1"),
];

/// What the descriptions of the shop's own apps begin with.
const APP: &str = "ShopApp/";

/// How a visitor's client spells the time of a click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSpelling {
    /// `2026-05-04T08:30:15.250Z`
    Utc,
    /// `1777883415250`
    EpochMillis,
    /// `2026-05-04T10:30:15.250+02:00`, with this offset in minutes.
    Offset(i32),
    /// `2026-05-04 08:30:15.250`, read as UTC.
    Spaced,
}

/// What stays the same over all sessions of one visitor.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The user id as text: the Kafka key.
    pub key: String,
    /// Whether the client sends the user id as a JSON number.
    pub numeric: bool,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<&'static str>,
    /// The shop's own app: it knows no referrers, and counts time in milliseconds.
    pub app: bool,
    pub time: TimeSpelling,
}

impl Visitor {
    /// The visitor with this number.
    pub fn new(seed: u64, number: u64) -> Self {
        // each trait takes its own bits, so that traits do not move together
        let traits = scatter(seed ^ scatter(number));
        let address = scatter(traits);
        let numeric = traits.is_multiple_of(16);
        let user_agent = user_agent((traits >> 20) % 1_000);
        let app = user_agent.is_some_and(|user_agent| user_agent.starts_with(APP));
        let time = match (traits >> 4) % 100 {
            0..90 if app => TimeSpelling::EpochMillis,
            0..94 => TimeSpelling::Utc,
            94..97 => {
                TimeSpelling::Offset([-480, -300, 60, 120, 330, 540][(traits >> 32) as usize % 6])
            }
            _ => TimeSpelling::Spaced,
        };
        Self {
            key: if numeric {
                (100_000 + number).to_string()
            } else {
                format!("u{number}")
            },
            numeric,
            ip: ip((traits >> 12) % 100, address),
            user_agent,
            app,
            time,
        }
    }
}

/// Addresses come from ranges that no real client has (RFC 2544, RFC 3849).
fn ip(draw: u64, bits: u64) -> Option<IpAddr> {
    let part = |shift: u32| (bits >> shift) as u16;
    match draw {
        0..70 => Some(
            Ipv4Addr::new(
                198,
                18 | (bits & 1) as u8,
                (bits >> 8) as u8,
                (bits >> 16) as u8,
            )
            .into(),
        ),
        70..98 => {
            Some(Ipv6Addr::new(0x2001, 0xdb8, part(0), part(16), 0, 0, part(32), part(48)).into())
        }
        _ => None,
    }
}

fn user_agent(mut draw: u64) -> Option<&'static str> {
    USER_AGENTS.iter().find_map(|&(share, text)| {
        if draw < share {
            return Some(text);
        }
        draw -= share;
        None
    })
}

#[cfg(test)]
mod tests {
    use super::{USER_AGENTS, Visitor};

    #[test]
    fn a_visitor_is_the_same_every_time() {
        let (first, second) = (Visitor::new(7, 12), Visitor::new(7, 12));
        assert_eq!(first.key, second.key);
        assert_eq!(
            (first.ip, first.user_agent, first.time),
            (second.ip, second.user_agent, second.time)
        );
    }

    #[test]
    fn user_agent_shares_add_up() {
        assert_eq!(
            USER_AGENTS.iter().map(|(share, _)| share).sum::<u64>(),
            1_000
        );
    }

    #[test]
    fn both_address_families_and_both_id_forms_occur() {
        let visitors: Vec<_> = (0..2_000).map(|number| Visitor::new(1, number)).collect();
        let share =
            |test: fn(&Visitor) -> bool| visitors.iter().filter(|visitor| test(visitor)).count();
        assert!(
            (1_300..1_500).contains(&share(|visitor| visitor.ip.is_some_and(|ip| ip.is_ipv4())))
        );
        assert!((480..640).contains(&share(|visitor| visitor.ip.is_some_and(|ip| ip.is_ipv6()))));
        assert!((80..180).contains(&share(|visitor| visitor.numeric)));
    }

    #[test]
    fn no_two_visitors_share_a_key() {
        let mut keys: Vec<_> = (0..300_000)
            .map(|number| Visitor::new(1, number).key)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 300_000);
    }
}
