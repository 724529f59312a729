#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use super::*;

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, SettingsError> {
    Settings::read(|wanted| {
        variables
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn with(more: &[(&str, &str)]) -> Settings {
    let mut variables = vec![ENDPOINT];
    variables.extend(more);
    read(&variables).unwrap().unwrap()
}

#[test]
fn nothing_is_traced_unless_an_endpoint_is_named() {
    assert_eq!(read(&[]).unwrap(), None);
    assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap(), None);
    assert_eq!(read(&[("OTEL_TRACES_SAMPLER", "always_on")]).unwrap(), None);
}

#[test]
fn tracing_can_be_switched_off_with_an_endpoint_in_place() {
    assert_eq!(
        read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap(),
        None
    );
    assert_eq!(
        read(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).unwrap(),
        None
    );
    assert!(
        read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "false")])
            .unwrap()
            .is_some()
    );
}

#[test]
fn the_shared_endpoint_is_a_base_and_the_one_for_traces_is_the_whole_address() {
    assert_eq!(
        with(&[]).endpoint.as_str(),
        "http://collector:4318/v1/traces"
    );
    let below = read(&[(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "https://vendor.example/otlp/",
    )]);
    assert_eq!(
        below.unwrap().unwrap().endpoint.as_str(),
        "https://vendor.example/otlp/v1/traces"
    );
    let own = with(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:1/x")]);
    assert_eq!(own.endpoint.as_str(), "http://traces:1/x");
}

#[test]
fn without_a_sampler_one_message_in_ten_thousand_is_traced() {
    assert_eq!(with(&[]).sampler, SamplerChoice::Default(0.0001));
    assert_eq!(
        with(&[("OTEL_TRACES_SAMPLER_ARG", "0.5")]).sampler,
        SamplerChoice::Default(0.5)
    );
}

#[test]
fn samplers_have_the_names_and_defaults_of_the_specification() {
    let sampler = |name: &str, arg: &str| {
        let variables = [
            ("OTEL_TRACES_SAMPLER", name),
            ("OTEL_TRACES_SAMPLER_ARG", arg),
        ];
        match with(&variables).sampler {
            SamplerChoice::Named {
                parent_based,
                ratio,
            } => (parent_based, ratio),
            other @ SamplerChoice::Default(_) => panic!("{other:?}"),
        }
    };
    assert_eq!(sampler("always_on", ""), (false, 1.0));
    assert_eq!(sampler("always_off", ""), (false, 0.0));
    assert_eq!(sampler("traceidratio", "0.25"), (false, 0.25));
    assert_eq!(sampler("traceidratio", ""), (false, 1.0));
    assert_eq!(sampler("parentbased_always_on", ""), (true, 1.0));
    assert_eq!(sampler("parentbased_always_off", ""), (true, 0.0));
    assert_eq!(sampler("parentbased_traceidratio", "1e-3"), (true, 0.001));
}

#[test]
fn a_value_that_cannot_be_meant_is_named_with_what_it_may_be() {
    for (variable, value) in [
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_TRACES_SAMPLER_ARG", "NaN"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
    ] {
        let error = read(&[ENDPOINT, (variable, value)]).unwrap_err();
        assert_eq!((error.variable, error.value.as_str()), (variable, value));
        assert!(error.to_string().starts_with(variable), "{error}");
    }
}

#[test]
fn a_password_in_an_address_is_not_shown() {
    let value = "htp://user:hunter2@collector:4318";
    let error = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]).unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains("collector") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn a_batch_is_never_larger_than_the_queue() {
    let settings = with(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100")]);
    assert_eq!((settings.max_queue, settings.max_batch), (100, 100));
}
