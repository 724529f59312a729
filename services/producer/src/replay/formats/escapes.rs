//! The escapes with which servers write what is not plain text.

use std::borrow::Cow;

/// The text that the server escaped when it wrote the log. Where the bytes behind the escapes are
/// not text (not UTF-8, or U+0000, which no event may hold), the field stays as it stands in the
/// log; bytes that are not UTF-8 and were not escaped are shown as the server should have.
pub(super) fn readable(field: &[u8]) -> Cow<'_, str> {
    let escaped = memchr::memchr(b'\\', field).is_some();
    match std::str::from_utf8(field) {
        Ok(text) if !escaped => Cow::Borrowed(text),
        Ok(text) => unescape(field).map_or(Cow::Borrowed(text), Cow::Owned),
        Err(_) => Cow::Owned(show_bytes(field)),
    }
}

fn unescape(field: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&escape, tail) = rest.split_first()?;
        rest = tail;
        bytes.push(match escape {
            b'"' | b'\\' => escape,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'v' => 0x0b,
            b'x' => {
                let (digits, tail) = rest.split_first_chunk::<2>()?;
                rest = tail;
                hexadecimal(*digits)?
            }
            _ => return None,
        });
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

fn hexadecimal(digits: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

fn show_bytes(field: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(field.len() + 16);
    for chunk in field.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    text
}

/// A line of JSON whose texts have `\xHH` in them, which JSON does not know and nginx writes unless
/// it is told otherwise (`escape=json`), as JSON has it. Where the bytes are no text, the escapes
/// stay visible. `None` where there is nothing to mend.
pub(super) fn mended_json(line: &[u8]) -> Option<Vec<u8>> {
    let mut mended: Option<Vec<u8>> = None;
    let mut at = 0;
    let mut copied = 0;
    while let Some(found) = memchr::memchr(b'\\', &line[at..]) {
        let begin = at + found;
        if line.get(begin + 1) != Some(&b'x') {
            at = (begin + 2).min(line.len());
            continue;
        }
        let mut bytes = Vec::new();
        let mut end = begin;
        while let Some([b'\\', b'x', high, low]) = line[end..].first_chunk::<4>()
            && let Some(byte) = hexadecimal([*high, *low])
        {
            bytes.push(byte);
            end += 4;
        }
        let out = mended.get_or_insert_default();
        out.extend_from_slice(&line[copied..begin]);
        if bytes.is_empty() {
            out.extend_from_slice(b"\\\\x");
            end = begin + 2;
        } else {
            let text = String::from_utf8(bytes.clone())
                .ok()
                .filter(|text| !text.contains('\0'))
                .unwrap_or_else(|| {
                    use std::fmt::Write as _;
                    bytes.iter().fold(String::new(), |mut text, byte| {
                        write!(text, "\\x{byte:02X}").expect("writing to a string cannot fail");
                        text
                    })
                });
            let quoted = serde_json::to_string(&text).expect("a text is JSON");
            out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        }
        copied = end;
        at = end;
    }
    let mut mended = mended?;
    mended.extend_from_slice(&line[copied..]);
    Some(mended)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::mended_json;

    fn mended(line: &str) -> String {
        String::from_utf8_lossy(&mended_json(line.as_bytes()).unwrap_or_default()).into_owned()
    }

    #[test]
    fn escapes_of_nginx_become_those_of_json() {
        assert_eq!(mended(r#"{"a":"\x22q\x22"}"#), r#"{"a":"\"q\""}"#);
        assert_eq!(mended(r#"{"a":"caf\xC3\xA9"}"#), "{\"a\":\"café\"}");
        assert_eq!(mended(r#"{"a":"\x5C\x0A"}"#), r#"{"a":"\\\n"}"#);
        assert_eq!(mended(r#"{"a":"\xE9"}"#), r#"{"a":"\\xE9"}"#);
        assert_eq!(mended(r#"{"a":"\x0"}"#), r#"{"a":"\\x0"}"#);
        assert_eq!(
            mended_json(br#"{"a":"\\x22"}"#),
            None,
            "an escaped backslash"
        );
        assert_eq!(mended_json(br#"{"a":"\n\""}"#), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line: Vec<u8>, text in "[\\\\x0-9A-F\"]{0,20}") {
            let _ = mended_json(&line);
            if let Some(mended) = mended_json(text.as_bytes()) {
                prop_assert!(mended_json(&mended).is_none());
            }
        }
    }
}
