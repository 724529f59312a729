//! Where visitors come from: the campaign that the URL names, and the referrer's host.

use std::borrow::Cow;

use memchr::memmem;
use percent_encoding::percent_decode;

/// Longest value of a campaign's key, in Unicode scalar values.
const MAX_CHARS: usize = 255;

/// The keys of a query that name a campaign, in the order of [`Campaign`].
const KEYS: [&str; 5] = [
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_term",
    "utm_content",
];

/// What the URL says of a campaign: `utm_source`, `utm_medium`, `utm_campaign`, `utm_term` and
/// `utm_content`, in this order, each 1 to 255 Unicode scalar values.
pub type Campaign<'a> = [Option<Cow<'a, str>>; KEYS.len()];

/// Reads a URL's query. Keys are taken as they are written. Of several values of a key the first
/// counts; percent-encoding is resolved, and `+` is a space. One that is empty then, no UTF-8 or
/// holds U+0000 is none, and a longer one is cut off.
#[must_use]
pub fn campaign(url: &str) -> Campaign<'_> {
    let mut found: Campaign<'_> = Default::default();
    if memmem::find(url.as_bytes(), b"utm_").is_none() {
        return found;
    }
    let Some(query) = query(url) else {
        return found;
    };
    let mut seen = [false; KEYS.len()];
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let Some(at) = KEYS.iter().position(|known| *known == key)
            && !std::mem::replace(&mut seen[at], true)
        {
            found[at] = text(value);
        }
    }
    found
}

/// What stands between `?` and `#`.
fn query(url: &str) -> Option<&str> {
    let before = url.split('#').next()?;
    Some(before.split_once('?')?.1)
}

fn text(value: &str) -> Option<Cow<'_, str>> {
    let decoded = if value.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        let spaced = value.replace('+', " ");
        let bytes: Vec<u8> = percent_decode(spaced.as_bytes()).collect();
        Cow::Owned(String::from_utf8(bytes).ok()?)
    } else {
        Cow::Borrowed(value)
    };
    if decoded.is_empty() || decoded.contains('\0') {
        return None;
    }
    Some(match decoded.char_indices().nth(MAX_CHARS) {
        None => decoded,
        Some((end, _)) => match decoded {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
            Cow::Owned(mut text) => {
                text.truncate(end);
                Cow::Owned(text)
            }
        },
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use proptest::prelude::*;

    use super::*;

    fn source(value: &str) -> Option<String> {
        let url = format!("/a?utm_source={value}");
        campaign(&url)[0].as_deref().map(str::to_owned)
    }

    #[test]
    fn each_key_of_a_campaign_is_found_in_the_query_and_nowhere_else() {
        let url = "https://a.example/utm_source=p?x=1&utm_content=5&utm_term=4&utm_campaign=3\
                   &utm_medium=2&utm_source=1&utm_source=9#utm_source=f";
        let expected = ["1", "2", "3", "4", "5"].map(|text| Some(text.into()));
        assert_eq!(campaign(url), expected);
        for url in [
            "/a?UTM_SOURCE=x",
            "/a?utm_sourcex=x",
            "/a?utm%5Fsource=x",
            "/a?b=utm_source=x",
            "/a#?utm_source=x",
            "/a/utm_source=x",
            "/a?utm_source",
            "/a?utm_source=&utm_source=late",
        ] {
            assert_eq!(campaign(url), Campaign::default(), "{url}");
        }
    }

    #[test]
    fn values_are_decoded_and_what_is_no_text_is_none() {
        for (value, expected) in [
            ("spring+sale", Some("spring sale")),
            ("spring%20sale%2B", Some("spring sale+")),
            ("%C3%BC", Some("ü")),
            ("ü", Some("ü")),
            ("100%", Some("100%")),
            ("%zz", Some("%zz")),
            ("%ff", None),
            ("a%00b", None),
            ("%00", None),
            ("", None),
            ("+", Some(" ")),
        ] {
            assert_eq!(source(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn values_are_cut_after_255_characters() {
        for (letter, encoded) in [("a", "a"), ("ü", "ü"), ("ü", "%C3%BC")] {
            for length in [254, 255, 256, 1_000] {
                let expected = letter.repeat(length.min(255));
                assert_eq!(source(&encoded.repeat(length)).unwrap(), expected);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn values_are_what_the_form_decoder_of_the_url_crate_finds(query in "(utm_(source|term)=[a-zü+%0-9A-F&;=]{0,12}&){0,4}") {
            let found = campaign_of(&query);
            for (at, key) in KEYS.iter().enumerate() {
                let first = query.split('&').find(|pair| pair.split('=').next() == Some(key));
                let expected = first.and_then(|pair| {
                    let (_, value) = url::form_urlencoded::parse(pair.as_bytes()).next()?;
                    let is_text = !value.contains('\u{fffd}') && !value.contains('\0');
                    (is_text && !value.is_empty()).then(|| value.into_owned())
                });
                prop_assert_eq!(&found[at], &expected);
            }
        }
    }

    fn campaign_of(query: &str) -> [Option<String>; 5] {
        let url = format!("https://a.example/?{query}");
        campaign(&url).map(|text| text.map(Cow::into_owned))
    }
}
