//! What a line with named values says, as it is put together.

use std::borrow::Cow;

use super::access_log;
use super::names::{Names, OWN, Role};
use crate::replay::hit::{Hit, Miss, Site, Skipped, Time, Value};
use crate::replay::{address, time};

/// How many roles there are beside [`Role::Apart`].
const ROLES: usize = 15;

/// Words that logs write where there is no referrer.
const NO_REFERRER: [&str; 5] = ["", "-", "direct", "(direct)", "$direct"];

/// What has been found in a line so far: for each role the value with the best name.
#[derive(Debug, Default)]
pub struct Found<'a> {
    best: [Option<(u8, Value<'a>)>; ROLES],
    apart: Vec<Option<Cow<'a, str>>>,
    /// The line has a place for a request, and none is there.
    no_request: bool,
}

impl<'a> Found<'a> {
    /// Nothing yet; `names` says how many fields tell clients apart.
    #[must_use]
    pub fn new(names: &Names) -> Self {
        Self {
            best: Default::default(),
            apart: vec![None; names.apart()],
            no_request: false,
        }
    }

    /// A value under a name that is for `role`. What says that there is nothing is nothing; so is a
    /// time that no name makes one and a client without an address, while another name has better.
    pub fn add(&mut self, (role, rank): (Role, u8), value: Value<'a>) {
        if value.is_absent() {
            self.no_request |= matches!(role, Role::Request | Role::Target);
            return;
        }
        // an object or a number called `user` is something else
        if (role, rank) == (Role::User, OWN)
            && matches!(&value, Value::Token(token) if !token.starts_with('"'))
        {
            return;
        }
        let Some(place) = place(role) else {
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
        self.best[place(role)?].take().map(|(_, value)| value)
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
        let none = if self.no_request {
            Skipped::NoRequest
        } else {
            Skipped::NoUrl
        };
        let mut target = target.ok_or(none)?;
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

/// Where the values for a role are kept.
fn place(role: Role) -> Option<usize> {
    Some(match role {
        Role::Id => 0,
        Role::User => 1,
        Role::Time => 2,
        Role::Date => 3,
        Role::Url => 4,
        Role::Target => 5,
        Role::Query => 6,
        Role::Request => 7,
        Role::Host => 8,
        Role::Scheme => 9,
        Role::Port => 10,
        Role::Referrer => 11,
        Role::Client => 12,
        Role::Session => 13,
        Role::UserAgent => 14,
        Role::Apart(_) => return None,
    })
}
