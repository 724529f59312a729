#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::io::{Cursor, Read as _};
use std::process::Command;

use super::Packer;

const TEXT: &str = "a line of a log that is long enough to be worth packing\n";

/// Packed by the program of the same name; `None` where there is none.
fn packed(program: &str, text: &str) -> Option<Vec<u8>> {
    let file = std::env::temp_dir().join(format!("packing-{}", uuid::Uuid::new_v4()));
    std::fs::write(&file, text).unwrap();
    let output = Command::new(program).arg("-c").arg(&file).output();
    std::fs::remove_file(&file).unwrap();
    match output {
        Ok(output) if output.status.success() => Some(output.stdout),
        _ => {
            eprintln!("skipped: there is no {program} here");
            None
        }
    }
}

#[test]
fn what_the_packers_programs_write_is_read_also_joined_and_a_cut_is_noticed() {
    let text = TEXT.repeat(20_000);
    for packer in [Packer::Gzip, Packer::Zstd, Packer::Xz, Packer::Bzip2] {
        let Some(bytes) = packed(packer.name(), &text) else {
            continue;
        };
        assert_eq!(Packer::of(&bytes), Some(packer));
        let twice = [bytes.clone(), bytes.clone()].concat();
        let mut unpacked = String::new();
        let mut reader = packer.unpacked(Box::new(Cursor::new(twice)));
        reader.read_to_string(&mut unpacked).unwrap();
        assert!(unpacked == text.repeat(2), "{packer:?}");

        let cut = bytes[..bytes.len() / 2].to_vec();
        let mut reader = packer.unpacked(Box::new(Cursor::new(cut)));
        assert!(reader.read_to_end(&mut Vec::new()).is_err(), "{packer:?}");
    }
}

#[test]
fn damaged_bytes_are_errors_or_text_and_never_a_panic() {
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    // lines that differ, so that there is more than one block's worth to damage
    let text: String = (0..3_000)
        .map(|n: u64| format!("{:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    for packer in [Packer::Gzip, Packer::Zstd, Packer::Xz, Packer::Bzip2] {
        let Some(bytes) = packed(packer.name(), &text) else {
            continue;
        };
        let changes = proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4);
        let mut runner = TestRunner::default();
        let tried = runner.run(&(changes, any::<usize>()), |(changes, cut)| {
            let mut bytes = bytes.clone();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len() - cut % 64);
            let reader = packer.unpacked(Box::new(Cursor::new(bytes)));
            // damage may make it endless, but not large at once
            let _ = reader.take(10 << 20).read_to_end(&mut Vec::new());
            Ok(())
        });
        tried.unwrap();
    }
}

#[test]
fn texts_are_not_packed() {
    for head in ["", "BZh9 - -", "BZh", "192.0.2.1 - -", "{"] {
        assert_eq!(Packer::of(head.as_bytes()), None, "{head}");
    }
}
