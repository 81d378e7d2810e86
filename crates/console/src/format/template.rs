//! Go templates with the functions of Docker's command line.

use std::sync::Arc;

use gotmpl::{MissingKey, TemplateError, Value, ValueFunc};

use super::json::{self, KeyOrder};

/// What a template is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Values of a row or an answer.
    Values,
    /// Column headers: functions leave them alone.
    Headers,
}

/// A parsed template.
pub struct Template {
    source: String,
    template: gotmpl::Template,
}

type Outcome<T> = std::result::Result<T, TemplateError>;

impl Template {
    /// Parses a template. `order` tells `json` how maps were ordered; `escape` makes it escape as Go does in listings.
    ///
    /// # Errors
    /// Go's text, from `template: ` on.
    pub fn parse(
        source: &str,
        purpose: Purpose,
        order: KeyOrder,
        escape: bool,
    ) -> Result<Self, String> {
        let mut template = gotmpl::Template::new("").missing_key(MissingKey::Error);
        for (name, function) in functions(purpose, order, escape) {
            template = template.func(name, move |args: &[Value]| function(args));
        }
        let template = template.parse(source).map_err(|error| located(&error))?;
        // gotmpl finds an unknown function only when it comes to it; Go finds it while parsing.
        if let Err(error @ TemplateError::UndefinedFunction(_)) =
            template.execute_to_string(&Value::Nil)
        {
            return Err(located(&error));
        }
        Ok(Self {
            source: source.to_owned(),
            template,
        })
    }

    /// Runs the template.
    ///
    /// # Errors
    /// `template: :1:2: executing "" at <.Foo>: ...`.
    pub fn run(&self, data: &Value, missing: impl Fn(&str) -> String) -> Result<String, String> {
        self.template
            .execute_to_string(data)
            .map_err(|error| match &error {
                TemplateError::MissingKey { key } => {
                    let (at, expression) = self.place_of(key);
                    format!(
                        "template: :1:{at}: executing \"\" at <{expression}>: {}",
                        missing(key)
                    )
                }
                other => format!("template: :1: executing \"\": {other}"),
            })
    }

    /// Where a field is named, and by what: `.State.Foo`.
    fn place_of(&self, key: &str) -> (usize, String) {
        let needle = format!(".{key}");
        let Some(at) = self.source.find(&needle) else {
            return (0, needle);
        };
        let chain = |c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == '$';
        let start = self.source[..at]
            .rfind(|c| !chain(c))
            .map_or(0, |before| before + 1);
        let rest = at + needle.len();
        let end = self.source[rest..]
            .find(|c| !chain(c))
            .map_or(self.source.len(), |more| rest + more);
        let expression = &self.source[start..end];
        (
            start + expression.rfind('.').unwrap_or(0),
            expression.to_owned(),
        )
    }
}

/// Go's text of a syntax error: the line without the column.
fn located(error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            format!("template: :{line}: {message}")
        }
        TemplateError::UndefinedFunction(name) => {
            format!("template: :1: function {name:?} not defined")
        }
        other => format!("template: :1: {other}"),
    }
}

fn functions(purpose: Purpose, order: KeyOrder, escape: bool) -> Vec<(&'static str, ValueFunc)> {
    if purpose == Purpose::Headers {
        let same: ValueFunc =
            Arc::new(|args: &[Value]| Ok(args.first().cloned().unwrap_or(Value::Nil)));
        return [
            "json", "split", "join", "title", "lower", "upper", "truncate",
        ]
        .into_iter()
        .map(|name| (name, same.clone()))
        .chain([("pad", Arc::new(pad) as ValueFunc)])
        .collect();
    }
    let to_json = move |args: &[Value]| -> Outcome<Value> {
        let mut text = String::new();
        json::write(
            args.first().unwrap_or(&Value::Nil),
            &order,
            escape,
            &mut text,
        );
        Ok(Value::String(text.into()))
    };
    vec![
        ("json", Arc::new(to_json)),
        ("index", Arc::new(index)),
        ("split", Arc::new(split)),
        ("join", Arc::new(join)),
        (
            "title",
            Arc::new(|args: &[Value]| Ok(text_value(title(&text(args, 0))))),
        ),
        (
            "lower",
            Arc::new(|args: &[Value]| Ok(text_value(text(args, 0).to_lowercase()))),
        ),
        (
            "upper",
            Arc::new(|args: &[Value]| Ok(text_value(text(args, 0).to_uppercase()))),
        ),
        ("pad", Arc::new(pad)),
        ("truncate", Arc::new(truncate)),
    ]
}

fn text(args: &[Value], at: usize) -> String {
    args.get(at).map(ToString::to_string).unwrap_or_default()
}

fn text_value(text: String) -> Value {
    Value::String(text.into())
}

fn number(args: &[Value], at: usize) -> usize {
    args.get(at)
        .and_then(Value::as_int)
        .and_then(|number| usize::try_from(number).ok())
        .unwrap_or(0)
}

/// Go's `index`; what a map of texts does not have is an empty text.
fn index(args: &[Value]) -> Outcome<Value> {
    let failed = |cause: String| TemplateError::Exec(format!("error calling index: {cause}"));
    let (whole, keys) = args
        .split_first()
        .ok_or_else(|| failed("missing value".into()))?;
    let mut found = whole.clone();
    for key in keys {
        found = match &found {
            Value::Map(map) => {
                let name = key.to_string();
                let text = |value: &Value| matches!(value, Value::String(_) | Value::Nil);
                let texts = map.values().all(text);
                let missing = || {
                    if texts {
                        text_value(String::new())
                    } else {
                        Value::Nil
                    }
                };
                map.get(name.as_str())
                    .filter(|value| !matches!(value, Value::Nil))
                    .cloned()
                    .unwrap_or_else(missing)
            }
            Value::List(items) => {
                let at = key.as_int().and_then(|at| usize::try_from(at).ok());
                at.and_then(|at| items.get(at))
                    .cloned()
                    .ok_or_else(|| failed(format!("index out of range: {key}")))?
            }
            Value::Nil => return Err(failed("index of untyped nil".into())),
            _ => return Err(failed("can't index item".into())),
        };
    }
    Ok(found)
}

fn split(args: &[Value]) -> Outcome<Value> {
    let (whole, separator) = (text(args, 0), text(args, 1));
    let parts = whole
        .split(separator.as_str())
        .map(|part| text_value(part.to_owned()));
    Ok(Value::List(parts.collect()))
}

fn join(args: &[Value]) -> Outcome<Value> {
    let Some(Value::List(items)) = args.first() else {
        return Ok(text_value(text(args, 0)));
    };
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    Ok(text_value(items.join(&text(args, 1))))
}

fn title(text: &str) -> String {
    let mut begin = true;
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if begin {
            out.extend(letter.to_uppercase());
        } else {
            out.push(letter);
        }
        begin = !(letter.is_alphanumeric() || letter == '_' || letter == '\'');
    }
    out
}

fn pad(args: &[Value]) -> Outcome<Value> {
    let whole = text(args, 0);
    if whole.is_empty() {
        return Ok(text_value(whole));
    }
    let (before, after) = (" ".repeat(number(args, 1)), " ".repeat(number(args, 2)));
    Ok(text_value(before + &whole + &after))
}

fn truncate(args: &[Value]) -> Outcome<Value> {
    Ok(text_value(
        text(args, 0).chars().take(number(args, 1)).collect(),
    ))
}
