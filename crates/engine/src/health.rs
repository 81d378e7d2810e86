//! `HEALTHCHECK`: probes run as execs, their results kept in the record's snapshot, changes told as events.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use cais_monitor::protocol::Client;
use cais_types::api::{
    ContainerConfig, ExecCreateRequest, Health, HealthConfig, HealthcheckResult,
};
use cais_types::{Framing, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::container::Container;
use crate::exec::{self, Exec, ExecState};
use crate::house::House;
use crate::kernel;
use crate::state::Status;
use crate::time;

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Results kept.
const LOG: usize = 5;
/// Output kept of a probe, bytes.
const OUTPUT: usize = 4096;

/// The health of a container that has just started; `None` when it has no probe.
pub fn initial(config: &ContainerConfig) -> Option<Health> {
    probe_command(config).map(|_| Health {
        status: "starting".to_owned(),
        failing_streak: 0,
        log: Some(Vec::new()),
    })
}

fn probe_command(config: &ContainerConfig) -> Option<Vec<String>> {
    let test = &config.healthcheck.as_ref()?.test;
    match test.first()?.as_str() {
        "CMD" if test.len() > 1 => Some(test[1..].to_vec()),
        "CMD-SHELL" => {
            let shell = config.shell.clone().filter(|shell| !shell.is_empty());
            let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            words.extend(test[1..].iter().cloned());
            Some(words)
        }
        _ => None,
    }
}

/// Probes a running container until it ends; does nothing for one without a probe.
pub fn watch(house: &Arc<House>, container: &Arc<Container>) {
    let record = container.record();
    let (Some(command), Some(config)) = (
        probe_command(&record.config),
        record.config.healthcheck.clone(),
    ) else {
        return;
    };
    let prober = Prober {
        house: Arc::clone(house),
        container: Arc::clone(container),
        command,
        config,
        started: Instant::now(),
    };
    let mut session = container.session();
    session.stop_watching();
    session.health = Some(tokio::spawn(prober.run()).abort_handle());
}

fn or_default(nanos: i64, default: Duration) -> Duration {
    match u64::try_from(nanos) {
        Ok(nanos @ 1..) => Duration::from_nanos(nanos),
        _ => default,
    }
}

struct Prober {
    house: Arc<House>,
    container: Arc<Container>,
    command: Vec<String>,
    config: HealthConfig,
    started: Instant,
}

impl Prober {
    async fn run(self) {
        loop {
            tokio::time::sleep(self.pause()).await;
            if self.container.record().state.status != Status::Running {
                return;
            }
            let start = time::now();
            let (code, output) = self.probe().await;
            let result = HealthcheckResult {
                start,
                end: time::now(),
                exit_code: code.into(),
                output,
            };
            self.judge(result);
        }
    }

    /// While a container starts up it is asked more often.
    fn pause(&self) -> Duration {
        let starting = self
            .container
            .record()
            .health
            .as_ref()
            .is_some_and(|h| h.status == "starting");
        let period = or_default(self.config.start_period, Duration::ZERO);
        let interval = or_default(self.config.interval, INTERVAL);
        if starting && self.started.elapsed() < period {
            or_default(self.config.start_interval, START_INTERVAL).min(interval)
        } else {
            interval
        }
    }

    /// Exit code and output of one probe; -1 when it took too long or could not run.
    async fn probe(&self) -> (i32, String) {
        let limit = or_default(self.config.timeout, TIMEOUT);
        let request = ExecCreateRequest {
            cmd: self.command.clone(),
            attach_stdout: true,
            attach_stderr: true,
            ..ExecCreateRequest::default()
        };
        let exec = match exec::internal(&self.house, &self.container, request) {
            Ok(exec) => exec,
            Err(error) => return (-1, error.to_string()),
        };
        match tokio::time::timeout(limit, self.execute(&exec)).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => (-1, error.to_string()),
            Err(_) => {
                if let ExecState::Running(identity) = *exec.state.borrow() {
                    kernel::kill(identity);
                }
                (
                    -1,
                    format!("Health check exceeded timeout ({}s)", limit.as_secs_f64()),
                )
            }
        }
    }

    async fn execute(&self, exec: &Arc<Exec>) -> Result<(i32, String)> {
        let (ours, theirs) = pair()?;
        let client = Client {
            framing: Framing::Raw,
            stdin: false,
            stdout: true,
            stderr: true,
            detach_keys: Vec::new(),
            unread: Vec::new(),
        };
        exec::probe(&self.house, &self.container, exec, (client, theirs.as_fd())).await?;
        drop(theirs);
        let output = read_output(ours).await;
        let mut state = exec.state.subscribe();
        let ended = state
            .wait_for(|state| matches!(state, ExecState::Ended(_)))
            .await;
        let code = match ended.as_deref() {
            Ok(ExecState::Ended(code)) => *code,
            _ => -1,
        };
        Ok((code, output))
    }

    fn judge(&self, result: HealthcheckResult) {
        let retries = if self.config.retries > 0 {
            self.config.retries
        } else {
            RETRIES
        };
        let grace = self.started.elapsed() < or_default(self.config.start_period, Duration::ZERO);
        let mut change = None;
        let record = self.container.change(|record| {
            let Some(health) = &mut record.health else {
                return;
            };
            let before = health.status.clone();
            if result.exit_code == 0 {
                health.failing_streak = 0;
                health.status = "healthy".to_owned();
            } else if !(grace && before == "starting") {
                health.failing_streak += 1;
                if health.failing_streak >= retries {
                    health.status = "unhealthy".to_owned();
                }
            }
            let log = health.log.get_or_insert_default();
            log.push(result);
            if log.len() > LOG {
                log.remove(0);
            }
            change = (health.status != before).then(|| health.status.clone());
        });
        if let Some(status) = change {
            self.house
                .events
                .container(&record, &format!("health_status: {status}"), &[]);
        }
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| cais_types::Error::internal(format!("cannot make a socket pair: {error}")))
}

/// Reads to the end, keeping the first part.
async fn read_output(socket: OwnedFd) -> String {
    let Ok(mut stream) =
        tokio::net::UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))
    else {
        return String::new();
    };
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let room = OUTPUT.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&buffer[..room]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
