//! What pages are made of which URLs, and what holds for every URL.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;

fn rules() -> PageRules {
    PageRules {
        trailing_slash: TrailingSlash::Remove,
        fragment: Fragment::Remove,
        query: Vec::new(),
        templates: Vec::new(),
        max_per_window: None,
    }
}

fn with_templates(templates: &[&str]) -> PageRules {
    PageRules {
        templates: templates.iter().map(|text| text.parse().unwrap()).collect(),
        ..rules()
    }
}

fn page(rules: &PageRules, url: &str) -> String {
    Pages::new(rules).page(url).into_owned()
}

#[test]
fn a_page_is_the_url_without_what_does_not_tell_pages_apart() {
    for (url, expected) in [
        ("https://shop.example/a?x=1#top", "https://shop.example/a"),
        ("HTTPS://Shop.Example:443/A/", "https://shop.example/A"),
        ("http://shop.example:80", "http://shop.example/"),
        ("http://shop.example:/a", "http://shop.example/a"),
        ("http://shop.example:443/", "http://shop.example:443/"),
        ("https://shop.example?x=1", "https://shop.example/"),
        ("https://shop.example//", "https://shop.example/"),
        ("https://shop.example/a//", "https://shop.example/a"),
        ("https://ann:pw@shop.example/a", "https://shop.example/a"),
        ("http://[2001:DB8::1]:80/a", "http://[2001:db8::1]/a"),
        ("http://[::1]:8080/a/", "http://[::1]:8080/a"),
        ("//CDN.example/a/", "//cdn.example/a"),
        ("/a/?x=1", "/a"),
        ("/", "/"),
        ("/?x=1", "/"),
        ("app://Home/Cart?x", "app://home/Cart"),
    ] {
        assert_eq!(page(&rules(), url), expected, "{url}");
    }
}

#[test]
fn what_is_no_address_is_its_own_page() {
    for url in [
        "not a url",
        "a/b?x=1#y",
        "?x=1",
        "#top",
        "urn:isbn:0451450523",
        "mailto:a@b.example?subject=x",
        "javascript:void(0)",
        "://a",
        "1a://b/c?d",
        "http:///a?x",
        "///a?x",
        "file:///a#b",
        "http://a:80:80/b?c",
        "http://a:b/c?d",
        "http://[::1/a?b",
        "http://[::1]x/a?b",
        "http://a\\b/c?d",
    ] {
        assert_eq!(page(&rules(), url), url);
    }
    let long = format!("http://{}/a?b", "a".repeat(256));
    assert_eq!(page(&rules(), &long), long);
}

#[test]
fn percent_encoding_dots_and_letters_of_the_path_are_left_as_they_are() {
    for (url, expected) in [
        (
            "https://a.example/%7Eann/%2f/é",
            "https://a.example/%7Eann/%2f/é",
        ),
        (
            "https://a.example/b/../C/./d",
            "https://a.example/b/../C/./d",
        ),
        ("https://BÜCHER.example/a", "https://bÜcher.example/a"),
        (
            "https://a.example/b\\c d;v=1",
            "https://a.example/b\\c d;v=1",
        ),
        ("/%zz/%", "/%zz/%"),
    ] {
        assert_eq!(page(&rules(), url), expected);
    }
}

#[test]
fn keys_of_the_query_are_kept_by_name_and_in_the_order_of_the_rules() {
    let rules = PageRules {
        query: vec!["id".into(), "lang".into()],
        ..rules()
    };
    for (url, expected) in [
        ("/a?lang=de&x=1&id=7", "/a?id=7&lang=de"),
        ("/a?id=7&lang=de", "/a?id=7&lang=de"),
        ("/a?id=1&lang=&id=2", "/a?id=1&id=2&lang="),
        ("/a?id", "/a?id"),
        ("/a?ID=1&idx=2&%69d=3", "/a"),
        ("/a?x=id=1", "/a"),
        ("/a/?id=a=b%26#lang=de", "/a?id=a=b%26"),
        ("https://a.example?id=1", "https://a.example/?id=1"),
    ] {
        assert_eq!(page(&rules, url), expected);
    }
}

