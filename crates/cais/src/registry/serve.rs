//! `cais registry serve`.

use std::path::Path;

use anyhow::{Context, Result};
use cais_registry::{
    AuthConfig, GcPolicy, Limits, Reloader, Server, ServerConfig, TlsFiles, TokenConfig,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::options::{Ages, Serve};

/// Threads that may block at the same time: reads, writes and hashes of as many transfers.
const BLOCKING_THREADS: usize = 64;

/// Serves until it is told to end.
pub fn run(options: Serve) -> Result<()> {
    start_log(&options.log_level);
    if let Some(point) = &options.failpoint {
        cais_sys::failpoint::arm(point).context("--failpoint")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .context("threads")?;
    let address_file = options.address_file.clone();
    let result = runtime.block_on(serve(config(options), address_file.as_deref()));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}

fn start_log(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

async fn serve(config: ServerConfig, address_file: Option<&Path>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
    let mut hang_up = signal(SignalKind::hangup()).context("signals")?;
    let server = Server::bind(config).await?;
    let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    tracing::info!(addresses = addresses.join(","), "registry listens");
    if let Some(path) = address_file {
        let text = addresses.join("\n") + "\n";
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let reloader = server.reloader();
    let (end, ended) = watch::channel(false);
    let mut serving = tokio::spawn(server.serve(ended));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => reload(&reloader).await,
            finished = &mut serving => return finished.context("the server"),
        }
    }
    tracing::info!("registry ends");
    end.send(true).context("the server")?;
    serving.await.context("the server")
}

/// Files are read and hashes made meanwhile; requests go on.
async fn reload(reloader: &Reloader) {
    tokio::task::block_in_place(|| reloader.reload());
}

fn config(options: Serve) -> ServerConfig {
    let auth = match (options.htpasswd, options.token_realm) {
        (Some(file), _) => AuthConfig::Htpasswd {
            realm: options.realm,
            file,
        },
        (None, Some(realm)) => AuthConfig::Token(TokenConfig {
            realm,
            service: options.token_service.unwrap_or_default(),
            issuer: options.token_issuer.unwrap_or_default(),
            keys: options.token_key,
        }),
        (None, None) => AuthConfig::None,
    };
    let tls = options.tls_cert.zip(options.tls_key);
    ServerConfig {
        root: options.root.root,
        listen: options.listen,
        tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
        auth,
        anonymous_pull: options.anonymous_pull,
        limits: Limits {
            upload: options.max_blob_size.unwrap_or(u64::MAX),
            idle: options.idle_timeout,
            read_only: options.read_only,
            delete: options.delete,
        },
        gc: policy(&options.ages, false),
        gc_interval: options.gc_interval,
        upstreams: options.proxy,
        fallback: options.proxy_default,
    }
}

/// What collection takes.
pub fn policy(ages: &Ages, dry_run: bool) -> GcPolicy {
    GcPolicy {
        grace: ages.grace,
        untagged: ages.untagged,
        uploads: ages.upload_age,
        dry_run,
    }
}
