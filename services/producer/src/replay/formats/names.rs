//! The names that logs give to what an event needs, of all formats with named fields.

use std::borrow::Cow;
use std::collections::HashMap;

use clickstream_pipeline::decode::Field;

use crate::replay::fields::{FieldMap, Mapped};
use crate::replay::hit::{Hit, Miss, Site, Skipped, Time, Value};
use crate::replay::{address, time};

use super::access_log;

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

/// How many roles there are beside [`Role::Apart`].
const ROLES: usize = 15;

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
        &["userid", "anonymousid", "distinctid", "visitorid"],
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
            "ip",
            "clientip",
            "requestclientip",
            "contextip",
            "httprequestremoteip",
            "ipaddress",
            "httpxforwardedfor",
            "xforwardedfor",
            "forwardedfor",
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
        &["sessionid", "contextsessionid"],
    ),
    (
        Role::UserAgent,
        Some(Field::UserAgent),
        &[
            "useragent",
            "httpuseragent",
            "contextuseragent",
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

/// Words that logs write where there is no referrer.
const NO_REFERRER: [&str; 5] = ["", "-", "direct", "(direct)", "$direct"];

/// Names that are remembered: more differ only in a log whose names are data.
const REMEMBERED: usize = 4_096;

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
    /// Names as usual, but for those of `own`.
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
                            known.role = Some((role, 0));
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

impl Role {
    fn is_part_of_url(self) -> bool {
        matches!(
            self,
            Self::Target | Self::Query | Self::Request | Self::Host | Self::Scheme | Self::Port
        )
    }

    fn place(self) -> Option<usize> {
        Some(match self {
            Self::Id => 0,
            Self::User => 1,
            Self::Time => 2,
            Self::Date => 3,
            Self::Url => 4,
            Self::Target => 5,
            Self::Query => 6,
            Self::Request => 7,
            Self::Host => 8,
            Self::Scheme => 9,
            Self::Port => 10,
            Self::Referrer => 11,
            Self::Client => 12,
            Self::Session => 13,
            Self::UserAgent => 14,
            Self::Apart(_) => return None,
        })
    }
}

/// What has been found in a line so far: for each role the value with the best name.
#[derive(Debug, Default)]
pub struct Found<'a> {
    best: [Option<(u8, Value<'a>)>; ROLES],
    apart: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Found<'a> {
    /// Nothing yet; `names` says how many fields tell clients apart.
    #[must_use]
    pub fn new(names: &Names) -> Self {
        Self {
            best: Default::default(),
            apart: vec![None; names.map.client().len()],
        }
    }

    /// A value under a name that is for `role`. What says that there is nothing is nothing; so is a
    /// time that no name makes one and a client without an address, while another name has better.
    pub fn add(&mut self, (role, rank): (Role, u8), value: Value<'a>) {
        if value.is_absent() {
            return;
        }
        let Some(place) = role.place() else {
            if let Role::Apart(place) = role {
                self.apart[place] = Some(value.into_text());
            }
            return;
        };
        // what cannot be used ranks behind everything that can
        let usable = match role {
            Role::Time => time::parse(&value.text()).is_some() || is_time_of_day(&value.text()),
            Role::Client => address::first(&value.text()).is_some(),
            _ => true,
        };
        let rank = if usable { rank } else { rank | 0x80 };
        if self.best[place]
            .as_ref()
            .is_none_or(|(best, _)| rank <= *best)
        {
            self.best[place] = Some((rank, value));
        }
    }

    fn take(&mut self, role: Role) -> Option<Value<'a>> {
        self.best[role.place()?].take().map(|(_, value)| value)
    }

    /// What it comes to.
    ///
    /// # Errors
    /// There is no URL, no request or no time.
    pub fn hit(mut self) -> Result<Hit<'a>, Miss> {
        let (url, site) = self.url()?;
        let time = self.time().ok_or(Skipped::NoTime)?;
        Ok(Hit {
            time,
            url,
            site,
            id: self.take(Role::Id),
            user: self.take(Role::User),
            referrer: self
                .take(Role::Referrer)
                .filter(|value| !NO_REFERRER.contains(&value.text().as_ref())),
            client: self.take(Role::Client).map(Value::into_text),
            session: self.take(Role::Session),
            user_agent: self.take(Role::UserAgent),
            apart: self.apart,
        })
    }

    fn url(&mut self) -> Result<(Value<'a>, Site<'a>), Miss> {
        if let Some(url) = self.take(Role::Url) {
            return Ok((url, Site::default()));
        }
        let mut target = self.take(Role::Target).map(Value::into_text);
        if target.is_none()
            && let Some(request) = self.take(Role::Request)
        {
            let request = request.text();
            let found = access_log::target(request.as_bytes()).ok_or(Skipped::NoRequest)?;
            target = Some(Cow::Owned(String::from_utf8_lossy(found).into_owned()));
        }
        let mut target = target.ok_or(Skipped::NoUrl)?;
        if let Some(query) = self.take(Role::Query)
            && !target.contains('?')
        {
            let query = query.text();
            target = Cow::Owned(format!("{target}?{}", query.trim_start_matches('?')));
        }
        let mut part = |role| self.take(role).map(Value::into_text);
        let site = Site {
            host: part(Role::Host),
            scheme: part(Role::Scheme),
            port: part(Role::Port),
        };
        Ok((Value::Text(target), site))
    }

    fn time(&mut self) -> Option<Time<'a>> {
        let when = self.take(Role::Time);
        let day = self.take(Role::Date);
        let value = match (when, day) {
            (Some(when), Some(day)) if is_time_of_day(&when.text()) => {
                Value::Text(Cow::Owned(format!("{} {}", day.text(), when.text())))
            }
            (Some(when), _) => when,
            (None, Some(day)) => day,
            (None, None) => return None,
        };
        Some(match time::parse(&value.text()) {
            Some(micros) => Time::Micros(micros),
            None => Time::Unread(value),
        })
    }
}

/// `10:00:01`, perhaps with a fraction.
fn is_time_of_day(text: &str) -> bool {
    let text = text.as_bytes();
    (8..=15).contains(&text.len())
        && text[2] == b':'
        && text[5] == b':'
        && text
            .iter()
            .all(|byte| byte.is_ascii_digit() || b":.".contains(byte))
}
