//! The names that logs give to what an event needs, of all formats with named fields.

use std::collections::HashMap;

use clickstream_pipeline::decode::Field;

use crate::replay::fields::{FieldMap, Mapped};

/// What a named value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The event's own id.
    Id,
    /// Who.
    User,
    /// When.
    Time,
    /// The day, where the time of day is a field of its own.
    Date,
    /// The whole URL.
    Url,
    /// A request's target: a path, perhaps with its query.
    Target,
    /// The query alone.
    Query,
    /// `GET /path HTTP/1.1`.
    Request,
    /// The site.
    Host,
    /// `http` or `https`.
    Scheme,
    /// The site's port.
    Port,
    /// The page that led here.
    Referrer,
    /// The client.
    Client,
    /// The visit.
    Session,
    /// The client's description of itself.
    UserAgent,
    /// What else tells clients apart: the place in `--map client=`.
    Apart(usize),
}

/// The usual names, the best one first, without regard to case and to what is neither letter nor
/// digit: so `request.headers.User-Agent`, `request_headers_user_agent` and `cs(User-Agent)` need
/// no entries of their own but for their letters.
const USUAL: &[(Role, Option<Field>, &[&str])] = &[
    (
        Role::Id,
        Some(Field::EventId),
        &[
            "eventid",
            "messageid",
            "insertid",
            "rayid",
            "xedgerequestid",
        ],
    ),
    (
        Role::User,
        Some(Field::UserId),
        &[
            "userid",
            "anonymousid",
            "distinctid",
            "visitorid",
            "domainuserid",
        ],
    ),
    (
        Role::Time,
        Some(Field::EventTs),
        &[
            "eventts",
            "edgestarttimestamp",
            "startutc",
            "starttime",
            "msec",
            "timeiso8601",
            "timestamp",
            "derivedtstamp",
            "collectortstamp",
            "originaltimestamp",
            "ts",
            "timelocal",
            "datetime",
            "time",
            "eventtime",
            "createdat",
            "receivedat",
        ],
    ),
    (Role::Date, None, &["date"]),
    (
        Role::Url,
        Some(Field::Url),
        &[
            "url",
            "pageurl",
            "contextpageurl",
            "propertiesurl",
            "propertiescurrenturl",
            "requesturl",
            "httprequestrequesturl",
        ],
    ),
    (
        Role::Target,
        None,
        &[
            "requesturi",
            "clientrequesturi",
            "uri",
            "requestpath",
            "requrl",
            "csuristem",
            "path",
            "clientrequestpath",
        ],
    ),
    (
        Role::Query,
        None,
        &["csuriquery", "querystring", "requestquery", "args"],
    ),
    (Role::Request, None, &["request", "requestline", "req"]),
    (
        Role::Host,
        None,
        &[
            "requesthost",
            "reqheadershost",
            "clientrequesthost",
            "xhostheader",
            "authority",
            "httphost",
            "vhost",
            "cshost",
            "host",
            "servername",
        ],
    ),
    (
        Role::Scheme,
        None,
        &[
            "requestscheme",
            "clientrequestscheme",
            "scheme",
            "csprotocol",
        ],
    ),
    (Role::Port, None, &["sport", "serverport"]),
    (
        Role::Referrer,
        Some(Field::Referrer),
        &[
            "referrer",
            "referer",
            "httpreferer",
            "contextpagereferrer",
            "propertiesreferrer",
            "pagereferrer",
            "csreferer",
            "clientrequestreferer",
            "requestreferer",
            "reqheadersreferer",
            "requestheadersreferer",
            "httprequestreferer",
        ],
    ),
    (
        Role::Client,
        Some(Field::Ip),
        &[
            "clientip",
            "requestclientip",
            "contextip",
            "httprequestremoteip",
            // what a proxy says; the names below may be the proxy's own address
            "httpcfconnectingip",
            "cfconnectingip",
            "cscfconnectingip",
            "httptrueclientip",
            "trueclientip",
            "httpxrealip",
            "xrealip",
            "csxrealip",
            "httpxforwardedfor",
            "xforwardedfor",
            "csxforwardedfor",
            "forwardedfor",
            "xff",
            "realip",
            "ip",
            "ipaddress",
            "useripaddress",
            "propertiesip",
            "requestremoteip",
            "remoteip",
            "reqremoteaddress",
            "remoteaddr",
            "cip",
            "clienthost",
            "clientaddr",
            "downstreamremoteaddress",
            "remotehost",
        ],
    ),
    (
        Role::Session,
        Some(Field::SessionId),
        &[
            "sessionid",
            "contextsessionid",
            "domainsessionid",
            "propertiessessionid",
        ],
    ),
    (
        Role::UserAgent,
        Some(Field::UserAgent),
        &[
            "useragent",
            "httpuseragent",
            "contextuseragent",
            "propertiesuseragent",
            "csuseragent",
            "clientrequestuseragent",
            "requestuseragent",
            "reqheadersuseragent",
            "requestheadersuseragent",
            "httprequestuseragent",
            "ua",
        ],
    ),
];

