//! The identity of events whose feeds give them no UUID: made from what they have, the same every
//! time.

use std::fmt::Write;
use std::net::IpAddr;

use uuid::Uuid;

use super::{EventTime, UserId};

/// UUIDv5 of `event-id.clickstream.dev` among domain names. It never changes, or every resend would
/// be another event.
const OF_TEXTS: Uuid = Uuid::from_u128(0x4374_9bc9_b2df_5914_85f2_f9b2_af0f_f898);
/// UUIDv5 of `event-fields.clickstream.dev` among domain names, likewise.
const OF_FIELDS: Uuid = Uuid::from_u128(0x6585_b72b_ede5_5e7e_bf7a_a99a_4578_2ace);

/// The UUID of an event whose own id is other text: UUIDv5 of that text, in a namespace that never
/// changes.
#[must_use]
pub fn of_text(id: &str) -> Uuid {
    Uuid::new_v5(&OF_TEXTS, id.as_bytes())
}

/// The UUID of an element of a record that has one id for all its elements: [`of_text`] of that id,
/// a slash and the element's place.
#[must_use]
pub fn of_element(record: Uuid, index: i16) -> Uuid {
    of_text(&format!("{record}/{index}"))
}

/// What an event without an id is known by.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// Who clicked.
    pub user_id: &'a UserId<'a>,
    /// When.
    pub event_ts: EventTime,
    /// What.
    pub url: &'a str,
    /// Where the user came from.
    pub referrer: Option<&'a str>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The visit.
    pub session_id: Option<&'a str>,
    /// The client's own description.
    pub user_agent: Option<&'a str>,
    /// What happened, unless it is a [`PAGE_VIEW`](super::PAGE_VIEW).
    pub event_name: Option<&'a str>,
    /// The site, where the event itself names it.
    pub site: Option<&'a str>,
}

/// The UUID of an event that has no id: UUIDv5 of its fields, in a namespace of their own.
///
/// The name under the namespace holds, in this order, user, time in microseconds since 1970, URL,
/// referrer, address, session and user agent, each as its length in bytes, `:`, its text and `,`,
/// and a missing one as `-,`; behind them name and site likewise, as far as there is one. Lengths
/// tell apart what a separator inside a text could not.
#[must_use]
pub fn of_fields(fields: &Fields<'_>) -> Uuid {
    let user = fields.user_id.to_string();
    let time = fields.event_ts.micros().to_string();
    let ip = fields.ip.map(|ip| ip.to_string());
    let parts = [
        Some(user.as_str()),
        Some(&time),
        Some(fields.url),
        fields.referrer,
        ip.as_deref(),
        fields.session_id,
        fields.user_agent,
        fields.event_name,
        fields.site,
    ];
    let most = match (fields.event_name, fields.site) {
        (_, Some(_)) => parts.len(),
        (Some(_), None) => parts.len() - 1,
        (None, None) => parts.len() - 2,
    };
    let mut name = String::with_capacity(256);
    for part in &parts[..most] {
        match part {
            // writing to a String cannot fail
            Some(text) => drop(write!(name, "{}:{text},", text.len())),
            None => name.push_str("-,"),
        }
    }
    Uuid::new_v5(&OF_FIELDS, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn the_namespaces_are_those_of_their_names() {
        let named = |name: &[u8]| Uuid::new_v5(&Uuid::NAMESPACE_DNS, name);
        assert_eq!(OF_TEXTS, named(b"event-id.clickstream.dev"));
        assert_eq!(OF_FIELDS, named(b"event-fields.clickstream.dev"));
    }

    #[test]
    fn the_id_of_a_text_or_of_fields_stays_what_it_is() {
        // by Python's uuid.uuid5
        assert_eq!(
            of_text("click-17").to_string(),
            "b162020f-3ae2-510c-aa77-41350f843509"
        );
        let user_id = UserId::Text(Cow::Borrowed("anna"));
        let fields = Fields {
            user_id: &user_id,
            event_ts: EventTime::from_micros(1_772_366_400_000_000),
            url: "/",
            referrer: None,
            ip: Some(IpAddr::from([192, 0, 2, 1])),
            session_id: Some("s,1"),
            user_agent: None,
            event_name: None,
            site: None,
        };
        // of 4:anna,16:1772366400000000,1:/,-,9:192.0.2.1,3:s,1,-,
        assert_eq!(
            of_fields(&fields).to_string(),
            "a1b84148-7efc-5912-bc1d-a7c809e49b15"
        );
        let of = |event_name, site| {
            let fields = Fields {
                event_name,
                site,
                ..fields
            };
            of_fields(&fields).to_string()
        };
        // the same with 6:signup, behind it, with -,4:shop, and with both
        assert_eq!(
            of(Some("signup"), None),
            "41bdb1bf-d129-57e3-9888-d78f05b21995"
        );
        assert_eq!(
            of(None, Some("shop")),
            "ed3fa967-d01e-53c2-869f-e19258e0c604"
        );
        assert_eq!(
            of(Some("signup"), Some("shop")),
            "ea39202a-6ebc-53e3-992b-d934ac1e4ca5"
        );
    }

    #[test]
    fn what_stands_in_one_field_is_not_what_stands_in_two() {
        let user_id = UserId::Number(7);
        let of = |referrer, user_agent| {
            of_fields(&Fields {
                user_id: &user_id,
                event_ts: EventTime::MIN,
                url: "/",
                referrer,
                ip: None,
                session_id: None,
                user_agent,
                event_name: None,
                site: None,
            })
        };
        let all = [
            of(None, None),
            of(Some(""), None),
            of(None, Some("")),
            of(Some("-,"), None),
            of(Some("a,1:b"), None),
            of(Some("a"), Some("b")),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
    }
}
