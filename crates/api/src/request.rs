//! A request as a handler sees it: its parameters, its query and its body, read by Docker's rules.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use cais_types::api::decode;
use cais_types::api::query::Filters;
use cais_types::oci::Platform;
use cais_types::{Error, Result};
use futures_util::StreamExt;
use http::{HeaderMap, header};
use http_body_util::{BodyDataStream, BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde::de::DeserializeOwned;

use crate::backend::{Backends, Upload};
use crate::version::Version;

/// The most bytes of a JSON body.
const MAX_JSON: usize = 8 << 20;

/// One request on its way to a handler.
pub struct Call {
    pub backends: Backends,
    pub version: Version,
    /// What the placeholders of the route stand for, decoded.
    pub params: Vec<String>,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: RequestBody,
}

impl Call {
    /// What the first placeholder stands for.
    pub fn name(&self) -> &str {
        self.params.first().map_or("", String::as_str)
    }

    /// The JSON body; an absent one is the zero value.
    ///
    /// # Errors
    /// Invalid: another content type, not JSON, or more than 8 MiB.
    pub async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        Ok(self.json_or_none().await?.unwrap_or_default())
    }

    /// The JSON body, if there is one.
    ///
    /// # Errors
    /// Invalid: another content type, not JSON, or more than 8 MiB.
    pub async fn json_or_none<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let empty = self.body.is_end_stream();
        check_json(&self.headers, empty)?;
        if empty {
            return Ok(None);
        }
        let limited = Limited::new(&mut self.body, MAX_JSON);
        let bytes = limited.collect().await;
        let bytes = bytes.map_err(|error| Error::invalid(format!("invalid JSON: {error}")))?;
        let bytes = bytes.to_bytes();
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::invalid(
                "invalid JSON: got EOF while reading request body",
            ));
        }
        match decode::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.to_string().starts_with("trailing characters") => {
                Err(Error::invalid("unexpected content after JSON"))
            }
            Err(error) => Err(Error::invalid(format!("invalid JSON: {error}"))),
        }
    }

    /// The body as it arrives.
    pub fn upload(self) -> Upload {
        let chunks = BodyDataStream::new(self.body);
        Box::pin(chunks.map(|chunk: Result<Bytes, hyper::Error>| {
            chunk.map_err(|error| {
                Error::new(
                    cais_types::ErrorClass::Canceled,
                    "the request body broke off",
                )
                .with_source(error)
            })
        }))
    }

    /// The platform asked for, as JSON or as `os[/architecture[/variant]]`.
    ///
    /// # Errors
    /// Invalid: it is neither.
    pub fn platform(&self) -> Result<Option<Platform>> {
        self.query.get("platform").map(platform).transpose()
    }

    /// The platforms asked for, by a parameter that may be given several times.
    ///
    /// # Errors
    /// Invalid: one is no platform.
    pub fn platforms(&self, name: &str) -> Result<Vec<Platform>> {
        let texts = self.query.all(name).into_iter();
        let given = texts.filter(|text| !text.is_empty());
        given.map(|text| platform(&text)).collect()
    }
}

fn platform(text: &str) -> Result<Platform> {
    let invalid = |text: String| Error::invalid(format!("invalid platform: {text}"));
    if text.starts_with('{') {
        return decode::from_slice(text.as_bytes()).map_err(|error| invalid(error.to_string()));
    }
    text.parse::<Platform>()
        .map_err(|error| Error::invalid(error.to_string()).with_source(error))
}

/// The most bytes of an unread body that are thrown away.
const MAX_UNREAD: usize = 256 << 10;

/// A request's body. What nobody has read of it is thrown away, up to a bound: a client that still writes shall see the
/// answer and not a closed connection (Go's server does the same).
pub struct RequestBody(Option<Incoming>);

impl RequestBody {
    /// Takes a body over.
    pub fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let unread = self.0.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (unread, tokio::runtime::Handle::try_current()) {
            runtime.spawn(Limited::new(body, MAX_UNREAD).collect());
        }
    }
}

fn check_json(headers: &HeaderMap, empty: bool) -> Result<()> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map_or("", |value| value.to_str().unwrap_or("?"));
    if content_type.is_empty() && empty {
        return Ok(());
    }
    let media = content_type.split(';').next().unwrap_or("").trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    if media.is_empty() {
        return Err(Error::invalid(format!(
            "malformed Content-Type header ({content_type}): mime: no media type"
        )));
    }
    Err(Error::invalid(format!(
        "unsupported Content-Type header ({content_type}): must be 'application/json'"
    )))
}

/// The parameters behind the `?`.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses what stands behind the `?`.
    pub fn parse(text: &str) -> Self {
        Self(serde_urlencoded::from_str(text).unwrap_or_default())
    }

    /// The first value of a name; an empty one counts as not given.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The first value of a name, owned.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// Every value of a name.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(key, _)| key == name);
        values.map(|(_, value)| value.clone()).collect()
    }

    /// A truth value: everything but nothing, `0`, `no`, `false` and `none` is true.
    pub fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// A truth value with a default for a name that is not given at all.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        match self.0.iter().find(|(key, _)| key == name) {
            None => default,
            Some((_, value)) => !matches!(
                value.trim().to_ascii_lowercase().as_str(),
                "" | "0" | "no" | "false" | "none"
            ),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// Invalid: it is none.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let bad = || {
            Error::invalid(format!(
                "invalid {name}: strconv.Atoi: parsing {text:?}: invalid syntax"
            ))
        };
        text.parse().map(Some).map_err(|_| bad())
    }

    /// A time of `seconds[.nanoseconds]`, in Unix nanoseconds.
    ///
    /// # Errors
    /// Invalid: it has another form.
    pub fn time(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        parse_time(text).map(Some).ok_or_else(|| {
            Error::invalid(format!(
                "invalid value for {name:?}: {text:?}: invalid syntax"
            ))
        })
    }

    /// The filter set.
    ///
    /// # Errors
    /// Invalid: it cannot be read.
    pub fn filters(&self) -> Result<Filters> {
        Filters::from_json(self.get("filters").unwrap_or(""))
    }
}

fn parse_time(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.bytes().all(|b| b.is_ascii_digit()) && fraction.len() <= 9;
    let padded = format!("{fraction:0<9}");
    let nanoseconds: i64 = padded.parse().ok().filter(|_| digits)?;
    let seconds: i64 = seconds.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::{Query, parse_time};

    #[test]
    fn flags_follow_dockers_words() {
        let query = Query::parse("a=1&b=False&c=&d=none&e=yes&n=x&names=p&names=q%2Fr");
        let flags: Vec<bool> = ["a", "b", "c", "d", "e", "f"]
            .map(|name| query.flag(name))
            .into();
        assert_eq!(flags, [true, false, false, false, true, false]);
        assert!(query.flag_or("f", true));
        assert!(query.number::<i64>("n").is_err());
        assert_eq!(query.all("names"), ["p", "q/r"]);
    }

    #[test]
    fn times_are_seconds_with_a_fraction() {
        assert_eq!(parse_time("1.5"), Some(1_500_000_000));
        assert_eq!(parse_time("12.000000001"), Some(12_000_000_001));
        assert_eq!(parse_time("0"), Some(0));
        for bad in ["", "x", "1.x", "2020-01-01", "99999999999999999"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }
}
