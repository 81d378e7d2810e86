//! `WWW-Authenticate` (RFC 9110, 11.6.1; the token specification of the registry).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// How a registry wants to be convinced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

/// The challenge of an answer that we can meet: a token before a password.
pub fn of_answer(headers: &HeaderMap) -> Option<Challenge> {
    let all: Vec<(String, Vec<(String, String)>)> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse)
        .collect();
    let bearer = all.iter().find_map(|(scheme, parameters)| {
        let get = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        (scheme == "bearer").then(|| {
            Some(Challenge::Bearer {
                realm: get("realm")?,
                service: get("service"),
            })
        })?
    });
    let has_basic = all.iter().any(|(scheme, _)| scheme == "basic");
    bearer.or(has_basic.then_some(Challenge::Basic))
}

/// Why a token was not enough (RFC 6750, 3.1): the registry's code for it, and what it says.
pub fn token_error(headers: &HeaderMap) -> Option<(&'static str, String)> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    let all = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse);
    all.filter(|(scheme, _)| scheme == "bearer")
        .find_map(|(_, parameters)| {
            let get = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| value.clone())
            };
            let code = match get("error")?.as_str() {
                "invalid_token" => "UNAUTHORIZED",
                "insufficient_scope" => "DENIED",
                _ => return None,
            };
            Some((code, get("error_description").unwrap_or_default()))
        })
}

/// Schemes in lower case with their parameters; several may be in one header.
fn parse(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c == '=' || c == ',' || c.is_whitespace())
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start();
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, remainder) = parameter_value(value.trim_start());
                parameters.push((word.to_ascii_lowercase(), value));
                rest = remainder;
            }
            (Some(value), None) => rest = parameter_value(value.trim_start()).1,
            (None, _) => {
                if !word.is_empty() {
                    found.push((word.to_ascii_lowercase(), Vec::new()));
                }
                rest = after;
            }
        }
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    }
    found
}

/// A token or a quoted string, and what comes after it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text
            .find(|c: char| c == ',' || c.is_whitespace())
            .unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        of_answer(&headers)
    }

    #[test]
    fn tokens_are_preferred_and_odd_headers_do_no_harm() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (values, want) in [
            (
                &[r#"Bearer realm="https://a/t",service="s, x",scope="repository:a:pull""#][..],
                bearer("https://a/t", Some("s, x")),
            ),
            (&["Basic realm=\"x\""], Some(Challenge::Basic)),
            (
                &[r#"Basic realm="x", bearer realm="https://b\"/""#],
                bearer("https://b\"/", None),
            ),
            (
                &["Basic realm=x", "Bearer realm=https://c/"],
                bearer("https://c/", None),
            ),
            (&["Bearer service=s"], None),
            (&["Negotiate"], None),
            (&["=,,= \"", "realm=\"open"], None),
            (&[], None),
        ] {
            assert_eq!(challenge(values), want, "{values:?}");
        }
    }
}
