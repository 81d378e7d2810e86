//! JSON for templates. gotmpl keeps maps sorted, but `{{json .X}}` of an answer has to print fields as the daemon sent them.
//! So each map made here is remembered by its address together with the order of its keys.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use gotmpl::Value;
use serde_json::Value as Json;

/// Fields that are maps of lists, where Docker's templates see an empty list for `null`.
const MAPS_OF_LISTS: &[&str] = &["Ports", "PortBindings"];

/// Key orders of maps, by the address of the map. The maps live as long as the root value they belong to.
#[derive(Clone, Debug, Default)]
pub struct KeyOrder {
    keys: HashMap<usize, Arc<[Arc<str>]>>,
    /// Maps whose empty lists are `null` in JSON.
    of_lists: HashSet<usize>,
}

/// A template value of a JSON document, and the order of its keys.
pub fn ordered_value(json: &Json) -> (Value, KeyOrder) {
    let mut order = KeyOrder::default();
    let value = convert(json, "", &mut order);
    (value, order)
}

/// `name` is that of the field.
fn convert(json: &Json, name: &str, order: &mut KeyOrder) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_u64().map(Value::Uint))
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or(0.0))),
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(items) => {
            Value::List(items.iter().map(|item| convert(item, "", order)).collect())
        }
        Json::Object(fields) => {
            let keys: Arc<[Arc<str>]> = fields.keys().map(|key| key.as_str().into()).collect();
            let of_lists = MAPS_OF_LISTS.contains(&name);
            let mut field = |key: &str, value: &Json| match value {
                Json::Null if of_lists => Value::List(Vec::new().into()),
                value => convert(value, key, order),
            };
            let map: BTreeMap<Arc<str>, Value> = keys
                .iter()
                .zip(fields.values())
                .map(|(key, value)| (key.clone(), field(key, value)))
                .collect();
            let map = Arc::new(map);
            let address = Arc::as_ptr(&map) as usize;
            order.keys.insert(address, keys);
            if of_lists {
                order.of_lists.insert(address);
            }
            Value::Map(map)
        }
    }
}

/// The JSON text of a template value; `<`, `>` and `&` are escaped for rows of listings, as Go does it there.
pub fn write(value: &Value, order: &KeyOrder, escape: bool, out: &mut String) {
    match value {
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Uint(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&Json::from(*number).to_string()),
        Value::String(text) => write_text(text, escape, out),
        Value::List(items) => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write(item, order, escape, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            let sorted: Vec<Arc<str>>;
            let address = Arc::as_ptr(map) as usize;
            let keys: &[Arc<str>] = match order.keys.get(&address) {
                Some(keys) => keys,
                None => {
                    sorted = map.keys().cloned().collect();
                    &sorted
                }
            };
            let fields = keys
                .iter()
                .filter_map(|key| Some((key, map.get(key)?)))
                .filter(|(_, value)| !value.is_function());
            for (number, (key, value)) in fields.enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write_text(key, escape, out);
                out.push(':');
                match value {
                    Value::List(items) if items.is_empty() && order.of_lists.contains(&address) => {
                        out.push_str("null");
                    }
                    value => write(value, order, escape, out),
                }
            }
            out.push('}');
        }
        _ => out.push_str("null"),
    }
}

fn write_text(text: &str, escape: bool, out: &mut String) {
    let quoted = Json::from(text).to_string();
    for letter in quoted.chars() {
        match letter {
            '<' | '>' | '&' if escape => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            '\u{7f}' => out.push('\u{7f}'),
            letter => out.push(letter),
        }
    }
}
