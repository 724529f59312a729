#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::path::PathBuf;

use proptest::prelude::*;

use super::{Reading, Step};
use crate::replay::hit::Hit;

/// Logs in a folder of their own, which goes with them.
struct Logs(PathBuf);

impl Logs {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("merge-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn add(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn line(second: i64, path: &str) -> String {
    let time = chrono::DateTime::from_timestamp(1_795_168_800 + second, 0).unwrap();
    let time = time.format("%d/%b/%Y:%H:%M:%S +0000");
    format!("192.0.2.1 - - [{time}] \"GET /{path} HTTP/1.1\" 200 5\n")
}

/// The paths of all lines in the order of the merge; `!` where a line is broken.
fn read(paths: Vec<PathBuf>) -> Vec<String> {
    let reading = Reading {
        paths,
        format: None,
        fields: "".parse().unwrap(),
    };
    let mut seen = Vec::new();
    reading
        .each(&mut |step| {
            if let Step::Line(read) = step {
                seen.push(match read.hit {
                    Ok(Hit { url, .. }) => url.text().into_owned(),
                    Err(_) => "!".to_owned(),
                });
            }
            true
        })
        .unwrap();
    seen
}

#[test]
fn logs_of_two_servers_are_one_in_the_order_of_time() {
    let logs = Logs::new();
    let one: String = (0..50)
        .map(|at| line(2 * at, &format!("{}", 2 * at)))
        .collect();
    let two: String = (0..50)
        .map(|at| line(2 * at + 1, &format!("{}", 2 * at + 1)))
        .collect();
    let (one, two) = (logs.add("one", one), logs.add("two", two));
    let expected: Vec<String> = (0..100).map(|at| format!("/{at}")).collect();
    assert_eq!(read(vec![one.clone(), two.clone()]), expected);
    assert_eq!(read(vec![two, one]), expected);
}

#[test]
fn rotated_logs_follow_each_other_whatever_their_order() {
    let logs = Logs::new();
    let (old, new) = (line(0, "a") + &line(9, "b"), line(10, "c") + &line(11, "d"));
    let (old, new) = (logs.add("access.log.1", old), logs.add("access.log", new));
    assert_eq!(read(vec![new, old]), ["/a", "/b", "/c", "/d"]);
}

#[test]
fn a_logs_own_order_stays_and_lines_without_time_follow_the_one_before() {
    let logs = Logs::new();
    let one = line(5, "a") + "broken\n" + &line(3, "b") + &line(8, "c");
    let one = logs.add("one", one);
    let two = logs.add("two", "broken\n".to_owned() + &line(4, "x") + &line(6, "y"));
    assert_eq!(
        read(vec![one, two]),
        ["!", "/x", "/a", "!", "/b", "/y", "/c"]
    );
}

#[test]
fn many_rotated_logs_need_no_more_files_than_are_read() {
    let logs = Logs::new();
    let mut paths: Vec<PathBuf> = (0..2_000)
        .map(|at| logs.add(&at.to_string(), line(at, &at.to_string())))
        .collect();
    paths.reverse();
    let expected: Vec<String> = (0..2_000).map(|at| format!("/{at}")).collect();
    assert_eq!(read(paths), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_line_comes_exactly_once(files: Vec<Vec<u8>>, times in proptest::collection::vec((0_usize..4, 0_i64..50), 0..40)) {
        let logs = Logs::new();
        let mut expected = 0;
        let mut texts: Vec<Vec<u8>> = files.into_iter().take(4).collect();
        texts.resize(4, Vec::new());
        for (file, second) in times {
            texts[file].push(b'\n');
            texts[file].extend(line(second, "p").as_bytes());
        }
        let mut paths = Vec::new();
        for (place, text) in texts.iter().enumerate() {
            // a head that looks packed is another matter
            let text = [b"x\n".as_slice(), text].concat();
            expected += text.split_inclusive(|byte| *byte == b'\n').count();
            paths.push(logs.add(&place.to_string(), text));
        }
        prop_assert_eq!(read(paths).len(), expected);
    }
}