#[test]
fn slashes_at_the_end_and_fragments_are_kept_where_the_rules_say_so() {
    let keep = PageRules {
        trailing_slash: TrailingSlash::Keep,
        fragment: Fragment::Keep,
        ..rules()
    };
    for (url, expected) in [
        ("https://a.example/b/", "https://a.example/b/"),
        ("https://a.example/b//?x#", "https://a.example/b//"),
        ("https://a.example", "https://a.example/"),
        ("/#/cart?step=2", "/#/cart?step=2"),
        ("/a?x=1#y", "/a#y"),
    ] {
        assert_eq!(page(&keep, url), expected);
    }
}

#[test]
fn the_first_template_that_matches_a_path_stands_in_its_place() {
    let rules = with_templates(&[
        "/product/new",
        "/product/:id",
        "/:lang/product/:id/reviews",
        "/docs/*page",
    ]);
    for (url, expected) in [
        ("/product/new", "/product/new"),
        ("/product/42?x=1", "/product/:id"),
        ("/product/42/", "/product/:id"),
        ("/product/", "/product"),
        ("/product//", "/product"),
        ("/product/4/2", "/product/4/2"),
        ("/Product/4", "/Product/4"),
        ("/product/*", "/product/*"),
        ("/de/product/7/reviews", "/:lang/product/:id/reviews"),
        ("//product/7/reviews", "//product/7/reviews"),
        ("/docs/a", "/docs/*page"),
        ("/docs/a/b/c/", "/docs/*page"),
        ("/docs//b", "/docs/*page"),
        ("/docs/", "/docs"),
        ("/docsa/b", "/docsa/b"),
        (
            "HTTP://A.example:80/product/1#x",
            "http://a.example/product/:id",
        ),
    ] {
        assert_eq!(page(&rules, url), expected);
    }
    let all = with_templates(&["/*all"]);
    assert_eq!(page(&all, "https://a.example/b"), "https://a.example/*all");
    assert_eq!(page(&all, "https://a.example/"), "https://a.example/");
    assert_eq!(page(&all, "https://a.example"), "https://a.example/");
}

#[test]
fn a_template_is_a_path_of_segments_with_names_for_those_that_differ() {
    let pattern = |text: &str| text.parse::<Template>();
    for text in [
        "/a",
        "/:a",
        "/a/:b_1/c",
        "/*rest",
        "/a/*rest",
        "/é",
        "/a:b",
        "/a*",
    ] {
        assert_eq!(pattern(text).unwrap().to_string(), text);
    }
    for text in [
        "", "/", "a", "a/:b", "/a/", "//a", "/a//b", "/:", "/*", "/:1", "/:a-b", "/*rest/a",
        "/a?b", "/a#b", "/a b", "/:a:b",
    ] {
        assert!(pattern(text).is_err(), "{text}");
    }
    assert!(pattern(&format!("/{}", "é".repeat(254))).is_ok());
    let error = pattern(&format!("/{}", "é".repeat(255))).unwrap_err();
    assert!(error.to_string().ends_with("of at most 255 characters"));
    let stored = serde_json::from_str::<Template>("\"/a/:b\"").unwrap();
    assert_eq!(serde_json::to_string(&stored).unwrap(), "\"/a/:b\"");
}

/// All paths of so many of these segments.
fn paths(segments: &[&str], most: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..most {
        let until = all.len();
        for at in from..until {
            all.extend(
                segments
                    .iter()
                    .map(|segment| format!("{}/{segment}", all[at]))
                    .collect::<Vec<_>>(),
            );
        }
        from = until;
    }
    all
}

#[test]
fn whichever_of_two_templates_comes_first_a_page_is_its_own_page() {
    let literal = paths(&["a", ":b"], 2);
    let rest = literal.iter().map(|path| format!("{path}/*rest"));
    let templates: Vec<String> = literal.iter().skip(1).cloned().chain(rest).collect();
    let urls = paths(&["a", "x", "*rest", ":b"], 4);
    for first in &templates {
        for second in &templates {
            let pages = Pages::new(&with_templates(&[first, second]));
            for url in &urls {
                let page = pages.page(url);
                assert_eq!(pages.page(&page), page, "{first}, {second}: {url}");
            }
        }
    }
}

