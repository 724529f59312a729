//! Which user agents are signals for a program, and which are not.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use sha2::{Digest as _, Sha256};

use super::*;

/// User agents that the package has seen, one in seventeen.
const SAMPLES: &str = include_str!("crawler-user-agents/samples.txt");

const SAFARI: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 \
                      (KHTML, like Gecko) Version/17.4 Safari/605.1.15";

fn signals(agent: &str) -> u8 {
    super::signals(BotList::NEWEST, Some(agent))
}

#[test]
fn browsers_and_apps_of_people_are_no_signal() {
    for agent in [
        SAFARI,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/124.0.0.0 Safari/537.36 Edg/124.0.0.0",
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like \
         Gecko) CriOS/124.0.6367.71 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (Linux; Android 11; CUBOT KINGKONG 5) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/124.0.6367.82 Mobile Safari/537.36",
        "Opera/9.80 (Windows NT 6.1; WOW64) Presto/2.12.388 Version/12.18",
        "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; SLCC2)",
        "okhttp/4.12.0",
        "x",
    ] {
        assert_eq!(signals(agent), 0, "{agent}");
    }
}

#[test]
fn programs_that_name_themselves_are_listed_however_they_write_it() {
    for agent in [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
        "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "curl/8.7.1",
        "Wget/1.21.4",
        "python-requests/2.31.0",
        "Go-http-client/2.0",
        "Java/17.0.9",
        "SOMETHING-CRAWLER",
        "Cubot-Crawler",
        "kube-probe/1.31",
        "Kml-Google; (+http://code.google.com/apis/kml), gzip",
    ] {
        assert_eq!(signals(agent), LISTED, "{agent}");
    }
}

#[test]
fn a_browser_without_a_screen_is_a_signal_of_its_own() {
    let agent = SAFARI.replace("Version/17.4", "HeadlessChrome/124.0.0.0");
    assert_eq!(signals(&agent), HEADLESS);
    assert_eq!(
        signals(&format!("{agent} Googlebot/2.1")),
        HEADLESS | LISTED
    );
}

#[test]
fn no_user_agent_is_a_signal_and_so_is_an_empty_one() {
    let bots = Bots::new(BotList::NEWEST);
    for agent in [None, Some(""), Some(" "), Some("-")] {
        assert_eq!(bots.signals(agent), NO_AGENT);
    }
}

#[test]
fn what_the_package_has_seen_is_a_signal() {
    let samples = SAMPLES.lines().filter(|line| !line.starts_with('#'));
    let unmarked: Vec<&str> = samples.filter(|agent| signals(agent) == 0).collect();
    assert_eq!(unmarked, [""; 0]);
    assert!(SAMPLES.lines().count() > 100);
}

#[test]
fn browsers_inside_of_apps_are_no_signal_and_previews_of_links_are() {
    let iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 \
                  (KHTML, like Gecko) Mobile/15E148";
    let android = "Mozilla/5.0 (Linux; Android 15; CPH2557 Build/AP3A.240617.008; wv) \
                   AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/142.0.7444.142 Mobile \
                   Safari/537.36";
    for app in [
        "",
        "[FBAN/FBIOS;FBAV/465.0.0.36.106;FBBV/605131713;FBDV/iPhone15,2;FBSN/iOS;FBLC/de_DE]",
        "[FB_IAB/FB4A;FBAV/465.0.0.45.81;IABMV/1;]",
        "MetaIAB Facebook",
        "Instagram 332.0.2.23.90 (iPhone15,2; iOS 17_4; de_DE; scale=3.00; 1179x2556; 599628146)",
        "Barcelona 324.0.0.22.74 (iPhone15,2; iOS 17_4)",
        "Twitter for iPhone/10.35",
        "[Pinterest/iOS]",
        "[Pinterest/Android]",
        "WhatsApp/2.24.8.85",
        "Viber/22.5.0",
        "GSA/317.0.634488990",
        "Snapchat/12.81.0.43 (like Safari/8617.1.17.10.9, panda)",
        "[LinkedInApp]/9.30.1083",
        "LinkedInApp",
        "DuckDuckGo/7 Safari/605.1.15",
        "Ddg/17.4",
        "musical_ly_34.2.0 JsSdk/2.0 NetType/WIFI Channel/App Store BytedanceWebview/d8a21c6",
        "MicroMessenger/8.0.49(0x18003127) NetType/WIFI Language/zh_CN",
        "Line/14.5.1/IAB",
        "KAKAOTALK 10.7.1",
        "NAVER(inapp; search; 2000; 12.5.2; 15PRO)",
        "Telegram-Android/10.11.1",
        "Slack_SSB/4.38.125",
        "Tumblr/iPhone/34.8",
        "PayPal/8.60.0",
        "baiduboxapp/13.55.0.10",
        "SogouMobileBrowser/5.28.12",
        "SogouSearch iOS1.0 AppVersion/5909",
        "Hatena-BookMark-Android/5.3",
        "Teams/6.6.0",
        "Reddit/Version 2024.14.0/Build 615029/iOS Version 17.4",
    ] {
        for system in [iphone, android] {
            let agent = format!("{system} {app}");
            assert_eq!(signals(&agent), 0, "{agent}");
        }
    }
    for people in [
        "Mozilla/5.0 (Windows NT 10.0; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/58.0.3029.110 Safari/537.36 SE 2.X MetaSr 1.0",
        "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 5.1; Trident/4.0; SynapseWorkstation.3.2.1)",
        "Mozilla/5.0 (Linux; U; Android 4.1.1; zh-tw; HTC Butterfly Build/JRO03C) AppleWebKit/534.30",
        "Mozilla/5.0 (Windows NT 6.0) AppleWebKit/535.11 (KHTML, like Gecko) Chrome/17.0.963.65 \
         Adventurer/1.0.0.1 Safari/535.11",
        "Mozilla/5.0 (Macintosh; U; Intel Mac OS X 10_5_6; en-us) AppleWebKit/528.16 (KHTML, like \
         Gecko) Fluid/0.9.6 Safari/528.16",
        "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) \
         coc_coc_browser/50.3.130 Chrome/44.3.2403.130 Safari/537.36",
        "Mozilla/5.0 (SMART-TV; Linux; Tizen 5.0; Panasonic) AppleWebKit/538.1",
        "Amazon CloudFront",
    ] {
        assert_eq!(signals(people), 0, "{people}");
    }
    for preview in [
        "WhatsApp/2.24.8.85 A",
        "WhatsApp",
        "Viber",
        "Twitterbot/1.0",
        "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
        "TelegramBot (like TwitterBot)",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
        "Pinterest/0.2 (+https://www.pinterest.com/bot.html)",
        "Snap URL Preview Service; bot; snapchat; https://developers.snap.com/robots",
        "facebookexternalhit/1.1",
        "Tumblr/14.0.835.186",
        "HatenaBookmark/4.0 (Hatena::Bookmark; Analyzer)",
        "Synapse (bot; +https://github.com/matrix-org/synapse)",
    ] {
        assert_eq!(signals(preview), LISTED, "{preview}");
    }
}

