//! The rules, compiled: one tree of all pointers, so that a record is followed once for all fields.

use super::super::Field;
use super::super::columns::{MAX_COLUMNS, PromotedColumn};
use super::pointer::{Pointer, Step};
use super::rules::{MAX_POINTERS, MappingRules};

/// A set of slots, one bit each.
pub(super) type Slots = u128;

// each pointer of each field has a slot, and so has each column
const _: () = assert!(Field::ALL.len() * MAX_POINTERS + MAX_COLUMNS <= Slots::BITS as usize);

/// A place in records that some pointer leads to or through.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// The next places by key. Few of them: looking through all is faster than hashing the key.
    pub(super) keys: Vec<Child>,
    /// The next places by a text in an array's element.
    pub(super) members: Vec<Member>,
    /// The slots whose pointers end here.
    pub(super) ends: Slots,
    /// The slots here and below, also of what stands in a text or an array of events here.
    pub(super) below: Slots,
    /// The event is here, unless a batch is below; it may be the text of a JSON document.
    pub(super) is_event: bool,
    /// The array of events is here.
    pub(super) is_batch: bool,
    /// The array of events is here or below.
    pub(super) leads_to_batch: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) key: Box<str>,
    /// The key as an array's index, if it can be one.
    pub(super) index: Option<usize>,
    pub(super) node: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: Box<str>,
    pub(super) value: Box<str>,
    pub(super) node: usize,
}

impl Node {
    pub(super) fn is_leaf(&self) -> bool {
        self.keys.is_empty() && self.members.is_empty()
    }
}

/// All places, and what belongs to each slot. A place comes before those below it.
#[derive(Clone, Debug)]
pub(super) struct Trie {
    pub(super) nodes: Vec<Node>,
    /// The field of each slot. Slots are ordered by field, and within one by precedence; those
    /// behind them belong to the columns, in their order.
    pub(super) fields: Vec<Field>,
    /// How many columns have a slot.
    pub(super) columns: usize,
    /// Where the event begins if it is not the record: the place of the envelope.
    pub(super) envelope: usize,
    /// Where the elements of a batch begin; the same as `envelope` without one.
    pub(super) event: usize,
}

impl Trie {
    /// Compiles the rules. What the spec's validation refuses leads nowhere here.
    pub(super) fn new(rules: &MappingRules, columns: &[PromotedColumn]) -> Self {
        let mut trie = Self {
            nodes: vec![Node::default()],
            fields: Vec::new(),
            columns: columns.len().min(MAX_COLUMNS),
            envelope: 0,
            event: 0,
        };
        if let Some(pointer) = parsed(rules.envelope.as_deref()) {
            trie.envelope = trie.insert(0, &pointer.steps);
            trie.event = trie.envelope;
            trie.nodes[trie.envelope].is_event = true;
        }
        if let Some(pointer) = parsed(rules.batch.as_deref()) {
            let from = if pointer.from_record {
                0
            } else {
                trie.envelope
            };
            let batch = trie.insert(from, &pointer.steps);
            trie.nodes[batch].is_batch = true;
            // elements have a tree of their own, which begins at each of them
            trie.event = trie.nodes.len();
            trie.nodes.push(Node::default());
        }
        for field in Field::ALL {
            let own = [format!("/{field}")];
            let pointers = rules
                .fields
                .get(field.as_str())
                .map_or(&own[..], |list| list);
            for text in pointers.iter().take(MAX_POINTERS) {
                let slot = trie.fields.len();
                trie.fields.push(field);
                trie.lead(text, slot);
            }
        }
        for (column, slot) in columns.iter().take(MAX_COLUMNS).zip(trie.fields.len()..) {
            trie.lead(&column.pointer, slot);
        }
        trie.sum_up();
        trie
    }

    /// Ends a slot where a pointer leads.
    fn lead(&mut self, pointer: &str, slot: usize) {
        if let Some(pointer) = parsed(Some(pointer)) {
            let from = if pointer.from_record { 0 } else { self.event };
            let end = self.insert(from, &pointer.steps);
            self.nodes[end].ends |= 1 << slot;
        }
    }

    /// The place at the end of a way, which is made as far as it is not there.
    fn insert(&mut self, from: usize, steps: &[Step]) -> usize {
        steps.iter().fold(from, |at, step| self.step(at, step))
    }

    fn step(&mut self, at: usize, step: &Step) -> usize {
        let next = self.nodes.len();
        let node = &mut self.nodes[at];
        match step {
            Step::Key(key) => {
                if let Some(child) = node.keys.iter().find(|child| *child.key == **key) {
                    return child.node;
                }
                node.keys.push(Child {
                    key: key.as_str().into(),
                    index: index(key),
                    node: next,
                });
            }
            Step::Member { key, value } => {
                let there = |member: &&Member| *member.key == **key && *member.value == **value;
                if let Some(member) = node.members.iter().find(there) {
                    return member.node;
                }
                node.members.push(Member {
                    key: key.as_str().into(),
                    value: value.as_str().into(),
                    node: next,
                });
            }
        }
        self.nodes.push(Node::default());
        next
    }

    fn sum_up(&mut self) {
        for at in (0..self.nodes.len()).rev() {
            let node = &self.nodes[at];
            let elements = if node.is_batch {
                self.nodes[self.event].below
            } else {
                0
            };
            let next = node.keys.iter().map(|child| child.node);
            let next = next.chain(node.members.iter().map(|member| member.node));
            let none = (node.ends | elements, node.is_batch);
            let (below, leads_to_batch) = next.fold(none, |(slots, batch), next| {
                let next = &self.nodes[next];
                (slots | next.below, batch || next.leads_to_batch)
            });
            self.nodes[at].below = below;
            self.nodes[at].leads_to_batch = leads_to_batch;
        }
    }
}

fn parsed(text: Option<&str>) -> Option<Pointer> {
    text.and_then(|text| text.parse().ok())
}

/// The index that a key is in an array: digits without a zero in front.
fn index(key: &str) -> Option<usize> {
    let is_index = key == "0" || (!key.starts_with('0') && key.bytes().all(|b| b.is_ascii_digit()));
    key.parse().ok().filter(|_| is_index)
}
