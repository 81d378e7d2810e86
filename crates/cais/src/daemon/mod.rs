//! The daemon's composition root: flags to configurations, rooms to ports, services to the API. What happens is decided in
//! the rooms.

mod api;
mod bridge_options;
mod build;
mod gc_options;
mod images;
mod launcher;
mod network_options;
mod networks;
mod options;
mod registries;
mod transfers;
mod volumes;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cais_distribution::client::Client;
use cais_engine::Engine;
use cais_engine::house::{EngineConfig, Ports};
use cais_engine::kernel::HostKernel;
use cais_services::system::DaemonFacts;
use cais_state::Db;
use cais_types::api::{LogConfig, NetworkAddressPool};
use cais_types::{ContainerId, size};
use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{SignalKind, signal};

use options::Options;

/// How long the lock of a killed daemon may seem to be held.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Runs the daemon until it is told to end; answers the exit code.
pub fn main(args: Vec<OsString>) -> i32 {
    match run(args) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "failed to start daemon: {error:#}");
            1
        }
    }
}

fn run(args: Vec<OsString>) -> Result<()> {
    let words = args
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let options = Options::read(words)?;
    start_log(&options);
    if let Some(point) = &options.failpoint {
        cais_sys::failpoint::arm(point).context("--failpoint")?;
    }
    let ready = options
        .ready_fd
        .map(|number| cais_sys::inherit::take(number).context("--ready-fd"))
        .transpose()?;
    if ready.is_some() {
        // A command line started this daemon: signals of its terminal are not meant for us. A group leader is safe already.
        let _session = rustix::process::setsid();
    }
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 8);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .context("threads")?;
    let result = runtime.block_on(serve(&options, ready));
    // Blocking work that still runs (a read of a log, a load) must not keep the process.
    runtime.shutdown_background();
    result
}

