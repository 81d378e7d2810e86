//! Bodies of answers, each with a limit and with a time for every part of it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use reqwest::Response;

use super::error::{Answer, RegistryError, transport_reason, verb};

const REFUSAL_MAX: u64 = 64 << 10;

/// The next part of a body; none at its end.
pub async fn next(
    response: &mut Response,
    timeout: Duration,
) -> Result<Option<Bytes>, RegistryError> {
    let broken = |reason: String, passing: bool, url: String| RegistryError::Transport {
        verb: "Get",
        url,
        reason,
        passing,
    };
    match tokio::time::timeout(timeout, response.chunk()).await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(error)) => {
            let (reason, _) = transport_reason(&error, response.url().authority());
            Err(broken(reason, true, shown(response)))
        }
        Err(_) => {
            let reason = "net/http: request canceled (Client.Timeout or context cancellation while reading body)";
            Err(broken(reason.to_owned(), true, shown(response)))
        }
    }
}

/// The URL of an answer as it may be shown: the query of a signed one is a secret.
fn shown(response: &Response) -> String {
    let mut url = response.url().clone();
    url.set_query(None);
    url.to_string()
}

/// A whole small body.
pub async fn whole(
    mut response: Response,
    limit: u64,
    what: &'static str,
    timeout: Duration,
) -> Result<Bytes, RegistryError> {
    let too_large = || RegistryError::TooLarge { what, limit };
    if response.content_length().is_some_and(|size| size > limit) {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    let work = async {
        while let Some(part) = next(&mut response, timeout).await? {
            if (bytes.len() + part.len()) as u64 > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&part);
        }
        Ok(())
    };
    // A small body that comes byte by byte is as good as one that does not come.
    match tokio::time::timeout(timeout * 2, work).await {
        Ok(done) => done?,
        Err(_) => {
            return Err(RegistryError::Transport {
                verb: "Get",
                url: shown(&response),
                reason: "net/http: request canceled (Client.Timeout or context cancellation while reading body)".into(),
                passing: true,
            });
        }
    }
    Ok(bytes.freeze())
}

/// The error that an answer with another status than the wanted is; `unknown` is the code of a 404 that says nothing.
pub async fn refusal(
    response: Response,
    method: &Method,
    unknown: &'static str,
    timeout: Duration,
) -> RegistryError {
    let status = response.status();
    let headers = response.headers().clone();
    tracing::debug!("{} {}: {status}", verb(method), shown(&response));
    let bytes = whole(response, REFUSAL_MAX, "the error", timeout).await;
    let bytes = bytes.unwrap_or_default();
    RegistryError::Answer(Box::new(Answer::new(status, &headers, &bytes, unknown)))
}
