//! Topics: what the brokers say about them, what the spec wants of them, and the requests in
//! between.

mod admin;
mod admins;
pub mod plan;

pub use self::{
    admin::{AdminError, TopicAdmin},
    admins::{Account, TopicAdmins},
};

/// The properties as the operator has to have them: a broker named without a domain is one in the
/// pipeline's namespace, where the pods that read the same document resolve it.
pub fn from_elsewhere(properties: Vec<(String, String)>, namespace: &str) -> Vec<(String, String)> {
    properties
        .into_iter()
        .map(|(key, value)| match key.as_str() {
            "bootstrap.servers" => {
                let brokers: Vec<_> = value
                    .split(',')
                    .map(|broker| qualified(broker, namespace))
                    .collect();
                (key, brokers.join(","))
            }
            _ => (key, value),
        })
        .collect()
}

/// A broker as the operator has to name it.
pub fn qualified(broker: &str, namespace: &str) -> String {
    match broker.rsplit_once(':') {
        Some((host, port)) if !host.contains(['.', ':']) && host != "localhost" => {
            format!("{host}.{namespace}.svc:{port}")
        }
        _ => broker.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::from_elsewhere;

    #[test]
    fn a_broker_without_a_domain_is_one_of_the_pipelines_namespace() {
        let servers = "kafka:9092,b.example.com:9093,10.0.0.1:9,[::1]:9,localhost:9".to_owned();
        let found = from_elsewhere(vec![("bootstrap.servers".to_owned(), servers)], "shop");
        assert_eq!(
            found[0].1,
            "kafka.shop.svc:9092,b.example.com:9093,10.0.0.1:9,[::1]:9,localhost:9"
        );
    }
}