fn start_log(options: &Options) {
    let level = if options.debug {
        "debug"
    } else {
        options.log_level.as_str()
    };
    let level = if level == "fatal" { "error" } else { level };
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

/// The rooms, opened.
struct Rooms {
    images: Arc<cais_images::Store>,
    volumes: Arc<cais_volumes::Store>,
    networks: Arc<cais_networks::Store>,
    db: Arc<Db>,
    _lock: File,
}

impl Rooms {
    fn open(options: &Options) -> Result<Self> {
        make_directory(&options.data_root, 0o710)?;
        make_directory(&options.exec_root, 0o711)?;
        let lock = lock(&options.data_root)?;
        let db = Arc::new(Db::open(&options.data_root.join("cais.db")).context("state database")?);
        let networks = cais_networks::Store::open_store(network_config(options)?, Arc::clone(&db));
        Ok(Self {
            images: Arc::new(
                cais_images::Store::open(&options.data_root, Arc::clone(&db))
                    .context("image store")?,
            ),
            volumes: Arc::new(
                cais_volumes::Store::open(&options.data_root, Arc::clone(&db))
                    .context("volume store")?,
            ),
            networks: Arc::new(networks.context("network store")?),
            db,
            _lock: lock,
        })
    }

    fn ports(&self) -> Result<Ports> {
        let binary = cais_sys::exe::sealed().context("own binary")?;
        Ok(Ports {
            rootfs: Arc::new(images::Images(Arc::clone(&self.images))),
            volumes: Arc::new(volumes::Volumes(Arc::clone(&self.volumes))),
            sandboxes: Arc::new(networks::Networks(Arc::clone(&self.networks))),
            launcher: Arc::new(launcher::Monitors::new(binary)?),
            kernel: Arc::new(HostKernel),
        })
    }
}

async fn serve(options: &Options, ready: Option<OwnedFd>) -> Result<()> {
    let listeners = cais_api::bind(&options.listen_on(), &options.group).context("listen")?;
    let rooms = Rooms::open(options)?;
    let engine = Engine::open(
        engine_config(options)?,
        rooms.ports()?,
        Arc::clone(&rooms.db),
    )?;
    engine.reconcile().await?;
    let known: Vec<ContainerId> = engine
        .house()
        .store
        .all()
        .iter()
        .map(|container| container.id)
        .collect();
    rooms.volumes.retain(&known)?;
    for warning in rooms.networks.warnings() {
        tracing::warn!("{warning}");
    }
    let builds = options.data_root.join("build");
    let running = build::Running::new(Arc::clone(&rooms.db));
    build::remove_leftovers(&engine, &running, &builds).await;
    let services = services(options, &engine, &rooms)?;
    let builder = build::BuildBackend {
        registries: Arc::clone(&services.registries),
        engine: engine.clone(),
        images: Arc::clone(&rooms.images),
        db: Arc::clone(&rooms.db),
        web: registries::config(options),
        directory: builds,
        running,
        sessions: cais_session::borrower::Sessions::default(),
        canceled_by: build::Cancelable::default(),
        built: Arc::default(),
    };
    let rules = options.builder.rules(&options.data_root)?;
    let built = Arc::clone(&builder.built);
    let collector = (!rules.is_empty())
        .then(|| tokio::spawn(build::keep_below(builder.records(), rules, built)));
    let tidy = options.image_gc.policy()?.map(|policy| {
        let (images, interval) = (Arc::clone(&services.images), options.image_gc.interval);
        tokio::spawn(async move {
            if let Err(error) = images.keep_tidy(policy, interval).await {
                tracing::error!(%error, "--image-gc-keep");
            }
        })
    });
    let backends = services.backends(builder);
    let _pidfile = options.pidfile.as_deref().map(Pidfile::write).transpose()?;
    let mut ending = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    if let Some(ready) = ready {
        File::from(ready).write_all(b"\n").context("--ready-fd")?;
    }
    tracing::info!(hosts = ?options.listen_on(), "API listens");
    tokio::select! {
        result = cais_api::serve(listeners, backends) => result?,
        _ = ending.recv() => {}
        _ = interrupted.recv() => {}
    }
    for task in [tidy, collector].into_iter().flatten() {
        task.abort();
    }
    for path in options
        .listen_on()
        .iter()
        .filter_map(|host| host.strip_prefix("unix://"))
    {
        let _ = fs::remove_file(path);
    }
    if options.ephemeral {
        remove_everything(options, &engine, &rooms).await?;
    }
    Ok(())
}

fn services(options: &Options, engine: &Engine, rooms: &Rooms) -> Result<api::Services> {
    let house = engine.house();
    let config = registries::config(options);
    let registry_facts = registries::facts(&config);
    let proxies = registries::shown_proxies(&config.proxies);
    let client = Client::new(config.clone())?;
    let downloads = registries::Web {
        client: client.clone(),
        config,
    };
    let images = cais_services::images::Images::new(
        Arc::clone(house),
        Arc::new(images::Images(Arc::clone(&rooms.images))),
        Arc::new(downloads),
    );
    let volumes = cais_services::volumes::Volumes::new(
        Arc::clone(house),
        Arc::new(volumes::Volumes(Arc::clone(&rooms.volumes))),
    );
    let networks = cais_services::networks::Networks::new(
        Arc::clone(house),
        Arc::new(networks::Networks(Arc::clone(&rooms.networks))),
    );
    let (images, volumes) = (Arc::new(images), Arc::new(volumes));
    let access = registries::Access::new(client, Arc::clone(&rooms.images));
    let registries = cais_services::registry::Registries::new(
        Arc::clone(house),
        Arc::clone(&images),
        Arc::new(access),
    );
    let facts = DaemonFacts {
        id: daemon_id(&rooms.db)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: options.labels.clone(),
        debug: options.debug,
        address_pools: address_pools(options)?
            .into_iter()
            .map(|(base, size)| NetworkAddressPool {
                base,
                size: size.into(),
            })
            .collect(),
        registries: registry_facts,
        proxies,
    };
    let system = cais_services::system::System::new(
        Arc::clone(house),
        Arc::clone(&images),
        Arc::clone(&volumes),
        facts,
    );
    Ok(api::Services {
        engine: engine.clone(),
        images,
        registries: Arc::new(registries),
        volumes,
        networks: Arc::new(networks),
        system: Arc::new(system),
    })
}

fn engine_config(options: &Options) -> Result<EngineConfig> {
    let mut config = EngineConfig::new(options.data_root.clone(), options.exec_root.clone());
    config.cgroup_parent.clone_from(&options.cgroup_parent);
    config.init_by_default = options.init;
    config.default_ulimits = options
        .default_ulimits
        .iter()
        .map(|text| options::ulimit(text).with_context(|| format!("--default-ulimit {text}")))
        .collect::<Result<_>>()?;
    config.default_log = LogConfig {
        r#type: options.log_driver.clone(),
        config: options.log_options()?,
    };
    config.default_shm_size = size::ram_in_bytes(&options.default_shm_size)
        .with_context(|| format!("--default-shm-size {}", options.default_shm_size))?;
    config.init_binary = std::env::current_exe().context("own binary")?;
    Ok(config)
}

fn network_config(options: &Options) -> Result<cais_networks::Config> {
    let mut config = cais_networks::Config {
        bridge: options.bridge.clone(),
        table: options.firewall_table.clone(),
        mtu: options.mtu,
        icc: options.icc,
        ..cais_networks::Config::default()
    };
    options.names.apply(&mut config);
    options.default_bridge.apply(&mut config)?;
    config.bip = options
        .bip
        .as_deref()
        .map(|text| text.parse().with_context(|| format!("--bip {text}")))
        .transpose()?;
    config.fixed_cidr = options
        .fixed_cidr
        .as_deref()
        .map(|text| text.parse().with_context(|| format!("--fixed-cidr {text}")))
        .transpose()?;
    let pools = address_pools(options)?;
    if !pools.is_empty() {
        config.pools = pools
            .into_iter()
            .map(|(base, size)| {
                Ok((
                    base.parse()
                        .with_context(|| format!("--default-address-pool {base}"))?,
                    size,
                ))
            })
            .collect::<Result<_>>()?;
    }
    Ok(config)
}

/// `base=CIDR,size=BITS`.
fn address_pools(options: &Options) -> Result<Vec<(String, u8)>> {
    options
        .default_address_pools
        .iter()
        .map(|text| {
            let part = |name: &str| {
                text.split(',')
                    .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
            };
            let (Some(base), Some(size)) = (
                part("base"),
                part("size").and_then(|size| size.parse().ok()),
            ) else {
                bail!("invalid default address pool: {text}");
            };
            Ok((base.to_owned(), size))
        })
        .collect()
}

/// Made once per data root.
fn daemon_id(db: &Db) -> Result<String> {
    if let Some(id) = db.get::<String>("daemon", "id")? {
        return Ok(id);
    }
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid").context("random uuid")?;
    let id = text.trim().to_owned();
    db.put(cais_state::Durability::Process, "daemon", "id", &id)?;
    Ok(id)
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| path.display().to_string())
}

