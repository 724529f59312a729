//! The testbed's Kubernetes API: real objects, real tokens, real rights, and it survives what tests
//! do to it.

use std::{collections::BTreeMap, time::Duration};

use clickstream_testbed::{KubeApi, shared, unique_name};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, ServiceAccount},
};
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};

async fn client_of(kubeconfig: &std::path::Path) -> anyhow::Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn own_namespace(api: &KubeApi) -> anyhow::Result<String> {
    let name = unique_name("test").replace('_', "-");
    api.create_namespace(&name).await?;
    Ok(name)
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.data = Some(BTreeMap::from([("key".to_owned(), value.to_owned())]));
    map
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

#[tokio::test]
async fn an_object_comes_back_and_a_token_speaks_for_its_account() -> anyhow::Result<()> {
    let api = shared::kube_api().await?;
    let namespace = own_namespace(api).await?;
    let client = api.client().await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    maps.create(&PostParams::default(), &config_map("kept", "value"))
        .await?;
    let data = maps.get("kept").await?.data.unwrap_or_default();
    assert_eq!(data.get("key").map(String::as_str), Some("value"));

    let accounts: Api<ServiceAccount> = Api::namespaced(client, &namespace);
    let mut robot = ServiceAccount::default();
    robot.metadata.name = Some("robot".to_owned());
    accounts.create(&PostParams::default(), &robot).await?;
    let wanted = TokenRequest {
        spec: TokenRequestSpec::default(),
        ..TokenRequest::default()
    };
    let issued = accounts
        .create_token_request("robot", &PostParams::default(), &wanted)
        .await?;
    let token = issued.status.map(|status| status.token).unwrap_or_default();
    let robot = client_of(&api.kubeconfig_with_token(&token)?).await?;
    let refusal = Api::<ConfigMap>::namespaced(robot, &namespace)
        .get("kept")
        .await
        .expect_err("nobody granted the account anything");
    assert!(is_forbidden(&refusal), "{refusal}");
    let account = format!("system:serviceaccount:{namespace}:robot");
    assert!(refusal.to_string().contains(&account), "{refusal}");
    Ok(())
}

#[tokio::test]
async fn another_user_may_only_what_its_groups_may() -> anyhow::Result<()> {
    let api = shared::kube_api().await?;
    let nobody = client_of(&api.kubeconfig_as("eve", &["visitors"])?).await?;
    let maps = Api::<ConfigMap>::namespaced(nobody, "default");
    let refusal = maps.list(&ListParams::default()).await;
    assert!(refusal.is_err_and(|error| is_forbidden(&error)));
    let master = client_of(&api.kubeconfig_as("eve", &["system:masters"])?).await?;
    let maps = Api::<ConfigMap>::namespaced(master, "default");
    maps.list(&ListParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn what_was_stored_survives_a_killed_server_and_a_killed_etcd() -> anyhow::Result<()> {
    let api = KubeApi::start().await?;
    let client = api.client().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.create(&PostParams::default(), &config_map("first", "1"))
        .await?;
    api.restart().await?;
    maps.create(&PostParams::default(), &config_map("second", "2"))
        .await?;
    api.restart_etcd().await?;
    maps.get("first").await?;
    maps.get("second").await?;

    api.stop().await?;
    assert!(
        maps.get("first").await.is_err(),
        "a stopped server must not answer"
    );
    api.start_again().await?;
    maps.get("first").await?;
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_answers_after_it_goes_on() -> anyhow::Result<()> {
    let api = KubeApi::start().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(api.client().await?);
    maps.list(&ListParams::default()).await?;
    api.stop_signal()?;
    let all = ListParams::default();
    let mut answer = Box::pin(maps.list(&all));
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut answer)
            .await
            .is_err(),
        "a frozen server must not answer"
    );
    api.continue_signal()?;
    tokio::time::timeout(Duration::from_secs(30), answer).await??;
    Ok(())
}