#[test]
fn a_page_that_is_a_part_of_its_url_is_not_copied() {
    let pages = Pages::new(&with_templates(&["/product/:id"]));
    for url in ["/a?x", "https://a.example:8080/b/?c#d", "/", "x?y"] {
        assert!(matches!(pages.page(url), Cow::Borrowed(_)), "{url}");
    }
}

#[test]
fn the_host_is_that_of_the_url_in_lower_case() {
    for (url, expected) in [
        (
            "https://user:a@b@WWW.Shop.example:8443/x",
            Some("www.shop.example"),
        ),
        ("//a.example", Some("a.example")),
        ("android-app://com.example.Mail/", Some("com.example.mail")),
        ("http://[2001:DB8::1]/", Some("[2001:db8::1]")),
        ("/a", None),
        ("a.example/b", None),
        ("mailto:a@b.example", None),
        ("http://", None),
        ("direct", None),
    ] {
        assert_eq!(host(url).as_deref(), expected, "{url}");
    }
}

/// Texts that look like URLs more often than not.
fn url() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "http", "HTTPS", "://", "//", "/", "a", "A", "é", ":", "80", "443", "?", "&", "=", "#",
        "@", "[", "]", "*", "\\", "id", "%2F", " ", "product", ":id", "*rest", "docs", "..",
    ]);
    prop_oneof![
        prop::collection::vec(piece.clone(), 0..14).prop_map(|pieces| pieces.concat()),
        prop::collection::vec(piece, 0..12)
            .prop_map(|pieces| format!("https://a/{}", pieces.concat())),
        any::<String>(),
    ]
}

fn any_rules() -> impl Strategy<Value = PageRules> {
    let segment = prop::sample::select(vec!["a", "product", ":id", ":x", "docs", "é", ".."]);
    let template = (
        prop::collection::vec(segment, 1..4),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(segments, rest)| {
            let tail = if rest { "/*rest" } else { "" };
            format!("/{}{tail}", segments.join("/")).parse().unwrap()
        });
    (
        any::<bool>(),
        any::<bool>(),
        prop::sample::subsequence(vec!["id".to_owned(), "a".to_owned()], 0..3),
        prop::collection::vec(template, 0..5),
    )
        .prop_map(|(slash, fragment, query, templates)| PageRules {
            trailing_slash: [TrailingSlash::Remove, TrailingSlash::Keep][usize::from(slash)],
            fragment: [Fragment::Remove, Fragment::Keep][usize::from(fragment)],
            query,
            templates,
            max_per_window: None,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_page_is_its_own_page(rules in any_rules(), url in url()) {
        let pages = Pages::new(&rules);
        let page = pages.page(&url).into_owned();
        prop_assert_eq!(pages.page(&page), page.as_str());
    }

    #[test]
    fn a_page_is_no_longer_than_its_url_and_the_template_that_it_shows(rules in any_rules(), url in url()) {
        let page = Pages::new(&rules).page(&url).into_owned();
        let more = rules.templates.iter().map(|template| template.text().len()).max();
        prop_assert!(page.len() <= url.len() + more.unwrap_or(1));
        prop_assert!(url.is_empty() || !page.is_empty());
    }

    #[test]
    fn hosts_are_those_that_browsers_find(host in "[a-zA-Z]([a-zA-Z0-9-]{0,8}[a-z])?(\\.[A-Z][a-z]{1,4}){0,2}", port in prop::option::of(1..65_536_u32), path in "[/?#][a-z/?#@:]{0,8}") {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let text = format!("https://u:p@{host}{port}{path}");
        let url = url::Url::parse(&text).unwrap();
        let found = super::host(&text);
        prop_assert_eq!(found.as_deref(), url.host_str());
        // a browser's URL without user, query and fragment is the page with all slashes kept
        let mut bare = url.clone();
        bare.set_username("").unwrap();
        bare.set_password(None).unwrap();
        bare.set_query(None);
        bare.set_fragment(None);
        let keep = PageRules { trailing_slash: TrailingSlash::Keep, ..rules() };
        let page = Pages::new(&keep).page(&text).into_owned();
        prop_assert_eq!(page, bare.as_str());
    }
}
