#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::io::{Cursor, Write};
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::{FieldMap, Input, InputError, Line, MAX_LINE_BYTES};
use crate::replay::Format;

fn open(bytes: Vec<u8>) -> Result<Input, InputError> {
    let map = FieldMap::default();
    Input::new("log".into(), Box::new(Cursor::new(bytes)), None, &map)
}

fn input(bytes: impl Into<Vec<u8>>) -> Input {
    open(bytes.into()).unwrap()
}

fn lines(mut input: Input) -> Vec<String> {
    let mut buffer = Vec::new();
    let mut lines = Vec::new();
    while let Some((number, line)) = input.next_line(&mut buffer).unwrap() {
        lines.push(match line {
            Line::Text(text) => format!("{number}:{}", String::from_utf8_lossy(text)),
            Line::TooLong => format!("{number} too long"),
        });
    }
    lines
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn lines_are_numbered_and_lose_their_ends() {
    assert_eq!(
        lines(input("\u{feff}a\r\n\nb\nlast")),
        ["1:a", "2:", "3:b", "4:last"]
    );
    assert!(lines(input("")).is_empty());
}

#[test]
fn compressed_input_is_recognised_even_in_several_members() {
    let mut bytes = gzip("a\nb\n");
    bytes.extend(gzip("c\n"));
    assert_eq!(lines(input(bytes)), ["1:a", "2:b", "3:c"]);
}

#[test]
fn a_compressed_input_cut_off_is_an_error_that_counts_what_was_read() {
    let mut bytes = gzip("a\nb\n");
    bytes.truncate(bytes.len() - 4);
    let mut input = input(bytes);
    let mut buffer = Vec::new();
    let error = loop {
        match input.next_line(&mut buffer) {
            Ok(line) => assert!(line.is_some(), "the end was not noticed"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, InputError::Damaged { lines: 2, .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("gzip -dc log > saved.log"),
        "{error}"
    );
}

#[test]
fn another_packer_is_refused_with_the_command_that_unpacks() {
    let heads: [(&[u8], &str); 2] = [
        (b"\x04\x22\x4d\x18\x60", "lz4 -dc log"),
        (b"PK\x03\x04\x14", "unzip -p log"),
    ];
    for (head, unpack) in heads {
        let error = open(head.to_vec()).map(|_| ()).unwrap_err();
        assert!(matches!(error, InputError::Packed { .. }), "{error:?}");
        assert!(error.to_string().contains(unpack), "{error}");
    }
    let tar = [vec![b'a'; 257], b"ustar\x0000".to_vec()].concat();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&tar).unwrap();
    for tar in [tar, packed.finish().unwrap()] {
        let error = open(tar).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("tar -xOf log >"), "{error}");
    }
    // a host's name is no packer
    assert_eq!(lines(input("BZh9 - -")), ["1:BZh9 - -"]);
}

#[test]
fn a_log_that_was_cut_off_while_it_was_written_begins_behind_the_hole() {
    let hole = vec![0; 3 * MAX_LINE_BYTES];
    let log = [hole.as_slice(), b"a\n\0\0b\nc\0d\n"].concat();
    assert_eq!(lines(input(log)), ["1:a", "2:b", "3:c\0d"]);
}

#[test]
fn text_of_sixteen_bits_is_text() {
    let text = "\u{feff}a\r\nzugriffe-größe 😀\n";
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for bytes in [little, big] {
        assert_eq!(lines(input(bytes)), ["1:a", "2:zugriffe-größe 😀"]);
    }
}

#[test]
fn the_format_of_text_of_sixteen_bits_is_seen_from_all_of_its_first_lines() {
    for (text, format) in [
        (
            "event_ts;user_id;url\n1795168801;anna;/a\n1795168802;bert;/b\n",
            Format::Csv,
        ),
        ("Starting server\n{\"a\":1}\n{\"a\":2}\n", Format::Json),
    ] {
        let text = format!("\u{feff}{text}");
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(*input(bytes).format(), format);
    }
}

#[test]
fn values_in_quotes_may_hold_line_breaks() {
    let csv = "ts,note,url\n1,\"two\r\nlines\",/a\n2,\"one\",/b\n";
    let expected = ["1:ts,note,url", "2:1,\"two\nlines\",/a", "4:2,\"one\",/b"];
    assert_eq!(lines(input(csv)), expected);
    assert_eq!(lines(input(gzip(csv))), expected);
    let tsv = csv.replace(',', "\t");
    assert_eq!(lines(input(tsv))[1], "2:1\t\"two\nlines\"\t/a");
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let mut bytes = vec![b'x'; 3 * MAX_LINE_BYTES];
    bytes.extend(b"\nb\n");
    bytes.extend(vec![b'y'; MAX_LINE_BYTES]);
    bytes.extend(b"\r\nc");
    let lines = lines(input(bytes));
    assert_eq!(lines.len(), 4);
    assert_eq!(
        (lines[0].as_str(), lines[1].as_str(), lines[3].as_str()),
        ("1 too long", "2:b", "4:c")
    );
    assert_eq!(lines[2].len(), MAX_LINE_BYTES + 2);
}

proptest! {
    #[test]
    fn every_record_of_any_bytes_has_exactly_one_outcome(
        head in prop_oneof![
            Just(""), Just("{"), Just("[{"), Just("#Fields: date time cs-uri-stem\n"), Just("ts,url\n"),
            Just("\u{feff}"), Just("\0\0"), Just("\u{1f}")
        ],
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            "[\\[\\]{}\",:#\\-a-z0-9\\n\\t ]{0,300}".prop_map(String::into_bytes),
        ],
    ) {
        let bytes = [head.as_bytes(), &body].concat();
        let map = FieldMap::default();
        if let Ok(mut input) = open(bytes.clone()) {
            let mut reader = input.format().reader(&map);
            let (mut buffer, mut records) = (Vec::new(), 0);
            let lines = matches!(input.records, super::Records::Lines);
            while let Ok(Some((_, line))) = input.next_line(&mut buffer) {
                records += 1;
                if let Line::Text(text) = line {
                    let _ = reader.read(text);
                }
            }
            // what is plain text comes line by line, whatever it is
            if lines && input.packer.is_none() && !head.starts_with('\0') && !body.contains(&0) {
                let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
                let marks: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];
                if !marks.iter().any(|mark| text.starts_with(mark)) {
                    let expected = text.split_inclusive(|byte| *byte == b'\n').count();
                    prop_assert_eq!(records, expected);
                }
            }
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Input::open(Path::new("no/such.log"), None, &FieldMap::default())
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.to_string(), "no/such.log: cannot be opened");
}
