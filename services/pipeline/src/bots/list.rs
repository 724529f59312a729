//! What the list holds besides the patterns of `crawler-user-agents`: words by which programs name
//! themselves, collected for this project, and what of the patterns is left out. A list that was
//! released is never changed: rows were written by it. A new one becomes another version.

use super::{HEADLESS, LISTED};

/// A word that holds another one of the list and says nothing.
const NOTHING: u8 = 0;

/// Patterns of the package that user agents of people contain too, with what is looked for instead:
/// `None` is nothing at all.
pub(super) const NARROWED: &[(&str, Option<&str>)] = &[
    // a library of apps: what people do in an app may be reported under its name
    ("okhttp", None),
    // the build of Android 15 that several makes of telephones have in common
    (r"AP3A\.240617\.008", None),
    // the browser inside of Facebook's app
    ("MetaIAB Facebook", None),
    // a browser for single sites on macOS
    ("Fluid", None),
    // the name that CloudFront gives to every visitor, unless it is told to hand agents on
    ("Amazon CloudFront", None),
    // also a make of browsers; its robots call themselves spiders
    ("Sogou", None),
    // names of apps: by itself it is the preview of a link, behind `Mozilla/5.0` it is the browser
    // inside of the app
    ("WhatsApp", Some("^WhatsApp")),
    ("Viber", Some("^Viber")),
    (r"Tumblr\/", Some(r"^Tumblr\/")),
    (r"PayPal\/", Some(r"^PayPal\/")),
    (r"Notion\/", Some(r"^Notion\/")),
    (r"Bluesky\/", Some(r"^Bluesky\/")),
    (r"Instapaper\/", Some(r"^Instapaper\/")),
    (r"Overcast\/", Some(r"^Overcast\/")),
    (r"PocketCasts\/", Some(r"^PocketCasts\/")),
    (r"Stripe\/", Some(r"^Stripe\/")),
    (r"Salesforce\.com", Some(r"^Salesforce\.com")),
    (r"Grammarly\/", Some(r"^Grammarly\/")),
    ("Hatena", Some("^Hatena")),
    ("Blackboard", Some("Blackboard Safeassign")),
    // also where the browser of a portal names it
    (r"mail\.ru", Some(r"top\.mail\.ru\/passremind")),
    // also workstations of hospitals, `SynapseWorkstation.3.2.1`
    ("Synapse", Some("^Synapse ")),
    // also a browser, `Adventurer/1.0.0.1`
    ("Adventurer", Some("^Adventurer$")),
    // also telephones
    ("Butterfly", Some(r"Butterfly\/")),
    ("Fever", Some(r"^Fever\/")),
    ("Sonic", Some(r"Sonic(\/|SiteAuditor)")),
    // also the end of longer names and of builds
    (r"008\/", Some(r"^008\/")),
    (r"RED\/", Some(r"^RED\/")),
    (r"Make\/", Some(r"^Make\/")),
    (r"NING\/", Some(r"^NING\/")),
    (r"BW\/", Some(r"; BW\/")),
    (r"Code\/1\.", Some(r" Code\/1\.")),
];

/// The words. Where they overlap, the one that begins first counts, and the longest of those.
pub(super) const WORDS: &[(&str, u8)] = &[
    // a make of telephones
    ("cubot", NOTHING),
    // what most call themselves
    ("bot", LISTED),
    ("crawl", LISTED),
    ("spider", LISTED),
    ("scraper", LISTED),
    ("scrapy", LISTED),
    // the address of a page about it, which programs put into brackets
    ("+http", LISTED),
    ("fetcher", LISTED),
    ("indexer", LISTED),
    ("expander", LISTED),
    ("archiver", LISTED),
    ("validator", LISTED),
    ("checker", LISTED),
    ("scanner", LISTED),
    ("monitoring", LISTED),
    ("http-client", LISTED),
    ("httpclient", LISTED),
    ("http_client", LISTED),
    // search, advertising and previews of links under names of their own
    ("slurp", LISTED),
    ("mediapartners-google", LISTED),
    ("apis-google", LISTED),
    ("google-inspectiontool", LISTED),
    ("google-read-aloud", LISTED),
    ("google-safety", LISTED),
    ("google web preview", LISTED),
    ("googleother", LISTED),
    ("google-adwords", LISTED),
    ("bingpreview", LISTED),
    ("facebookexternalhit", LISTED),
    ("facebookcatalog", LISTED),
    ("meta-externalagent", LISTED),
    ("skypeuripreview", LISTED),
    ("link preview", LISTED),
    ("embedly", LISTED),
    ("vkshare", LISTED),
    ("feedburner", LISTED),
    ("feedly", LISTED),
    ("feedparser", LISTED),
    ("feedbin", LISTED),
    ("feedzirra", LISTED),
    ("tiny tiny rss", LISTED),
    ("heritrix", LISTED),
    ("ezooms", LISTED),
    ("shortlinktranslate", LISTED),
    ("nutch", LISTED),
    // assistants that read pages for somebody
    ("chatgpt-user", LISTED),
    ("claude-user", LISTED),
    ("claude-web", LISTED),
    ("perplexity-user", LISTED),
    ("cohere-ai", LISTED),
    // tools and libraries; okhttp is left out, since apps of people use it
    ("curl/", LISTED),
    ("libcurl", LISTED),
    ("wget", LISTED),
    ("httpie/", LISTED),
    ("libwww", LISTED),
    ("lwp::", LISTED),
    ("lwp-", LISTED),
    ("python-requests", LISTED),
    ("python-urllib", LISTED),
    ("python-httpx", LISTED),
    ("python/", LISTED),
    ("aiohttp", LISTED),
    ("java/", LISTED),
    ("jakarta commons", LISTED),
    ("guzzlehttp", LISTED),
    ("php/", LISTED),
    ("ruby/", LISTED),
    ("faraday v", LISTED),
    ("restsharp", LISTED),
    ("winhttp", LISTED),
    ("windowspowershell", LISTED),
    ("axios/", LISTED),
    ("node-fetch", LISTED),
    ("undici", LISTED),
    ("got (https://github.com", LISTED),
    ("reqwest/", LISTED),
    ("postmanruntime", LISTED),
    ("insomnia/", LISTED),
    ("k6/", LISTED),
    ("apachebench", LISTED),
    ("jmeter", LISTED),
    // who watches sites, or tries them
    ("lighthouse", LISTED),
    ("pingdom", LISTED),
    ("gtmetrix", LISTED),
    ("pagespeed", LISTED),
    ("ptst/", LISTED),
    ("statuscake", LISTED),
    ("site24x7", LISTED),
    ("uptime", LISTED),
    ("datadog", LISTED),
    ("newrelicpinger", LISTED),
    ("catchpoint", LISTED),
    ("dareboost", LISTED),
    ("screaming frog", LISTED),
    ("httrack", LISTED),
    ("kube-probe", LISTED),
    ("elb-healthchecker", LISTED),
    ("googlehc/", LISTED),
    ("nmap", LISTED),
    ("nikto", LISTED),
    ("sqlmap", LISTED),
    ("zgrab", LISTED),
    ("masscan", LISTED),
    ("nuclei", LISTED),
    ("censysinspect", LISTED),
    // browsers that programs drive
    ("headless", HEADLESS),
    ("phantomjs", HEADLESS),
    ("slimerjs", HEADLESS),
    ("puppeteer", HEADLESS),
    ("playwright", HEADLESS),
    ("cypress/", HEADLESS),
    ("selenium", HEADLESS),
    ("jsdom/", HEADLESS),
    ("htmlunit", HEADLESS),
    ("prerender", HEADLESS),
];