#[test]
fn a_pattern_counts_with_its_case_its_classes_and_its_anchors() {
    for (agent, signal) in [
        // plain texts, one inside of an agent, one with escapes
        ("x Genieo x", LISTED),
        ("x genieo x", 0),
        ("Mozilla/5.0 (X11; Linux x86_64; Rigor) Safari", LISTED),
        // classes
        ("ContextualWeb ContextualBo; outcomes.net", 0),
        ("Current/1.0; https://currentreader.app; RSS Reader", LISTED),
        // anchors
        ("LCC (http://example.org)", LISTED),
        ("x LCC (http://example.org)", 0),
        ("SSL Labs", LISTED),
        ("SSL Labs x", 0),
        // a space at the end of the pattern
        ("Pulsepoint XT3", LISTED),
        ("PulsepointXT3", 0),
        // driven by a program
        ("Mozilla/5.0 (X11) Safari/537.36; Manus-User/1.0", HEADLESS),
        ("Mozilla/5.0 (X11) HeadlessChrome/124.0.0.0", HEADLESS),
    ] {
        assert_eq!(signals(agent), signal, "{agent}");
    }
}

#[test]
fn what_is_narrowed_is_in_the_package_and_stays_a_pattern() {
    for (pattern, instead) in list::NARROWED {
        assert!(
            matcher::listed().any(|(_, listed)| listed == *pattern),
            "{pattern}"
        );
        assert_ne!(Some(*pattern), *instead);
    }
    assert_eq!(matcher::listed().count(), 1_500);
}

#[test]
fn words_are_in_lower_case_and_none_comes_twice() {
    let mut words: Vec<&str> = list::WORDS.iter().map(|(word, _)| *word).collect();
    assert!(words.iter().all(|word| *word == word.to_ascii_lowercase()));
    let listed = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), listed);
}

/// What is in the list is part of what anchors mean: with another hash comes another version.
#[test]
fn a_version_of_the_list_never_changes() {
    let mut hash = Sha256::new();
    hash.update(matcher::PATTERNS.split_once('\n').unwrap().1);
    hash.update(format!("{:?}{:?}", list::WORDS, list::NARROWED));
    let hash = format!("{:x}", hash.finalize());
    assert_eq!(
        (u8::from(BotList::NEWEST), &hash[..16]),
        (1, "3fd17fe313fb5726")
    );
}

#[test]
fn the_list_takes_less_than_a_mebibyte() {
    let bytes = Matcher::of(BotList::NEWEST).memory();
    assert!(bytes < 1 << 20, "{bytes}");
}

#[test]
fn an_agent_has_the_same_signals_each_time_and_no_more_than_so_many_are_remembered() {
    let bots = Bots::new(BotList::NEWEST);
    for number in 0..3 * MOST_KNOWN {
        let (visitor, program) = (format!("Opera/{number}"), format!("curl/{number}"));
        for _ in 0..2 {
            assert_eq!(bots.signals(Some(&visitor)), 0);
            assert_eq!(bots.signals(Some(&program)), LISTED);
        }
        let known = bots.known.lock().unwrap();
        assert!(known.newer.len() + known.older.len() <= MOST_KNOWN);
    }
    let waits = bots.known.lock().unwrap();
    assert_eq!(bots.signals(Some("curl/8")), LISTED);
    drop(waits);
    assert_eq!(bots.clone().signals(Some("curl/8")), LISTED);
}
