//! Event ids for lines that have none of their own.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use uuid::Uuid;

/// Lines that are remembered at least; twice as many at most, in 36 MiB.
const REMEMBERED: usize = 900_000;

/// The namespace of ids made from lines.
fn of_lines() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"replay.clickstream.dev")
}

/// Ids from what a line says and how many equal lines came before it in this run.
///
/// Neither the file's name nor the line's number is part of it, so a log gives the same ids after
/// it was rotated, renamed, compressed or has grown. Equal lines are events of their own, whichever
/// files of the run they stand in: which of them comes first makes no difference, since they are
/// equal.
///
/// Counting needs memory for each different line. It is bounded by two generations: when one is
/// full, the older one is forgotten. So equal lines are told apart exactly while fewer than
/// 900,000 other lines lie between them. Equal lines have the same time, and inputs are
/// merged by time: only a log that goes back in time by more than that many lines can break it, and
/// [`Ids::beyond_memory`] counts lines for which it is possible.
#[derive(Debug)]
pub struct Ids {
    namespace: Uuid,
    source: String,
    young: Counts,
    old: Counts,
    /// The newest times in both generations, and in what was forgotten.
    newest: [Option<i64>; 3],
    beyond: u64,
    name: Vec<u8>,
    remembered: usize,
}

type Counts = HashMap<u64, u32, BuildHasherDefault<Identity>>;

impl Ids {
    /// Ids of a run; `source` is a name space: the same lines under another one are other events.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self {
            namespace: of_lines(),
            source: source.to_owned(),
            young: Counts::default(),
            old: Counts::default(),
            newest: [None; 3],
            beyond: 0,
            name: Vec::new(),
            remembered: REMEMBERED,
        }
    }

    /// The id of a line; `micros` is its time. The name under the namespace is `SOURCE:COUNT:LINE`,
    /// where the count of the first of equal lines is 0.
    pub fn next(&mut self, micros: Option<i64>, line: &[u8]) -> Uuid {
        let first = self.id(0, line);
        let key = u64::from_le_bytes(
            *first
                .as_bytes()
                .first_chunk()
                .expect("16 bytes begin with 8"),
        );
        if micros.is_some() && micros <= self.newest[2] {
            self.beyond += 1;
        }
        let count = match self.young.get_mut(&key) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                let count = self.old.get(&key).map_or(0, |count| count + 1);
                if self.young.len() >= self.remembered {
                    self.old = std::mem::take(&mut self.young);
                    self.newest = [None, self.newest[0], self.newest[2].max(self.newest[1])];
                }
                self.young.insert(key, count);
                count
            }
        };
        self.newest[0] = self.newest[0].max(micros);
        // two lines that share half a hash count as equal here and still have ids of their own
        if count == 0 {
            first
        } else {
            self.id(count, line)
        }
    }

    /// Lines that are older than what was forgotten: if one of them is equal to a forgotten line,
    /// it has that line's id, and counts as the same event.
    #[must_use]
    pub fn beyond_memory(&self) -> u64 {
        self.beyond
    }

    fn id(&mut self, count: u32, line: &[u8]) -> Uuid {
        self.name.clear();
        self.name.extend_from_slice(self.source.as_bytes());
        self.name.push(b':');
        self.name
            .extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
        self.name.push(b':');
        self.name.extend_from_slice(line);
        Uuid::new_v5(&self.namespace, &self.name)
    }
}

/// Keys are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use uuid::Uuid;

    use super::Ids;

    fn ids(source: &str, lines: &[String]) -> Vec<Uuid> {
        let mut ids = Ids::new(source);
        lines
            .iter()
            .map(|line| ids.next(Some(0), line.as_bytes()))
            .collect()
    }

    fn lines(name: &str, count: usize) -> Vec<String> {
        (0..count).map(|line| format!("{name}/{line}")).collect()
    }

    #[test]
    fn an_id_follows_from_the_line_its_count_and_the_source() {
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"replay.clickstream.dev");
        let twice = ["a".to_owned(), "b".to_owned(), "a".to_owned()];
        let expected =
            [":0:a", ":0:b", ":1:a"].map(|name| Uuid::new_v5(&namespace, name.as_bytes()));
        assert_eq!(ids("", &twice), expected);
        assert!(ids("web1", &twice).iter().all(|id| !expected.contains(id)));
    }

    #[test]
    fn a_log_that_was_rotated_or_has_grown_gives_the_same_ids_and_only_new_lines_are_new() {
        let (morning, afternoon) = (lines("m", 240), lines("a", 300));
        let before: HashSet<Uuid> = ids("", &morning).into_iter().collect();
        assert!(ids("", &morning).iter().all(|id| before.contains(id)));
        assert!(ids("", &afternoon).iter().all(|id| !before.contains(id)));
        let grown = ids("", &[morning, afternoon].concat());
        assert!(grown[..240].iter().all(|id| before.contains(id)));
        assert_eq!(grown.iter().collect::<HashSet<_>>().len(), 540);
    }

    #[test]
    fn equal_lines_are_events_of_their_own_and_the_same_ones_every_time() {
        let mut log = lines("x", 1);
        log.extend(vec!["same".to_owned(); 5]);
        let first = ids("", &log);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 6);
        log.reverse();
        let again: HashSet<Uuid> = ids("", &log).into_iter().collect();
        assert_eq!(again, first.into_iter().collect());
    }

    #[test]
    fn memory_is_bounded_and_lines_beyond_it_are_counted() {
        let mut ids = Ids::new("");
        ids.remembered = 100;
        let line = |number: i64| number.to_string();
        let first = ids.next(Some(0), line(0).as_bytes());
        for number in 1..=100 {
            ids.next(Some(number), line(number).as_bytes());
        }
        assert_ne!(ids.next(Some(0), line(0).as_bytes()), first, "still known");
        assert_eq!(ids.beyond_memory(), 0);
        for number in 101..1_000 {
            ids.next(Some(number), line(number).as_bytes());
            assert!(ids.young.len() + ids.old.len() <= 200);
        }
        assert_eq!(ids.beyond_memory(), 0, "nothing went back in time");
        assert_eq!(ids.next(Some(0), line(0).as_bytes()), first, "forgotten");
        assert_eq!(ids.beyond_memory(), 1);
    }
}
