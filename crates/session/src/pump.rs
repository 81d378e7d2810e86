//! Bytes between streams of messages and plain connections.

use bollard_buildkit_proto::moby::sshforward::v1::BytesMessage;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tonic::Streaming;

/// Writes what comes until it ends or the other side takes no more.
pub async fn write(mut messages: Streaming<BytesMessage>, mut writer: impl AsyncWrite + Unpin) {
    while let Ok(Some(message)) = messages.message().await {
        if writer.write_all(&message.data).await.is_err() {
            return;
        }
    }
    // The other side may have gone already.
    let _ = writer.shutdown().await;
}
