//! `{{.Label "key"}}` in templates of listings: one label of a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

/// The field's name.
const FIELD: &str = ".Label";

/// The value of a row's `Label` field.
pub fn label(labels: BTreeMap<String, String>) -> Value {
    Value::Function(Arc::new(move |args: &[Value]| {
        let key = args.first().map(ToString::to_string).unwrap_or_default();
        let value = labels.get(&key).map_or("", String::as_str);
        Ok(Value::String(value.into()))
    }))
}

/// What `Label` is in the line of headers: the last part of the key, in words.
pub(super) fn header() -> Value {
    Value::Function(Arc::new(|args: &[Value]| {
        let key = args.first().map(ToString::to_string).unwrap_or_default();
        let last = key.rsplit('.').next().unwrap_or_default();
        Ok(Value::String(last.replace(['-', '_'], " ").into()))
    }))
}

/// The template with `.Label "key"` written as the call it is: templates of gotmpl call fields only by `call`.
pub(super) fn callable(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 5);
    let mut rest = source;
    while let Some(at) = rest.find(FIELD) {
        let (before, after) = (&rest[..at], &rest[at + FIELD.len()..]);
        out.push_str(before);
        if after.starts_with([' ', '\t']) {
            out.push_str("call ");
        }
        out.push_str(FIELD);
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_are_rewritten() {
        assert_eq!(
            callable(r#"{{.Labels}} {{.Label "a"}} {{upper (.Label "b")}}"#),
            r#"{{.Labels}} {{call .Label "a"}} {{upper (call .Label "b")}}"#
        );
    }
}
