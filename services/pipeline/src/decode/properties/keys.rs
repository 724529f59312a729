//! Which keys properties have: those that are listed already, and those that are not.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use super::json::Cursor;
use crate::decode::mapping::MAX_POINTER_CHARS;
use crate::decode::object::unquoted;

/// Levels of objects whose keys are listed.
pub const LISTED_LEVELS: usize = 3;
/// Most keys that are listed, each type of a key counted by itself: whoever sends events could make
/// up any number of them.
pub const MOST_LISTED: usize = 1_000;

/// What a key holds, as PostgreSQL's `jsonb_typeof` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// A text.
    String,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An object.
    Object,
    /// An array.
    Array,
    /// `null`.
    Null,
}

impl KeyType {
    /// Every type.
    pub const ALL: [Self; 6] = [
        Self::String,
        Self::Number,
        Self::Boolean,
        Self::Object,
        Self::Array,
        Self::Null,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Array => "array",
            Self::Null => "null",
        }
    }

    /// What a raw value is, by its first byte.
    fn of(first: Option<u8>) -> Self {
        match first {
            Some(b'"') => Self::String,
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no [`KeyType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a type of JSON")]
pub struct UnknownKeyType;

impl FromStr for KeyType {
    type Err = UnknownKeyType;

    fn from_str(text: &str) -> Result<Self, UnknownKeyType> {
        let named = |kind: &Self| kind.as_str() == text;
        Self::ALL.into_iter().find(named).ok_or(UnknownKeyType)
    }
}

/// A key, as a JSON pointer, and what it holds.
pub type ListedKey = (String, KeyType);

/// Keys that are listed.
#[derive(Clone, Debug, Default)]
pub struct ListedKeys {
    keys: Keys,
    count: usize,
}

type Keys = HashMap<Box<str>, Node, foldhash::fast::RandomState>;

#[derive(Clone, Debug, Default)]
struct Node {
    /// Bit `KeyType as u8` is set for each type that is listed.
    types: u8,
    below: Keys,
}

/// Keys that were met and are not listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnlistedKeys {
    /// Those that are to be listed.
    pub new: BTreeSet<ListedKey>,
    /// How often a key was met that is not to be: the list is full, or the pointer to it is longer
    /// than one may be.
    pub left_out: u64,
}

impl ListedKeys {
    /// How many they are, each type of a key counted by itself.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a key by the pointer to it.
    pub fn add(&mut self, pointer: &str, kind: KeyType) {
        let mut steps = pointer.split('/').skip(1).map(unescaped);
        let Some(mut at) = steps.next().map(|key| self.keys.entry(key).or_default()) else {
            return;
        };
        for key in steps {
            at = at.below.entry(key).or_default();
        }
        let bit = 1 << kind as u8;
        self.count += usize::from(at.types & bit == 0);
        at.types |= bit;
    }

    /// Adds to `unlisted` what properties have and the list does not. `json` is what the limits
    /// have left of an event.
    pub fn look(&self, json: &str, unlisted: &mut UnlistedKeys) {
        self.look_below(Some(&self.keys), &mut Cursor::new(json), None, unlisted);
    }

    /// Looks at the entries of the object at the cursor, which is behind it afterwards.
    fn look_below(
        &self,
        listed: Option<&Keys>,
        cursor: &mut Cursor<'_>,
        above: Option<&Way<'_>>,
        unlisted: &mut UnlistedKeys,
    ) {
        cursor.skip(1);
        while let Some(raw) = cursor.key() {
            let key = match raw.has_escapes {
                false => {
                    let key = raw.text.strip_prefix('"');
                    key.and_then(|key| key.strip_suffix('"')).map(Cow::Borrowed)
                }
                true => unquoted(raw.text),
            };
            let first = cursor.peek();
            let Some(key) = key else {
                cursor.value();
                continue;
            };
            let node = listed.and_then(|keys| keys.get(&*key));
            let kind = KeyType::of(first);
            let way = Way { key, above };
            if node.is_none_or(|node| node.types & (1 << kind as u8) == 0) {
                self.meet(&way, kind, unlisted);
            }
            if kind == KeyType::Object && way.len() < LISTED_LEVELS {
                let below = node.map(|node| &node.below);
                self.look_below(below, cursor, Some(&way), unlisted);
            } else {
                cursor.value();
            }
        }
        cursor.skip(1);
    }

    fn meet(&self, way: &Way<'_>, kind: KeyType, unlisted: &mut UnlistedKeys) {
        let is_full = self.count + unlisted.new.len() >= MOST_LISTED;
        let pointer = (!is_full || !unlisted.new.is_empty())
            .then(|| way.pointer())
            .flatten();
        let Some(pointer) = pointer else {
            unlisted.left_out += 1;
            return;
        };
        let found = (pointer, kind);
        if is_full && !unlisted.new.contains(&found) {
            unlisted.left_out += 1;
        } else {
            unlisted.new.insert(found);
        }
    }
}

/// A key, and those of the objects that it stands in.
struct Way<'w> {
    key: Cow<'w, str>,
    above: Option<&'w Self>,
}

impl Way<'_> {
    /// From the key to the outermost one.
    fn up(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self), |way| way.above).map(|way| &*way.key)
    }

    fn len(&self) -> usize {
        self.up().count()
    }

    /// The pointer to the key, if it is one that may be written in a spec.
    fn pointer(&self) -> Option<String> {
        let bytes: usize = self.up().map(str::len).sum();
        // no character has more than four bytes
        if bytes > 4 * MAX_POINTER_CHARS {
            return None;
        }
        let steps: Vec<String> = self
            .up()
            .map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1")))
            .collect();
        let pointer: String = steps.into_iter().rev().collect();
        (pointer.chars().count() <= MAX_POINTER_CHARS && !pointer.contains('\0')).then_some(pointer)
    }
}

fn unescaped(step: &str) -> Box<str> {
    step.replace("~1", "/").replace("~0", "~").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(listed: &ListedKeys, json: &str) -> Vec<(String, &'static str)> {
        let mut unlisted = UnlistedKeys::default();
        listed.look(json, &mut unlisted);
        assert_eq!(unlisted.left_out, 0);
        let new = unlisted.new.into_iter();
        new.map(|(key, kind)| (key, kind.as_str())).collect()
    }

    fn listed(keys: &[(&str, KeyType)]) -> ListedKeys {
        let mut listed = ListedKeys::default();
        for (key, kind) in keys {
            listed.add(key, *kind);
        }
        listed
    }

    #[test]
    fn keys_of_three_levels_are_met_with_what_they_hold() {
        let json = r#"{"a":1,"b":{"c":"x","d":{"e":[{"f":1}],"g":{"h":1}}},"i":null,"j":true}"#;
        let expected = [
            ("/a", "number"),
            ("/b", "object"),
            ("/b/c", "string"),
            ("/b/d", "object"),
            ("/b/d/e", "array"),
            ("/b/d/g", "object"),
            ("/i", "null"),
            ("/j", "boolean"),
        ];
        let expected = expected.map(|(key, kind)| (key.to_owned(), kind));
        assert_eq!(met(&ListedKeys::default(), json), expected);
    }

    #[test]
    fn what_is_listed_is_not_met_again_unless_it_holds_something_else() {
        let listed = listed(&[
            ("/a", KeyType::Number),
            ("/b", KeyType::Object),
            ("/b/c", KeyType::String),
            ("/a", KeyType::Number),
        ]);
        assert_eq!(listed.len(), 3);
        assert_eq!(met(&listed, r#"{"a":1,"b":{"c":"x"}}"#), []);
        let expected = [("/a".to_owned(), "null"), ("/b/c".to_owned(), "array")];
        assert_eq!(met(&listed, r#"{"a":null,"b":{"c":[]}}"#), expected);
    }

    #[test]
    fn a_pointer_says_any_key_and_leads_back_to_it() {
        for (key, pointer) in [
            (r#""a/b~c""#, "/a~1b~0c"),
            (r#""""#, "/"),
            (r#""Wei\u00df\"x""#, "/Weiß\"x"),
            (r#""~1""#, "/~01"),
        ] {
            let json = format!("{{{key}:1}}");
            let expected = [(pointer.to_owned(), "number")];
            assert_eq!(met(&ListedKeys::default(), &json), expected);
            assert_eq!(met(&listed(&[(pointer, KeyType::Number)]), &json), []);
        }
    }

    #[test]
    fn what_has_no_pointer_and_what_a_full_list_has_no_place_for_is_counted() {
        let mut unlisted = UnlistedKeys::default();
        let long = "x".repeat(256);
        ListedKeys::default().look(&format!(r#"{{"{long}":1}}"#), &mut unlisted);
        assert_eq!((unlisted.new.len(), unlisted.left_out), (0, 1));
        let mut full = ListedKeys::default();
        for number in 0..MOST_LISTED - 1 {
            full.add(&format!("/k{number}"), KeyType::Number);
        }
        for _ in 0..2 {
            full.look(r#"{"one":1,"another":1,"k7":1}"#, &mut unlisted);
        }
        // the first that came has the last place
        let new: Vec<_> = unlisted.new.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!((new, unlisted.left_out), (vec!["/one"], 3));
    }

    #[test]
    fn every_type_is_found_by_its_name() {
        for kind in KeyType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert_eq!("text".parse::<KeyType>(), Err(UnknownKeyType));
    }
}
