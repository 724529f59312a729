//! One pass over a record: follows the tree of pointers and keeps the raw text of what they lead
//! to. What no pointer leads to is proved to be JSON and skipped, without recursion.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::Field;
use super::super::object::{Seen, unquoted};
use super::trie::{Node, Slots, Trie};

/// A slot that no field has.
const NONE: u8 = u8::MAX;

/// What the pointers led to so far.
#[derive(Clone, Debug)]
pub(super) struct Found<'a> {
    /// The raw text of each field.
    pub(super) raw: [Option<&'a str>; Field::ALL.len()],
    /// The slot it comes from.
    from: [u8; Field::ALL.len()],
    /// The raw text of each column, up to the last one that was found.
    columns: Vec<Option<&'a str>>,
    /// Slots on whose way a key appeared twice.
    repeated: Slots,
}

impl Default for Found<'_> {
    fn default() -> Self {
        Self {
            raw: [None; Field::ALL.len()],
            from: [NONE; Field::ALL.len()],
            columns: Vec::new(),
            repeated: 0,
        }
    }
}

impl<'a> Found<'a> {
    /// Whether the value of a field is the one that was found in `outer`, around the event.
    pub(super) fn is_of(&self, outer: &Self, field: Field) -> bool {
        let from = self.from[field as usize];
        from != NONE && from == outer.from[field as usize]
    }

    /// Whether a key appeared twice on the way to the field's value, or on a way that would come
    /// first.
    pub(super) fn is_ambiguous(&self, trie: &Trie, field: Field) -> bool {
        let from = self.from[field as usize];
        let mut slots = trie.fields.iter().enumerate();
        self.repeated != 0
            && slots.any(|(slot, of)| {
                *of == field && slot <= usize::from(from) && self.repeated & (1 << slot) != 0
            })
    }

    /// What the record says of each column.
    pub(super) fn columns(&self, trie: &Trie) -> impl Iterator<Item = Seen<'a>> {
        (0..trie.columns).map(|at| {
            let slot = trie.fields.len() + at;
            match self.columns.get(at) {
                _ if self.repeated & (1 << slot) != 0 => Seen::Twice,
                Some(Some(raw)) => Seen::Raw(raw),
                Some(None) | None => Seen::Nothing,
            }
        })
    }

    fn note_column(&mut self, at: usize, raw: &'a str) {
        if self.columns.len() <= at {
            self.columns.resize(at + 1, None);
        }
        self.columns[at] = Some(raw);
    }
}

/// A pass over the text of an object.
pub(super) struct Walk<'t, 'a> {
    trie: &'t Trie,
    /// The text that all raw values are slices of.
    text: &'a str,
    pub(super) found: Found<'a>,
    /// The text from the event's opening brace on, if the event is an object inside this one.
    pub(super) event: Option<&'a str>,
    /// The raw text of the string that holds the event.
    pub(super) quoted: Option<&'a str>,
    /// The raw text of the array of events.
    pub(super) batch: Option<&'a str>,
    /// Whether a key appeared twice on the way to it.
    pub(super) is_batch_repeated: bool,
}

impl<'t, 'a> Walk<'t, 'a> {
    /// Follows the tree from this place through the text of one object.
    ///
    /// # Errors
    /// The text is not one JSON object.
    pub(super) fn through(
        trie: &'t Trie,
        place: usize,
        text: &'a str,
        found: Found<'a>,
    ) -> Result<Self, serde_json::Error> {
        let mut walk = Self {
            trie,
            text,
            found,
            event: None,
            quoted: None,
            batch: None,
            is_batch_repeated: false,
        };
        walk.object(&trie.nodes[place], text)?;
        Ok(walk)
    }

