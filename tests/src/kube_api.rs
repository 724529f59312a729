//! A Kubernetes API without a cluster: etcd and kube-apiserver as child processes, with TLS, RBAC
//! and service-account tokens.
//!
//! There is no node and no controller: nobody runs pods or Jobs, collects orphans, fills namespaces
//! with service accounts or empties deleted ones. Tests play those parts where they need them.

mod kubeconfig;

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use parking_lot::Mutex;

use clickstream_tools::{Tool, ensure, kubernetes::Assets};

use self::kubeconfig::Identity;
use crate::{
    loopback,
    ports::free_port,
    process::{Guard, Process},
    run_dir,
};

/// Longest time to answer on a busy machine (it takes 3 s on an idle one).
const START_TIMEOUT: Duration = Duration::from_secs(90);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Longest time for one answer while the API server is starting.
const ANSWER: Duration = Duration::from_secs(5);

/// What a Kubernetes API shall be like.
#[derive(Debug, Clone, Default)]
pub struct KubeApiOptions {
    /// Flags of kube-apiserver beside the testbed's, such as `--max-requests-inflight=10`.
    pub flags: Vec<String>,
}

/// A running kube-apiserver with an etcd of its own. Both are killed on drop.
///
/// It keeps its port, its certificate and its data across [`KubeApi::kill`], [`KubeApi::stop`] and
/// [`KubeApi::restart`].
pub struct KubeApi {
    launch: Launch,
    etcd: Mutex<Process>,
    api_server: Mutex<Process>,
}

#[derive(Debug)]
struct Launch {
    assets: Assets,
    dir: PathBuf,
    /// Of kube-apiserver, TLS.
    port: u16,
    etcd_port: u16,
    etcd_peer_port: u16,
    /// The bearer token of the user `admin` in the group `system:masters`.
    token: String,
    /// The administrator's.
    kubeconfig: PathBuf,
    flags: Vec<String>,
}

