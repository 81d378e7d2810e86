//! Decoding of JSON as Go's `encoding/json` does it for Docker: keys match without regard to case, `null` stands for the
//! zero value of anything, missing fields are zero, unknown fields are ignored.
//!
//! It works for every derived struct, because serde tells a deserializer the field names a struct knows.

use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::{Error, Value};

/// Decodes a body.
///
/// # Errors
/// The bytes are not JSON, or a value has another type than its field.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    from_value(&serde_json::from_slice(bytes)?)
}

/// Decodes a parsed value.
///
/// # Errors
/// A value has another type than its field.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(Lenient(value))
}

/// Reads a [`Value`] the way Go does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lenient<'a>(pub(super) &'a Value);

impl<'de> IntoDeserializer<'de, Error> for Lenient<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! zero_when_null {
    ($($method:ident => $visit:ident($zero:expr);)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0 {
                Value::Null => visitor.$visit($zero),
                value => value.$method(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Lenient<'de> {
    type Error = Error;

    zero_when_null! {
        deserialize_bool => visit_bool(false);
        deserialize_i8 => visit_i8(0);
        deserialize_i16 => visit_i16(0);
        deserialize_i32 => visit_i32(0);
        deserialize_i64 => visit_i64(0);
        deserialize_u8 => visit_u8(0);
        deserialize_u16 => visit_u16(0);
        deserialize_u32 => visit_u32(0);
        deserialize_u64 => visit_u64(0);
        deserialize_f32 => visit_f32(0.0);
        deserialize_f64 => visit_f64(0.0);
        deserialize_str => visit_borrowed_str("");
        deserialize_string => visit_borrowed_str("");
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items: &[Value] = match self.0 {
            Value::Null => &[],
            Value::Array(items) => items,
            other => return Err(mismatch(other, "an array")),
        };
        let items = items.iter().map(Lenient);
        visitor.visit_seq(serde::de::value::SeqDeserializer::new(items))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor
                .visit_map(MapDeserializer::new(
                    std::iter::empty::<(&str, Lenient<'de>)>(),
                )),
            Value::Object(map) => visitor.visit_map(MapDeserializer::new(
                map.iter()
                    .map(|(key, value)| (key.as_str(), Lenient(value))),
            )),
            other => Err(mismatch(other, "an object")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let map = match self.0 {
            Value::Null => return visitor.visit_map(MapDeserializer::new(no_fields())),
            Value::Object(map) => map,
            other => return Err(mismatch(other, "an object")),
        };
        let mut known: Vec<(&'static str, Lenient<'de>)> = Vec::with_capacity(map.len());
        for (key, value) in map {
            if value.is_null() {
                continue;
            }
            let Some(field) = field_of(fields, key) else {
                continue;
            };
            match known.iter_mut().find(|(name, _)| *name == field) {
                Some(slot) => slot.1 = Lenient(value),
                None => known.push((field, Lenient(value))),
            }
        }
        visitor.visit_map(MapDeserializer::new(known.into_iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}

fn no_fields<'de>() -> std::iter::Empty<(&'static str, Lenient<'de>)> {
    std::iter::empty()
}

fn field_of(fields: &'static [&'static str], key: &str) -> Option<&'static str> {
    let exact = fields.iter().find(|field| **field == key);
    exact
        .or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(key)))
        .copied()
}

fn mismatch(value: &Value, wanted: &str) -> Error {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Error::custom(format!("cannot unmarshal {kind}: expected {wanted}"))
}

/// For `deserialize_with`: one text stands for a list of one, as Docker allows for Cmd, Entrypoint and Shell.
pub(super) fn text_or_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    use serde::Deserialize;
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(vec![text])),
        list => from_value(&list).map(Some).map_err(D::Error::custom),
    }
}

/// For `skip_serializing_if`: Go's `omitempty`.
pub(super) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
