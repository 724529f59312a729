//! The standard `OTEL_*` variables: which are understood, and what is wrong with one that is not.
//!
//! A value that cannot be meant ends the start. Dropping it silently, as the specification allows,
//! would show as traces that are missing or as a bill.

use std::str::FromStr;
use std::time::Duration;

use url::Url;

/// One message in so many is traced unless `OTEL_TRACES_SAMPLER_ARG` says otherwise. At 10,000
/// events a second that is one trace of about ten spans a second, 5 kB/s to the Collector, and a
/// header on one record in ten thousand of the log.
pub const DEFAULT_RATIO: f64 = 1.0 / 10_000.0;

/// A traced process: where its spans go and which there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where spans are posted to, with the path.
    pub endpoint: Url,
    /// Which traces are recorded.
    pub sampler: SamplerChoice,
    /// Longest time for one request, retries included.
    pub timeout: Duration,
    /// Spans that wait at most; further ones are dropped and counted.
    pub max_queue: usize,
    /// Spans in one request at most.
    pub max_batch: usize,
    /// Longest time that a span waits for others.
    pub delay: Duration,
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SamplerChoice {
    /// Nothing is set, or the ratio alone: this part of the messages, and every operation that is
    /// no message (they are rare). What another process began is recorded if that one records it.
    Default(f64),
    /// What the specification calls by a name.
    Named {
        /// What another process began is recorded if that one records it.
        parent_based: bool,
        /// This part of all other traces, 0 to 1.
        ratio: f64,
    },
}

/// A variable that cannot be followed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{variable}: {value:?} cannot be used: {expected}")]
pub struct SettingsError {
    /// The variable.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// What it may be.
    pub expected: &'static str,
}

impl Settings {
    /// The settings that the variables give; `None` where nothing is to be traced. `variable` looks
    /// one up.
    ///
    /// # Errors
    /// [`SettingsError`] names the variable and what it may be.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SettingsError> {
        let env = Env(&variable);
        if env.flag("OTEL_SDK_DISABLED")? || !env.exports()? {
            return Ok(None);
        }
        let Some(endpoint) = env.endpoint()? else {
            return Ok(None);
        };
        env.protocol()?;
        env.compression()?;
        env.resource_attributes()?;
        for variable in [
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
        ] {
            if let Some(value) = env.get(variable) {
                return Err(wrong(
                    variable,
                    value,
                    "not supported; SSL_CERT_FILE names the authorities to trust, and a Collector beside the pods holds client certificates",
                ));
            }
        }
        let timeout = match env.get("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT") {
            Some(_) => env.millis("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", 10_000)?,
            None => env.millis("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000)?,
        };
        let max_queue = env.count("OTEL_BSP_MAX_QUEUE_SIZE", 2_048)?;
        Ok(Some(Self {
            endpoint,
            sampler: env.sampler()?,
            timeout,
            max_queue,
            max_batch: env
                .count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?
                .min(max_queue),
            delay: env.millis("OTEL_BSP_SCHEDULE_DELAY", 5_000)?,
        }))
    }
}

