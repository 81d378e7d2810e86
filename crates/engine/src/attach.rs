//! `POST /containers/{id}/attach`: the client's connection goes to the monitor; before the start it waits here.

use std::os::fd::AsFd;
use std::sync::Arc;

use cais_monitor::protocol::{Client, Request};
use cais_types::api::query::AttachQuery;
use cais_types::{ClientConnection, Error, Framing, Result};

use crate::container::Container;
use crate::house::House;
use crate::state::Status;
use crate::{Hijack, replay};

/// `ctrl-p,ctrl-q`.
const DEFAULT_KEYS: [u8; 2] = [16, 17];

/// Checks an attach request and answers what takes the connection.
///
/// # Errors
/// Paused or restarting, and detach keys that are none, in Docker's words.
pub fn attach(
    house: &Arc<House>,
    container: &Arc<Container>,
    query: &AttachQuery,
) -> Result<Hijack> {
    let record = container.record();
    let id = container.id;
    match record.state.status {
        Status::Paused => {
            return Err(Error::conflict(format!(
                "container {id} is paused, unpause the container before attach"
            )));
        }
        Status::Restarting => {
            return Err(Error::conflict(format!(
                "container {id} is restarting, wait until the container is running"
            )));
        }
        _ => {}
    }
    let tty = record.config.tty;
    let framing = if tty || query.raw {
        Framing::Raw
    } else {
        Framing::Multiplexed
    };
    let keys = detach_keys(query.detach_keys.as_deref())?;
    let client = Client {
        framing,
        stdin: query.stdin && record.config.open_stdin,
        stdout: query.stdout,
        stderr: query.stderr,
        detach_keys: if tty { keys } else { Vec::new() },
        unread: Vec::new(),
    };
    let query = query.clone();
    let ticket = container.expect_client();
    let (house, container) = (Arc::clone(house), Arc::clone(container));
    let serve = move |connection: ClientConnection| -> futures_core::future::BoxFuture<'static, _> {
        Box::pin(async move {
            house.events.container(&container.record(), "attach", &[]);
            let connection = match query.logs {
                true => replay::send_log(&house, &container, &query, framing, connection).await?,
                false => connection,
            };
            if query.stream {
                deliver(&container, client, connection).await?;
            }
            drop(ticket);
            Ok(())
        })
    };
    Ok(Hijack {
        framing,
        serve: Box::new(serve),
    })
}

/// Hands the connection to the monitor, or keeps it for the next start.
async fn deliver(
    container: &Arc<Container>,
    mut client: Client,
    connection: ClientConnection,
) -> Result<()> {
    client.unread = connection.unread;
    let monitor = {
        let mut session = container.session();
        match session.monitor.clone() {
            Some(monitor) => monitor,
            None => {
                session.waiting.push((client, connection.socket));
                return Ok(());
            }
        }
    };
    let socket = connection.socket;
    monitor
        .request(Request::Attach(client), Some(socket.as_fd()))
        .await?;
    Ok(())
}

/// Reads `ctrl-a,b,ctrl-[`; absent or empty takes the default.
///
/// # Errors
/// `Invalid detach keys (x) provided`.
pub fn detach_keys(text: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(DEFAULT_KEYS.to_vec());
    };
    let key = |key: &str| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([single], _) => Some(*single),
        (_, Some([letter @ b'a'..=b'z'])) => Some(letter - b'a' + 1),
        (_, Some(b"@")) => Some(0),
        (_, Some([mark @ (b'[' | b'\\' | b']' | b'^' | b'_')])) => Some(mark - b'@'),
        _ => None,
    };
    text.split(',')
        .map(|word| {
            key(word)
                .ok_or_else(|| Error::invalid(format!("Invalid detach keys ({text}) provided")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_read_as_docker_does() {
        assert_eq!(detach_keys(None).unwrap(), [16, 17]);
        assert_eq!(
            detach_keys(Some("ctrl-a,x,ctrl-[,ctrl-@")).unwrap(),
            [1, b'x', 27, 0]
        );
        for bad in ["ctrl-A", "ab", "ctrl-", "a,,b"] {
            assert!(detach_keys(Some(bad)).is_err(), "{bad}");
        }
    }
}