impl KubeApi {
    /// Starts both with default options and waits until the namespaces `default` and `kube-system`
    /// are there.
    ///
    /// # Errors
    /// When one of them ends or does not answer in time (with the end of its log), and when the
    /// programs cannot be had.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(KubeApiOptions::default()).await
    }

    /// As [`KubeApi::start`], with options.
    ///
    /// # Errors
    /// As [`KubeApi::start`].
    pub async fn start_with(options: KubeApiOptions) -> anyhow::Result<Self> {
        // a port can be taken between looking for it and binding it
        for _ in 0..3 {
            let flags = options.flags.clone();
            let launch = tokio::task::spawn_blocking(|| prepare(flags)).await??;
            let api = Self {
                etcd: Mutex::new(spawn_etcd(&launch)?),
                api_server: Mutex::new(spawn_api_server(&launch)?),
                launch,
            };
            match api.wait_ready().await {
                Ok(()) => return Ok(api),
                Err(error) if api.lost_a_port() => {
                    tracing::warn!(%error, "the kubernetes api lost a port to another process, starting again");
                }
                Err(error) => return Err(error),
            }
        }
        bail!("the Kubernetes API found its ports taken three times in a row")
    }

    /// A kubeconfig of the administrator, for `kubectl`, `helm` and the programs under test.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        &self.launch.kubeconfig
    }

    /// A kubeconfig of another user, who has only what RBAC grants to the name and the groups (the
    /// administrator impersonates them).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig_as(&self, user: &str, groups: &[&str]) -> anyhow::Result<PathBuf> {
        let identity = Identity::Impersonated {
            token: &self.launch.token,
            user,
            groups,
        };
        self.another_kubeconfig(self.launch.port, &identity)
    }

    /// A kubeconfig of a service account, from a token of it (subresource `token`).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig_with_token(&self, token: &str) -> anyhow::Result<PathBuf> {
        self.another_kubeconfig(self.launch.port, &Identity::Token(token))
    }

    /// The administrator's kubeconfig, by way of another loopback port: that of a [`crate::Proxy`]
    /// in front of [`KubeApi::port`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig_by_way_of(&self, port: u16) -> anyhow::Result<PathBuf> {
        self.another_kubeconfig(port, &Identity::Token(&self.launch.token))
    }

    /// The administrator's access, for a [`kube::Client`].
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client_config(&self) -> anyhow::Result<Config> {
        let kubeconfig = Kubeconfig::read_from(&self.launch.kubeconfig)?;
        Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
    }

    /// A client of the administrator.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::try_from(self.client_config().await?)?)
    }

    /// Creates a namespace; see [`crate::unique_name`], whose underscores have to become hyphens.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn create_namespace(&self, name: &str) -> anyhow::Result<()> {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        Api::<Namespace>::all(self.client().await?)
            .create(&PostParams::default(), &namespace)
            .await
            .with_context(|| format!("cannot create namespace {name}"))?;
        Ok(())
    }

    /// The loopback port that kube-apiserver serves TLS at.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.launch.port
    }

    /// SIGKILL to kube-apiserver; etcd goes on.
    ///
    /// # Errors
    /// When the system refuses to signal.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.api_server.lock().kill().map(|_| ())
    }

    /// SIGTERM to kube-apiserver, which answers what it has taken and ends; killed after 30 s.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.api_server.lock().terminate()?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.api_server.lock().exited()?.is_none() {
            if Instant::now() >= deadline {
                return self.kill();
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Starts kube-apiserver on the same data and port, after [`KubeApi::kill`] or
    /// [`KubeApi::stop`], and waits until it answers.
    ///
    /// # Errors
    /// When it still runs, or does not answer in time.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        {
            let mut process = self.api_server.lock();
            if process.exited()?.is_none() {
                bail!("kube-apiserver still runs; stop or kill it first");
            }
            *process = spawn_api_server(&self.launch)?;
        }
        self.wait_ready().await
    }

    /// [`KubeApi::kill`], then [`KubeApi::start_again`].
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.kill()?;
        self.start_again().await
    }

    /// SIGSTOP to kube-apiserver: it hangs with its connections open.
    ///
    /// # Errors
    /// When it has ended.
    pub fn stop_signal(&self) -> anyhow::Result<()> {
        self.api_server.lock().stop_signal()
    }

    /// SIGCONT after [`KubeApi::stop_signal`].
    ///
    /// # Errors
    /// When it has ended.
    pub fn continue_signal(&self) -> anyhow::Result<()> {
        self.api_server.lock().continue_signal()
    }

    /// Kills etcd and starts it on the same data; meanwhile every request fails or waits.
    ///
    /// # Errors
    /// When it cannot be started, or the API does not answer in time.
    pub async fn restart_etcd(&self) -> anyhow::Result<()> {
        {
            let mut etcd = self.etcd.lock();
            etcd.kill()?;
            *etcd = spawn_etcd(&self.launch)?;
        }
        self.wait_ready().await
    }

    /// The last lines of kube-apiserver's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.api_server.lock().log_tail()
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let answer = tokio::time::timeout(ANSWER, self.look()).await;
            let Err(error) = answer.unwrap_or_else(|_| bail!("no answer within {ANSWER:?}")) else {
                return Ok(());
            };
            self.still_run()?;
            if Instant::now() >= deadline {
                let log = self.log_tail();
                return Err(error).with_context(|| {
                    format!("kube-apiserver does not answer; the end of its log:\n{log}")
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn look(&self) -> anyhow::Result<()> {
        let mut config = self.client_config().await?;
        // asked again by the caller, who also looks whether the processes still run
        config.default_retry = false;
        let client = Client::try_from(config)?;
        let ready = kube::core::Request::new("/readyz").list(&ListParams::default())?;
        client.request_text(ready).await?;
        // made by a loop of their own, which begins when the server is ready
        let namespaces: Api<Namespace> = Api::all(client);
        for name in ["default", "kube-system"] {
            namespaces.get(name).await?;
        }
        Ok(())
    }

    fn still_run(&self) -> anyhow::Result<()> {
        for (name, process) in [("etcd", &self.etcd), ("kube-apiserver", &self.api_server)] {
            let process = process.lock();
            if let Some(status) = process.exited()? {
                bail!(
                    "{name} ended while starting ({status}); the end of its log:\n{}",
                    process.log_tail()
                );
            }
        }
        Ok(())
    }

    fn lost_a_port(&self) -> bool {
        [&self.etcd, &self.api_server]
            .iter()
            .any(|process| process.lock().log_tail().contains("address already in use"))
    }

    fn another_kubeconfig(&self, port: u16, identity: &Identity<'_>) -> anyhow::Result<PathBuf> {
        let name = crate::unique_name("kubeconfig");
        let path = self.launch.dir.join(name);
        identity.write(&path, port, &certificate(&self.launch.dir))?;
        Ok(path)
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        // the one that would complain about the other's end goes first
        self.kill().ok();
        self.etcd.lock().kill().ok();
        if !run_dir::is_kept() {
            fs::remove_dir_all(self.launch.dir.join("etcd")).ok();
        }
    }
}

/// Programs, ports, and files of one server. Blocks, the first time of all for minutes.
fn prepare(flags: Vec<String>) -> anyhow::Result<Launch> {
    ensure(&[Tool::Setpriv])?;
    let dir = run_dir::server_dir("kube-api")?;
    let launch = Launch {
        assets: Assets::find()?,
        kubeconfig: dir.join("kubeconfig"),
        port: free_port()?,
        etcd_port: free_port()?,
        etcd_peer_port: free_port()?,
        token: uuid::Uuid::new_v4().simple().to_string(),
        flags,
        dir,
    };
    let tokens = format!("{},admin,admin,\"system:masters\"\n", launch.token);
    fs::write(launch.dir.join(TOKENS), tokens)?;
    Identity::Token(&launch.token).write(
        &launch.kubeconfig,
        launch.port,
        &certificate(&launch.dir),
    )?;
    Ok(launch)
}

const TOKENS: &str = "tokens.csv";

/// The certificate that kube-apiserver makes for itself at its first start, with that of its
/// authority.
fn certificate(dir: &Path) -> PathBuf {
    dir.join("pki/apiserver.crt")
}

fn spawn_etcd(launch: &Launch) -> anyhow::Result<Process> {
    let clients = format!("http://{}", loopback::at(launch.etcd_port));
    let peers = format!("http://{}", loopback::at(launch.etcd_peer_port));
    let mut command = Command::new(&launch.assets.etcd);
    command
        .arg("--data-dir")
        .arg(launch.dir.join("etcd"))
        // a killed process loses nothing without it, only a crashed machine does
        .arg("--unsafe-no-fsync")
        .args(["--log-level", "warn"])
        .args(["--listen-client-urls", &clients])
        .args(["--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers])
        .args(["--initial-advertise-peer-urls", &peers])
        .arg("--initial-cluster")
        .arg(format!("default={peers}"))
        .current_dir(&launch.dir);
    let log = launch.dir.join("etcd.log");
    Process::spawn_guarded(&command, "etcd", log, Guard::default())
}

fn spawn_api_server(launch: &Launch) -> anyhow::Result<Process> {
    let pki = launch.dir.join("pki");
    // the key of its own certificate signs the service accounts' tokens too, so that nothing has to
    // be made beforehand
    let key = pki.join("apiserver.key");
    // of the family of its own address, or it does not start
    let services = match loopback::ip() {
        IpAddr::V4(_) => "10.0.0.0/24",
        IpAddr::V6(_) => "fd00::/112",
    };
    let mut command = Command::new(&launch.assets.api_server);
    command
        .arg(format!(
            "--etcd-servers=http://{}",
            loopback::at(launch.etcd_port)
        ))
        .arg(format!("--secure-port={}", launch.port))
        .arg(format!("--bind-address={}", loopback::host()))
        .arg(format!("--advertise-address={}", loopback::host()))
        .arg(format!("--service-cluster-ip-range={services}"))
        .args([
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            // a loopback address is no endpoint
            "--endpoint-reconciler-type=none",
            // no controller makes the accounts that it would ask for
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged",
        ])
        .arg("--cert-dir")
        .arg(&pki)
        .arg("--service-account-key-file")
        .arg(&key)
        .arg("--service-account-signing-key-file")
        .arg(&key)
        .arg("--token-auth-file")
        .arg(launch.dir.join(TOKENS))
        .args(&launch.flags)
        .current_dir(&launch.dir);
    let log = launch.dir.join("kube-apiserver.log");
    Process::spawn_guarded(&command, "kube-apiserver", log, Guard::default())
}
