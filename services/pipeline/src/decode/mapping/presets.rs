//! Presets: the rules for events as widespread products write them, after their public
//! documentation.

use serde::{Deserialize, Serialize};

use super::MappingRules;

/// A product whose events are read without further rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Preset {
    /// Twilio Segment: page, track and screen calls.
    Segment,
    /// RudderStack, whose events are Segment's with a session and the address of the request.
    RudderStack,
    /// PostHog: events as they are captured and exported.
    PostHog,
    /// Snowplow: enriched events as JSON, as the analytics SDKs write them.
    Snowplow,
    /// Matomo: the parameters of the tracking API as JSON.
    Matomo,
    /// Google Analytics 4: rows of the BigQuery export as JSON.
    #[serde(rename = "GA4")]
    Ga4,
    /// CloudEvents in structured mode: the event is the `data`, with this project's own names or
    /// those in camel case.
    CloudEvents,
}

/// The pointers of a field, by its name.
type Pointers = (&'static str, &'static [&'static str]);

const SEGMENT: &[Pointers] = &[
    ("event_id", &["/messageId"]),
    ("user_id", &["/userId", "/anonymousId"]),
    ("event_ts", &["/timestamp", "/originalTimestamp", "/sentAt"]),
    ("url", &["/context/page/url", "/properties/url"]),
    (
        "referrer",
        &["/context/page/referrer", "/properties/referrer"],
    ),
    ("ip", &["/context/ip"]),
    ("session_id", &["/context/sessionId"]),
    ("user_agent", &["/context/userAgent"]),
    ("event_name", &["/event", "/type"]),
    ("site", &[]),
];

const RUDDER_STACK: &[Pointers] = &[
    ("event_id", &["/messageId"]),
    ("user_id", &["/userId", "/anonymousId"]),
    ("event_ts", &["/timestamp", "/originalTimestamp", "/sentAt"]),
    ("url", &["/context/page/url", "/properties/url"]),
    (
        "referrer",
        &["/context/page/referrer", "/properties/referrer"],
    ),
    ("ip", &["/context/ip", "/request_ip"]),
    ("session_id", &["/context/sessionId"]),
    ("user_agent", &["/context/userAgent"]),
    ("event_name", &["/event", "/type"]),
    ("site", &[]),
];

const POST_HOG: &[Pointers] = &[
    ("event_id", &["/uuid"]),
    ("user_id", &["/distinct_id", "/properties/distinct_id"]),
    ("event_ts", &["/timestamp"]),
    ("url", &["/properties/$current_url"]),
    ("referrer", &["/properties/$referrer"]),
    ("ip", &["/properties/$ip", "/ip"]),
    ("session_id", &["/properties/$session_id"]),
    (
        "user_agent",
        &["/properties/$raw_user_agent", "/properties/$user_agent"],
    ),
    ("event_name", &["/event"]),
    ("site", &["/properties/$host"]),
];

const SNOWPLOW: &[Pointers] = &[
    ("event_id", &["/event_id"]),
    (
        "user_id",
        &["/user_id", "/domain_userid", "/network_userid"],
    ),
    ("event_ts", &["/derived_tstamp", "/collector_tstamp"]),
    ("url", &["/page_url"]),
    ("referrer", &["/page_referrer"]),
    ("ip", &["/user_ipaddress"]),
    ("session_id", &["/domain_sessionid"]),
    ("user_agent", &["/useragent"]),
    ("event_name", &["/event_name", "/event"]),
    ("site", &["/page_urlhost"]),
];

// neither the tracking API nor the visitor log gives an action an id of its own
const MATOMO: &[Pointers] = &[
    ("event_id", &[]),
    (
        "user_id",
        &["/uid", "$/userId", "/_id", "/cid", "$/visitorId"],
    ),
    ("event_ts", &["/cdt", "/timestamp"]),
    ("url", &["/url"]),
    ("referrer", &["/urlref", "$/referrerUrl"]),
    ("ip", &["/cip", "$/visitIp"]),
    ("session_id", &["$/idVisit"]),
    ("user_agent", &["/ua"]),
    ("event_name", &["/e_a", "/eventAction", "/type"]),
    ("site", &["/idsite", "$/idSite"]),
];

// no id either: BigQuery's rows and the protocol's events are told apart by what is in them
const GA4: &[Pointers] = &[
    ("event_id", &[]),
    ("user_id", &["$/user_id", "$/user_pseudo_id", "$/client_id"]),
    (
        "event_ts",
        &[
            "/event_timestamp",
            "/timestamp_micros",
            "$/timestamp_micros",
        ],
    ),
    (
        "url",
        &[
            "/params/page_location",
            "/event_params/[key=page_location]/value/string_value",
        ],
    ),
    (
        "referrer",
        &[
            "/params/page_referrer",
            "/event_params/[key=page_referrer]/value/string_value",
        ],
    ),
    ("ip", &["$/ip_override"]),
    (
        "session_id",
        &[
            "/params/session_id",
            "/params/ga_session_id",
            "/event_params/[key=ga_session_id]/value/int_value",
        ],
    ),
    ("user_agent", &["$/user_agent"]),
    ("event_name", &["/name", "/event_name"]),
    ("site", &["/device/web_info/hostname"]),
];

const CLOUD_EVENTS: &[Pointers] = &[
    ("event_id", &["/event_id", "/eventId", "$/id"]),
    ("user_id", &["/user_id", "/userId"]),
    ("event_ts", &["/event_ts", "/eventTs", "$/time"]),
    ("url", &["/url"]),
    ("referrer", &["/referrer"]),
    ("ip", &["/ip"]),
    ("session_id", &["/session_id", "/sessionId"]),
    ("user_agent", &["/user_agent", "/userAgent"]),
    ("event_name", &["/event_name", "/eventName", "$/type"]),
    ("site", &["/site"]),
];

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 7] = [
        Self::Segment,
        Self::RudderStack,
        Self::PostHog,
        Self::Snowplow,
        Self::Matomo,
        Self::Ga4,
        Self::CloudEvents,
    ];

    /// Whether its events have ids: where they have none, they are made from the fields.
    #[must_use]
    pub fn has_ids(self) -> bool {
        !matches!(self, Self::Matomo | Self::Ga4)
    }

    /// The rules that the preset stands for.
    #[must_use]
    pub fn rules(self) -> MappingRules {
        let pointers = match self {
            Self::Segment => SEGMENT,
            Self::RudderStack => RUDDER_STACK,
            Self::PostHog => POST_HOG,
            Self::Snowplow => SNOWPLOW,
            Self::Matomo => MATOMO,
            Self::Ga4 => GA4,
            Self::CloudEvents => CLOUD_EVENTS,
        };
        let owned = |pointers: &[&str]| pointers.iter().copied().map(str::to_owned).collect();
        MappingRules {
            fields: pointers
                .iter()
                .map(|(field, pointers)| ((*field).to_owned(), owned(pointers)))
                .collect(),
            envelope: matches!(self, Self::CloudEvents).then(|| "/data".to_owned()),
            ..MappingRules::default()
        }
    }
}
