//! docs/your-data.md does what it says: each sample, read by the command below it, gives the table
//! below that, and other tools count as many events and users. `CLICKSTREAM_UPDATE=1` writes the
//! tables.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A fenced block: its language, where its text lies in the page.
struct Block {
    language: String,
    begin: usize,
    end: usize,
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/your-data.md")
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize)> = None;
    let mut at = 0;
    for line in page.split_inclusive('\n') {
        match (line.strip_prefix("```"), open.take()) {
            (Some(language), None) => open = Some((language.trim().to_owned(), at + line.len())),
            // documents of pipelines are read by another test
            (Some(_), Some((language, _))) if language == "yaml" => {}
            (Some(_), Some((language, begin))) => blocks.push(Block {
                language,
                begin,
                end: at,
            }),
            (None, still) => open = still,
        }
        at += line.len();
    }
    blocks
}

/// The words of a command line as a shell has them.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// What the command prints, and whether it succeeded.
fn run(folder: &Path, line: &str) -> (String, bool) {
    let words = words(line);
    assert_eq!(words[..2], ["clickstream-producer", "inspect"], "{line}");
    let output = Command::new(env!("CARGO_BIN_EXE_clickstream-producer"))
        .args(&words[1..])
        .current_dir(folder)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.success())
}

/// Events and users of a table.
fn counted(table: &str) -> [usize; 2] {
    let mut lines = table
        .lines()
        .skip_while(|line| !line.starts_with("event_ts "));
    let Some(at) = lines.next().and_then(|header| header.find("user_id")) else {
        return [0, 0];
    };
    let rows: Vec<&str> = lines.take_while(|line| line.starts_with("20")).collect();
    let user = |row: &&str| {
        let rest: String = row.chars().skip(at).collect();
        rest.split("  ").next().unwrap_or_default().to_owned()
    };
    let users: HashSet<String> = rows.iter().map(user).collect();
    [rows.len(), users.len()]
}

/// The command of a check and the numbers that it prints, on the line below a table.
fn check(behind: &str) -> Option<(&str, &str)> {
    let line = behind.strip_prefix("```\n\nCheck: `")?.lines().next()?;
    line.strip_suffix("`.")?.split_once("` prints `")
}

/// What a shell's command prints; `None` where one of its programs is not installed.
fn shell(folder: &Path, line: &str) -> Option<String> {
    let sh = |line: &str| {
        let mut sh = Command::new("sh");
        sh.args(["-c", line]).env("LC_ALL", "C").current_dir(folder);
        sh.output().unwrap()
    };
    for program in ["jq", "awk", "sed"] {
        let is_used = line.split(' ').any(|word| word == program);
        if is_used && !sh(&format!("command -v {program}")).status.success() {
            eprintln!("notice: {program} is not installed, so `{line}` was not run");
            return None;
        }
    }
    let output = sh(line);
    assert!(output.status.success(), "{line}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_sample_gives_the_table_below_it() {
    let path = page();
    let mut text = std::fs::read_to_string(&path).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("your-data");
    std::fs::create_dir_all(&folder).unwrap();
    let update = std::env::var_os("CLICKSTREAM_UPDATE").is_some();
    let (mut samples, mut checks) = (0, 0);
    let mut place = 0;
    while let Some([sample, command, table]) = blocks(&text).get(place..place + 3) {
        place += 3;
        samples += 1;
        assert_eq!(
            [&sample.language, &command.language, &table.language],
            ["log", "sh", "text"],
            "blocks {place}"
        );
        let line = text[command.begin..command.end].trim_end().to_owned();
        let file = line.rsplit(' ').next().unwrap();
        std::fs::write(folder.join(file), &text[sample.begin..sample.end]).unwrap();
        let (said, success) = run(&folder, &line);
        let (begin, end) = (table.begin, table.end);
        if update {
            text.replace_range(begin..end, &said);
        } else {
            assert_eq!(said, &text[begin..end], "{line}");
        }
        assert_eq!(success, !said.contains("error: "), "{line}: {said}");
        let ours = counted(&said);
        let Some((other, printed)) = check(&text[begin + said.len()..]) else {
            assert_eq!(ours, [0, 0], "no check below the table of {line}");
            continue;
        };
        assert_eq!(format!("{} {}", ours[0], ours[1]), printed, "{line}");
        if let Some(theirs) = shell(&folder, other) {
            assert_eq!(theirs.trim_end(), printed, "{other}");
            checks += 1;
        }
    }
    assert!(samples >= 15, "{samples} samples");
    // all but those of jq at least
    assert!(checks >= 15, "{checks} checks");
    if update {
        std::fs::write(path, text).unwrap();
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let folder = std::env::temp_dir().join(format!("nobody-reads-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let log =
        "192.0.2.1 - anna [01/Jan/2026:00:00:00 +0000] \"GET /a HTTP/1.1\" 200 1 \"-\" \"-\"\n";
    fs::write(folder.join("access.log"), log).unwrap();
    for line in [
        "inspect access.log",
        "survey access.log",
        "survey --output json access.log",
        "print --count 3",
    ] {
        let (reader, stdout) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_clickstream-producer"))
            .args(line.split(' '))
            .current_dir(&folder)
            .stdout(stdout)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (said.as_str(), output.status.code()),
            ("", Some(141)),
            "{line}"
        );
        // and with standard error in the same closed pipe there is no panic either
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_clickstream-producer"))
            .args(line.split(' '))
            .current_dir(&folder)
            .stdout(closed.try_clone().unwrap())
            .stderr(closed)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(141), "{line}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