/// How good a format's own name is: every usual name is better.
pub const OWN: u8 = 0x7f;

/// In objects and behind headers, a text called so is a user; elsewhere it is who logged in.
pub const WHO: &[(&str, Role)] = &[("user", Role::User)];

/// Names that are remembered: more differ only in a log whose names are data.
const REMEMBERED: usize = 4_096;

/// Longer names are not shown, in bytes.
pub const LONGEST: usize = 40;

/// Says what a name is for, by `--map` and the usual names.
#[derive(Debug)]
pub struct Names {
    map: FieldMap,
    /// Names of this format that mean something else than usual.
    own: &'static [(&'static str, Role)],
    known: HashMap<Box<str>, Known>,
}

/// What a name is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// What it is for, and how good a name for that it is: 0 is the best.
    pub role: Option<(Role, u8)>,
    /// Whether names below it may be for something.
    pub leads: bool,
}

impl Names {
    /// Names as usual, but for those of `own`, which are the last to count.
    #[must_use]
    pub fn new(map: &FieldMap, own: &'static [(&'static str, Role)]) -> Self {
        Self {
            map: map.clone(),
            own,
            known: HashMap::new(),
        }
    }

    /// What this name is for; nested names are joined with dots.
    pub fn look_up(&mut self, name: &str) -> Known {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let known = self.judge(name);
        if self.known.len() < REMEMBERED {
            self.known.insert(name.into(), known);
        }
        known
    }

    /// What this log calls a field of the event: the best of the names that were looked up. A name
    /// that looks like data is none.
    #[must_use]
    pub fn called(&self, field: Field) -> Option<&str> {
        let of_field = |role: Role| {
            let place = USUAL.iter().position(|(usual, ..)| *usual == role)?;
            let is_part = field == Field::Url && role.is_part_of_url();
            (USUAL[place].1 == Some(field) || is_part).then_some(place)
        };
        self.known
            .iter()
            .filter_map(|(name, known)| {
                let (role, rank) = known.role?;
                Some((of_field(role)?, rank, &**name))
            })
            .filter(|(_, _, name)| is_plain(name))
            .min()
            .map(|(_, _, name)| name)
    }

    /// How many fields tell clients apart beside the usual ones.
    #[must_use]
    pub fn apart(&self) -> usize {
        self.map.client().len()
    }

    fn judge(&self, name: &str) -> Known {
        let mut known = Known::default();
        let below = |longer: &str| {
            longer
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        for (place, client) in self.map.client().iter().enumerate() {
            if client == name {
                known.role = Some((Role::Apart(place), 0));
            }
            known.leads |= below(client);
        }
        let plain: String = name
            .chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect();
        let url_is_mapped = *self.map.field(Field::Url) != Mapped::Usual;
        let own = self.own.iter().find(|(own, _)| *own == plain);
        for &(role, field, names) in USUAL {
            match field.map_or(&Mapped::Usual, |field| self.map.field(field)) {
                Mapped::Name(given) if given == name => known.role = Some((role, 0)),
                Mapped::Name(given) => known.leads |= below(given),
                Mapped::Nowhere => {}
                // parts of a URL are of no use where the URL itself is named
                Mapped::Usual if url_is_mapped && role.is_part_of_url() => {}
                Mapped::Usual => {
                    if known.role.is_none()
                        && let Some(&(_, other)) = own
                    {
                        if other == role {
                            known.role = Some((role, OWN));
                        }
                    } else if known.role.is_none()
                        && let Some(at) = names.iter().position(|usual| *usual == plain)
                    {
                        known.role = Some((role, u8::try_from(at).unwrap_or(u8::MAX)));
                    }
                    known.leads |= !plain.is_empty()
                        && names
                            .iter()
                            .any(|usual| usual.len() > plain.len() && usual.starts_with(&plain));
                }
            }
        }
        known
    }
}

/// Whether a name may be shown: a short one of letters, digits and a few signs.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "_-.@()$ ".contains(c);
    !name.is_empty() && name.len() <= LONGEST && name.chars().all(plain)
}

impl Role {
    fn is_part_of_url(self) -> bool {
        matches!(
            self,
            Self::Target | Self::Query | Self::Request | Self::Host | Self::Scheme | Self::Port
        )
    }
}
