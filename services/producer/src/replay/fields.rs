//! Which field of a line holds which field of the event: `event_ts=t,url=u,client=tz`.

use std::str::FromStr;

use clickstream_pipeline::decode::Field;

/// What `--map` says. Fields that are not named are looked for under the names that logs usually
/// give them; `ip=` (nothing after the sign) leaves one out. `client`, which may be named several
/// times, adds to what tells clients apart where there is no user. A name with dots, or a JSON
/// pointer, leads into nested objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldMap {
    fields: [Mapped; 8],
    client: Vec<String>,
}

/// Where a field is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mapped {
    /// Under its usual names.
    #[default]
    Usual,
    /// Nowhere.
    Nowhere,
    /// Under this name, nested names joined with dots.
    Name(String),
}

/// A field map that says something else than `FIELD=NAME,...`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFieldMap {
    /// An item without an equals sign.
    #[error("`{0}` is not of the form FIELD=NAME, as in event_ts=t,url=u")]
    NoName(String),
    /// The left side is no field of an event.
    #[error(
        "`{0}` is no field: expected event_id, user_id, event_ts, url, referrer, ip, session_id, user_agent or client"
    )]
    UnknownField(String),
    /// A field is mapped twice.
    #[error("`{0}` is mapped twice")]
    Repeated(String),
}

impl FieldMap {
    /// Where this field is looked for.
    #[must_use]
    pub fn field(&self, field: Field) -> &Mapped {
        &self.fields[field as usize]
    }

    /// Whether a field is looked for under this name.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        let is = |mapped: &Mapped| matches!(mapped, Mapped::Name(given) if given == name);
        self.fields.iter().any(is)
    }

    /// Names that fields are looked for under.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        let fields = self.fields.iter().filter_map(|mapped| match mapped {
            Mapped::Name(name) => Some(name),
            _ => None,
        });
        fields.chain(&self.client).map(String::as_str)
    }

    /// What else tells clients apart.
    #[must_use]
    pub fn client(&self) -> &[String] {
        &self.client
    }
}

impl FromStr for FieldMap {
    type Err = InvalidFieldMap;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut map = Self::default();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (field, name) = item
                .split_once('=')
                .ok_or_else(|| InvalidFieldMap::NoName(item.to_owned()))?;
            let name = match name.strip_prefix('/') {
                Some(pointer) => pointer.replace('/', "."),
                None => name.to_owned(),
            };
            if field == "client" {
                map.client.push(name);
                continue;
            }
            // what else an event may have is not read out of logs
            let known = Field::from_key(field)
                .filter(|known| (*known as usize) < map.fields.len())
                .ok_or_else(|| InvalidFieldMap::UnknownField(field.to_owned()))?;
            let place = &mut map.fields[known as usize];
            if *place != Mapped::Usual {
                return Err(InvalidFieldMap::Repeated(field.to_owned()));
            }
            *place = if name.is_empty() {
                Mapped::Nowhere
            } else {
                Mapped::Name(name)
            };
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::{FieldMap, InvalidFieldMap};

    #[test]
    fn a_map_with_a_mistake_is_refused_with_the_item() {
        for (text, expected) in [
            ("url", InvalidFieldMap::NoName("url".into())),
            ("uri=u", InvalidFieldMap::UnknownField("uri".into())),
            ("url=u,url=v", InvalidFieldMap::Repeated("url".into())),
        ] {
            assert_eq!(text.parse::<FieldMap>(), Err(expected));
        }
    }

    #[test]
    fn nested_names_are_written_with_dots_or_as_a_pointer() {
        assert_eq!(
            "url=request.uri".parse::<FieldMap>(),
            "url=/request/uri".parse()
        );
    }
}