    fn object(&mut self, node: &'t Node, text: &'a str) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.deserialize_map(Object { walk: self, node })?;
        deserializer.end()
    }

    /// Takes note of a value, and follows the tree into it.
    fn take(&mut self, node: &'t Node, raw: &'a str) -> Result<(), serde_json::Error> {
        self.end(node, raw);
        if node.is_event && raw.starts_with('"') {
            self.quoted = Some(raw);
        }
        if node.is_event && raw.starts_with('{') {
            self.event = Some(raw);
        }
        if node.is_batch {
            self.batch = Some(raw);
        } else if node.is_leaf() {
        } else if raw.starts_with('{') {
            self.object(node, raw)?;
        } else if raw.starts_with('[') {
            let mut deserializer = serde_json::Deserializer::from_str(raw);
            deserializer.deserialize_seq(Array { walk: self, node })?;
        }
        Ok(())
    }

    /// The value of the slots that end here. The slot that comes first wins, in whatever order they
    /// are met; a null is as good as nothing.
    fn end(&mut self, node: &Node, raw: &'a str) {
        let mut slots = node.ends;
        while slots != 0 && raw != "null" {
            let slot = slots.trailing_zeros() as u8;
            slots &= slots - 1;
            let Some(field) = self.trie.fields.get(usize::from(slot)) else {
                let at = usize::from(slot) - self.trie.fields.len();
                self.found.note_column(at, raw);
                continue;
            };
            let field = *field as usize;
            if slot < self.found.from[field] {
                self.found.from[field] = slot;
                self.found.raw[field] = Some(raw);
            }
        }
    }

    /// Takes note of a second way to this place.
    fn repeat(&mut self, node: &Node) {
        self.found.repeated |= node.below;
        self.is_batch_repeated |= node.leads_to_batch;
    }

    /// Where the value of a key begins, for a key that was just read out of the text.
    fn value_of(&self, key: &str) -> Option<&'a str> {
        let end = (key.as_ptr() as usize + key.len()).checked_sub(self.text.as_ptr() as usize)?;
        let rest = self.text.get(end..)?;
        let rest = rest.trim_start_matches(SPACE).strip_prefix(':')?;
        Some(rest.trim_start_matches(SPACE))
    }
}

/// The four characters that JSON calls whitespace.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

struct Object<'w, 't, 'a> {
    walk: &'w mut Walk<'t, 'a>,
    node: &'t Node,
}

impl<'a> Visitor<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen: Slots = 0;
        // keys are read raw: one that no pointer names may hold whatever it likes
        while let Some(key) = map.next_key::<&RawValue>()? {
            let key = key.get();
            let text = unquoted(key);
            let named = |name: &str| text.as_deref() == Some(name);
            let child = self.node.keys.iter().position(|child| named(&child.key));
            let Some(place) = child else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let node = &self.walk.trie.nodes[self.node.keys[place].node];
            if seen & (1 << place) != 0 {
                // a null counts as an appearance too: which of the two was meant is not ours to
                // guess
                self.walk.repeat(node);
            }
            seen |= 1 << place;
            let begins = self.walk.value_of(key);
            map.next_value_seed(Value {
                walk: &mut *self.walk,
                node,
                begins,
            })?;
        }
        Ok(())
    }
}

struct Value<'w, 't, 'a> {
    walk: &'w mut Walk<'t, 'a>,
    node: &'t Node,
    /// The text from the value on.
    begins: Option<&'a str>,
}

impl<'a> DeserializeSeed<'a> for Value<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { walk, node, begins } = self;
        let follows = !node.is_leaf() && node.ends == 0 && !node.is_batch;
        // an object that is only passed through is followed in this same pass; all else is read as
        // it stands first
        if let Some(begins) = begins.filter(|begins| follows && begins.starts_with('{')) {
            if node.is_event {
                walk.event = Some(begins);
            }
            return deserializer.deserialize_map(Object { walk, node });
        }
        let raw = <&RawValue as serde::Deserialize>::deserialize(deserializer)?;
        walk.take(node, raw.get()).map_err(serde::de::Error::custom)
    }
}

struct Array<'w, 't, 'a> {
    walk: &'w mut Walk<'t, 'a>,
    node: &'t Node,
}

impl<'a> Visitor<'a> for Array<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { walk, node } = self;
        let trie = walk.trie;
        let mut index = 0;
        let mut seen: Slots = 0;
        while let Some(element) = elements.next_element::<&RawValue>()? {
            let element = element.get();
            if let Some(child) = node.keys.iter().find(|child| child.index == Some(index)) {
                walk.take(&trie.nodes[child.node], element)
                    .map_err(serde::de::Error::custom)?;
            }
            for (place, member) in node.members.iter().enumerate() {
                if !has_text(element, &member.key, &member.value) {
                    continue;
                }
                let node = &trie.nodes[member.node];
                if seen & (1 << place) != 0 {
                    walk.repeat(node);
                }
                seen |= 1 << place;
                walk.take(node, element).map_err(serde::de::Error::custom)?;
            }
            index += 1;
        }
        Ok(())
    }
}

/// Whether a raw JSON value is an object with this text at this key; of a repeated key the last one
/// counts.
fn has_text(raw: &str, key: &str, value: &str) -> bool {
    if !raw.starts_with('{') {
        return false;
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    let found = deserializer.deserialize_map(TextAt(key));
    found.is_ok_and(|found| found.and_then(unquoted).as_deref() == Some(value))
}

struct TextAt<'k>(&'k str);

impl<'a> Visitor<'a> for TextAt<'_> {
    type Value = Option<&'a str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if unquoted(key.get()).as_deref() == Some(self.0) {
                found = Some(value.get());
            }
        }
        Ok(found)
    }
}