struct Env<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Env<'_> {
    /// An empty variable is one that is not set.
    fn get(&self, variable: &str) -> Option<String> {
        let value = (self.0)(variable)?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    fn flag(&self, variable: &'static str) -> Result<bool, SettingsError> {
        match self.get(variable) {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(wrong(variable, value, "expected true or false")),
        }
    }

    fn exports(&self) -> Result<bool, SettingsError> {
        let variable = "OTEL_TRACES_EXPORTER";
        match self.get(variable).as_deref() {
            None | Some("otlp") => Ok(true),
            Some("none") => Ok(false),
            Some(other) => Err(wrong(variable, other.to_owned(), "expected otlp or none")),
        }
    }

    fn endpoint(&self) -> Result<Option<Url>, SettingsError> {
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        if let Some(value) = self.get(own) {
            return address(own, value).map(Some);
        }
        let shared = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let Some(value) = self.get(shared) else {
            return Ok(None);
        };
        let mut endpoint = address(shared, value)?;
        // the shared one is a base: spans have a path of their own below it
        let path = format!("{}/v1/traces", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        Ok(Some(endpoint))
    }

    fn protocol(&self) -> Result<(), SettingsError> {
        let variables = [
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ];
        // the one for traces wins, so only the first that is set counts
        let set = variables
            .into_iter()
            .find_map(|variable| Some((variable, self.get(variable)?)));
        match set {
            Some((variable, value)) if value != "http/protobuf" => Err(wrong(
                variable,
                value,
                "this program speaks http/protobuf, which Collectors serve at port 4318",
            )),
            _ => Ok(()),
        }
    }

    fn compression(&self) -> Result<(), SettingsError> {
        for variable in [
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
        ] {
            match self.get(variable) {
                Some(value) if value != "gzip" => {
                    return Err(wrong(variable, value, "expected gzip or nothing"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn resource_attributes(&self) -> Result<(), SettingsError> {
        let variable = "OTEL_RESOURCE_ATTRIBUTES";
        let Some(value) = self.get(variable) else {
            return Ok(());
        };
        let is_pair = |pair: &str| {
            pair.split_once('=')
                .is_some_and(|(name, _)| !name.trim().is_empty())
        };
        if value.split_terminator(',').all(is_pair) {
            Ok(())
        } else {
            Err(wrong(variable, value, "expected name=value,name=value"))
        }
    }

    fn sampler(&self) -> Result<SamplerChoice, SettingsError> {
        let variable = "OTEL_TRACES_SAMPLER";
        let ratio = self.ratio()?;
        let named = |parent_based, ratio| SamplerChoice::Named {
            parent_based,
            ratio,
        };
        Ok(match self.get(variable).as_deref() {
            None => SamplerChoice::Default(ratio.unwrap_or(DEFAULT_RATIO)),
            Some("always_on") => named(false, 1.0),
            Some("always_off") => named(false, 0.0),
            // without a ratio the specification says all
            Some("traceidratio") => named(false, ratio.unwrap_or(1.0)),
            Some("parentbased_always_on") => named(true, 1.0),
            Some("parentbased_always_off") => named(true, 0.0),
            Some("parentbased_traceidratio") => named(true, ratio.unwrap_or(1.0)),
            Some(other) => {
                return Err(wrong(
                    variable,
                    other.to_owned(),
                    "expected always_on, always_off, traceidratio, or one of these with parentbased_ before it",
                ));
            }
        })
    }

    fn ratio(&self) -> Result<Option<f64>, SettingsError> {
        let variable = "OTEL_TRACES_SAMPLER_ARG";
        let Some(value) = self.get(variable) else {
            return Ok(None);
        };
        match f64::from_str(&value) {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Some(ratio)),
            _ => Err(wrong(variable, value, "expected a number from 0 to 1")),
        }
    }

    fn millis(&self, variable: &'static str, default: u64) -> Result<Duration, SettingsError> {
        let Some(value) = self.get(variable) else {
            return Ok(Duration::from_millis(default));
        };
        match value.parse::<u32>() {
            Ok(millis) => Ok(Duration::from_millis(u64::from(millis))),
            Err(_) => Err(wrong(variable, value, "expected milliseconds")),
        }
    }

    fn count(&self, variable: &'static str, default: usize) -> Result<usize, SettingsError> {
        /// Spans are kept in memory: about 1 KiB each.
        const MOST: usize = 1_000_000;
        let Some(value) = self.get(variable) else {
            return Ok(default);
        };
        match value.parse::<usize>() {
            Ok(count) if (1..=MOST).contains(&count) => Ok(count),
            _ => Err(wrong(
                variable,
                value,
                "expected a number from 1 to 1000000",
            )),
        }
    }
}

fn address(variable: &'static str, value: String) -> Result<Url, SettingsError> {
    match Url::parse(&value) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(wrong(
            variable,
            // what stands before an @ is a password, as a rule
            match value.rsplit_once('@') {
                Some((_, rest)) => format!("…@{rest}"),
                None => value,
            },
            "expected the Collector's address, such as http://otel-collector:4318",
        )),
    }
}

fn wrong(variable: &'static str, value: String, expected: &'static str) -> SettingsError {
    SettingsError {
        variable,
        value,
        expected,
    }
}

#[cfg(test)]
mod tests;
