//! A transfer as a stream of lines: it runs by itself, however slowly the client reads, and ends when the client goes.

use bytes::Bytes;
use cais_types::api::progress::TransferEvent;
use cais_types::{Digest, Error, Result};
use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Transfer;
use crate::pipe::Answers;

/// Lines that may wait for the client; what comes meanwhile waits with the transfer, which keeps only the newest.
const DEPTH: usize = 16;

/// Starts a transfer and waits for its first line; `done` runs once it has moved its images.
///
/// # Errors
/// The transfer's, when it fails before there is a line.
pub async fn lines(
    transfer: Transfer,
    done: impl FnOnce(Vec<Digest>) -> BoxFuture<'static, ()> + Send + 'static,
) -> Result<Answers<Bytes>> {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let task = tokio::spawn(async move {
        let Transfer { events, result } = transfer;
        let (result, ()) = tokio::join!(result, tell(events, &sender));
        match result {
            Ok(moved) => done(moved).await,
            // A client that has gone is not told.
            Err(error) => drop(sender.send(Err(error)).await),
        }
    });
    let mut running = Running {
        task: Some(task),
        receiver,
    };
    let Some(first) = running.next().await else {
        return Ok(Box::pin(futures_util::stream::empty()));
    };
    let first = first?;
    let rest = futures_util::stream::unfold(running, |mut running| async {
        running.next().await.map(|line| (line, running))
    });
    Ok(Box::pin(
        futures_util::stream::once(async { Ok(first) }).chain(rest),
    ))
}

async fn tell(
    mut events: futures_core::stream::BoxStream<'static, TransferEvent>,
    sender: &mpsc::Sender<Result<Bytes>>,
) {
    while let Some(event) = events.next().await {
        if sender.send(Ok(event.line().into())).await.is_err() {
            return;
        }
    }
}

/// A transfer at work; dropped, it is aborted.
struct Running {
    task: Option<JoinHandle<()>>,
    receiver: mpsc::Receiver<Result<Bytes>>,
}

impl Running {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        if let Some(line) = self.receiver.recv().await {
            return Some(line);
        }
        // Without a word: it has ended well, or it has broken down.
        let ended = self.task.take()?.await;
        let error = ended.err()?;
        Some(Err(Error::internal(format!(
            "the transfer failed: {error}"
        ))))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::stream;

    use super::*;

    fn message(status: &str) -> TransferEvent {
        TransferEvent::Message {
            id: None,
            status: status.to_owned(),
        }
    }

    fn nothing(_: Vec<Digest>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    #[tokio::test]
    async fn a_failure_before_the_first_line_is_the_calls_and_later_the_last_line() {
        let fails = || -> BoxFuture<'static, Result<Vec<Digest>>> {
            Box::pin(async { Err(Error::not_found("no")) })
        };
        let transfer = Transfer {
            events: Box::pin(stream::empty()),
            result: fails(),
        };
        let error = lines(transfer, nothing).await.err().unwrap();
        assert_eq!(error.message(), "no");
        let transfer = Transfer {
            events: Box::pin(stream::iter([message("a"), message("b")])),
            result: fails(),
        };
        let all: Vec<_> = lines(transfer, nothing).await.unwrap().collect().await;
        assert_eq!(all.len(), 3);
        assert_eq!(all[1].as_ref().unwrap(), r#"{"status":"b"}"#);
        assert_eq!(all[2].as_ref().unwrap_err().message(), "no");
    }

    #[tokio::test]
    async fn dropping_the_lines_ends_the_transfer() {
        struct Gone(Arc<AtomicBool>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let gone = Arc::new(AtomicBool::new(false));
        let guard = Gone(gone.clone());
        let transfer = Transfer {
            events: Box::pin(stream::iter([message("a")]).chain(stream::pending())),
            result: Box::pin(async move {
                let _guard = guard;
                std::future::pending().await
            }),
        };
        drop(lines(transfer, nothing).await.unwrap());
        while !gone.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }
}