/// Two daemons on one data root would destroy each other's state. A process that a killed daemon was just starting still has
/// its lock, until it executes its program.
fn lock(data_root: &Path) -> Result<File> {
    let path = data_root.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    let end = Instant::now() + LOCK_PATIENCE;
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if Instant::now() >= end {
            return Err(error)
                .with_context(|| format!("another daemon uses {}", data_root.display()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

/// A file with our process id, removed at the end.
struct Pidfile<'a>(&'a Path);

impl<'a> Pidfile<'a> {
    fn write(path: &'a Path) -> Result<Self> {
        let mut options = File::options();
        // Nobody but us says which process is meant, whatever the umask.
        let file = options.create(true).write(true).truncate(true).mode(0o644);
        file.open(path)
            .and_then(|mut file| file.write_all(std::process::id().to_string().as_bytes()))
            .with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Pidfile<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// What `--ephemeral` promises: containers, networks, rules, cgroups and sockets of this daemon are gone.
async fn remove_everything(options: &Options, engine: &Engine, rooms: &Rooms) -> Result<()> {
    let query = cais_types::api::query::RemoveQuery {
        force: true,
        volumes: true,
        link: false,
    };
    let containers = engine.containers();
    for container in engine.house().store.all() {
        if let Err(error) = containers.remove(&container.id.to_string(), query).await {
            tracing::warn!(container = %container.id, %error, "remove at the end");
        }
    }
    rooms.networks.destroy()?;
    match cais_runtime::cgroups::Cgroup::open(&options.cgroup_parent) {
        Ok(cgroup) => cgroup.remove()?,
        Err(error) => tracing::debug!(%error, "no cgroup to remove"),
    }
    Ok(())
}
