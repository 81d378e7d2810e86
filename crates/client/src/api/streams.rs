//! What long calls hand out: the pending answer of `wait`, and log bytes with their framing.

use cais_types::Framing;
use cais_types::api::ContainerWaitResponse;
use http_body_util::BodyExt as _;

use crate::answer::{Answer, ByteStream};
use crate::call::{Call, Exchange};
use crate::error::{ClientError, Result};

/// A wait the daemon has taken note of; its answer comes when the container gets there.
pub struct Waiting {
    exchange: Exchange,
}

impl Waiting {
    pub(crate) async fn begin(call: Call<'_>) -> Result<Self> {
        Ok(Self {
            exchange: call.send().await?,
        })
    }

    /// Waits for the container.
    ///
    /// # Errors
    /// [`ClientError::Transport`] when the daemon goes away meanwhile.
    pub async fn answer(self) -> Result<ContainerWaitResponse> {
        let Exchange { response, sender } = self.exchange;
        let body = response.into_body().collect().await;
        drop(sender);
        let bytes = body
            .map_err(|error| ClientError::Transport {
                request: "Post \"wait\"".into(),
                cause: error.to_string(),
            })?
            .to_bytes();
        Answer::new(bytes).decode()
    }
}

/// Log bytes and how they are laid out.
pub struct LogStream {
    /// Raw for terminals, frames otherwise; `None` when the daemon (before API 1.42) does not say.
    pub framing: Option<Framing>,
    /// The bytes.
    pub bytes: ByteStream,
}

impl LogStream {
    pub(crate) async fn begin(call: Call<'_>) -> Result<Self> {
        let Exchange { response, sender } = call.send().await?;
        let framing = match response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .map(|v| v.as_bytes())
        {
            Some(b"application/vnd.docker.multiplexed-stream") => Some(Framing::Multiplexed),
            _ => None,
        };
        Ok(Self {
            framing,
            bytes: ByteStream::new(response.into_body(), sender),
        })
    }
}
