//! A container's log as bytes for a client: the stream behind `logs`, and what `attach` with `logs=1` sends first.

use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cais_runtime::timestamp::Timestamp;
use cais_types::api::query::{AttachQuery, LogsQuery};
use cais_types::{ClientConnection, Error, Framing, Result};
use futures_core::Stream;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::container::Container;
use crate::house::House;
use crate::{Logs, logging};
use cais_monitor::log_reader::{Options, Reader, Stopper};

/// Chunks that may wait for a slow client.
const BACKLOG: usize = 4;

/// Opens the log of a container.
///
/// # Errors
/// Neither stream chosen; a log driver that cannot be read.
pub fn logs(house: &House, container: &Arc<Container>, query: &LogsQuery) -> Result<Logs> {
    if !query.stdout && !query.stderr {
        return Err(Error::invalid(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let record = container.record();
    let framing = if record.config.tty {
        Framing::Raw
    } else {
        Framing::Multiplexed
    };
    let time = |nanos: Option<i64>| nanos.map(timestamp).transpose();
    let options = Options {
        path: log_path(house, container)?,
        stdout: query.stdout,
        stderr: query.stderr,
        since: time(query.since.filter(|since| *since > 0))?,
        until: time(query.until.filter(|until| *until > 0))?,
        tail: query.tail,
        timestamps: query.timestamps,
        details: query.details,
        follow: query.follow && record.state.status.is_running(),
        framing,
    };
    let stream = LogStream::open(container, options)?;
    Ok(Logs {
        framing,
        bytes: Box::pin(stream),
    })
}

fn timestamp(nanos: i64) -> Result<Timestamp> {
    let text = jiff::Timestamp::from_nanosecond(nanos.into())
        .map_err(|error| Error::invalid(format!("invalid time: {error}")))?
        .to_string();
    Timestamp::parse(text.as_bytes()).ok_or_else(|| Error::invalid(format!("invalid time: {text}")))
}

fn log_path(house: &House, container: &Container) -> Result<PathBuf> {
    let record = container.record();
    if record.host_config.log_config.r#type == "none" {
        return Err(Error::unsupported(
            "configured logging driver does not support reading",
        ));
    }
    Ok(logging::path(&record, &house.directory(&container.id)))
}

/// Chunks of a log, read by a thread of its own and stopped when dropped.
struct LogStream {
    chunks: mpsc::Receiver<Result<Bytes>>,
    stopper: Stopper,
}

impl LogStream {
    fn open(container: &Arc<Container>, options: Options) -> Result<Self> {
        let follow = options.follow;
        let mut life = container.life.subscribe();
        let mut reader = Reader::open(options)
            .map_err(|error| Error::internal(format!("error from daemon in stream: {error}")))?;
        let stopper = reader.stopper();
        let (sender, chunks) = mpsc::channel(BACKLOG);
        if follow {
            let exits = life.borrow().exits;
            let (stopper, gone) = (stopper.clone(), sender.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = life.wait_for(|life| life.exits > exits || !life.running) => {}
                    () = gone.closed() => {}
                }
                stopper.container_ended();
            });
        }
        tokio::task::spawn_blocking(move || {
            loop {
                let chunk = match reader.next_chunk() {
                    Ok(None) => return,
                    Ok(Some(chunk)) => Ok(Bytes::from(chunk)),
                    Err(error) => Err(Error::internal(format!("error reading the log: {error}"))),
                };
                let failed = chunk.is_err();
                if sender.blocking_send(chunk).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Self { chunks, stopper })
    }
}

impl Stream for LogStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_recv(context)
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        self.stopper.cancel();
    }
}

/// Writes what is in the log to a connection and gives the connection back.
///
/// # Errors
/// Those of reading the log; a client that went away.
pub async fn send_log(
    house: &House,
    container: &Arc<Container>,
    query: &AttachQuery,
    framing: Framing,
    connection: ClientConnection,
) -> Result<ClientConnection> {
    let Ok(path) = log_path(house, container) else {
        return Ok(connection);
    };
    let options = Options {
        path,
        stdout: query.stdout,
        stderr: query.stderr,
        since: None,
        until: None,
        tail: None,
        timestamps: false,
        details: false,
        follow: false,
        framing,
    };
    let mut stream = LogStream::open(container, options)?;
    let ClientConnection { socket, unread } = connection;
    let gone = |error: std::io::Error| {
        Error::new(cais_types::ErrorClass::Canceled, format!("client: {error}"))
    };
    // Whatever kind of stream socket it is: only reads and writes happen on it here.
    let socket = StdStream::from(socket);
    socket.set_nonblocking(true).map_err(gone)?;
    let mut socket = UnixStream::from_std(socket).map_err(gone)?;
    while let Some(chunk) = stream.chunks.recv().await {
        socket.write_all(&chunk?).await.map_err(gone)?;
    }
    let socket = socket.into_std().map_err(gone)?.into();
    Ok(ClientConnection { socket, unread })
}
