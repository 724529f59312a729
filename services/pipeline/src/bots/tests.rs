//! Which user agents are signals for a program, and which are not.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

const SAFARI: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 \
                      (KHTML, like Gecko) Version/17.4 Safari/605.1.15";

fn signals(agent: &str) -> u8 {
    Bots::new(BotList::NEWEST).signals(Some(agent))
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
fn words_are_in_lower_case_and_none_comes_twice() {
    let mut words: Vec<&str> = list::FIRST.iter().map(|(word, _)| *word).collect();
    assert!(words.iter().all(|word| *word == word.to_ascii_lowercase()));
    let listed = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), listed);
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
        assert!(bots.known.lock().unwrap().len() <= MOST_KNOWN);
    }
    let waits = bots.known.lock().unwrap();
    assert_eq!(bots.signals(Some("curl/8")), LISTED);
    drop(waits);
    assert_eq!(bots.clone().signals(Some("curl/8")), LISTED);
}
