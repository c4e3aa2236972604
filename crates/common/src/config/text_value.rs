//! Reads a setting that is only text, as in the environment, into whatever type its field has.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde_json::Value as Json;

/// A setting's value before its type is known.
#[derive(Clone)]
pub(super) enum Setting {
    /// From the environment.
    Text(String),
    /// From the file, where it has a type already.
    Typed(Json),
}

impl Setting {
    pub(super) fn file(value: &toml::Value) -> Self {
        match value {
            // TOML's own dates and times become the text that our types read.
            toml::Value::Datetime(at) => Self::Typed(Json::String(at.to_string())),
            value => Self::Typed(serde_json::to_value(value).unwrap_or_default()),
        }
    }
}

/// Why a value was refused; without the name of its setting, which the caller knows.
#[derive(Debug)]
pub(super) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

pub(super) fn struct_from<T: DeserializeOwned>(settings: &BTreeMap<&str, Setting>) -> Result<T, Refused> {
    T::deserialize(MapDeserializer::new(settings.iter().map(|(name, value)| (*name, value.clone()))))
}

impl IntoDeserializer<'_, Refused> for Setting {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            match self {
                Self::Text(text) => number(&text, visitor),
                Self::Typed(value) => typed(value.$method(visitor)),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Setting {
    type Error = Refused;

    numbers! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_f32 deserialize_f64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self {
            Self::Text(text) => visitor.visit_string(text),
            Self::Typed(value) => typed(value.deserialize_any(visitor)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let text = match self {
            Self::Text(text) => text,
            Self::Typed(value) => return typed(value.deserialize_bool(visitor)),
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => visitor.visit_bool(true),
            "false" | "0" | "no" | "off" => visitor.visit_bool(false),
            _ => Err(Refused("must be true or false".to_owned())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self {
            Self::Text(text) => visitor.visit_enum(IntoDeserializer::<Refused>::into_deserializer(text.as_str())),
            Self::Typed(value) => typed(value.deserialize_enum(name, variants, visitor)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self {
            Self::Text(text) if text.trim_start().starts_with('[') => json(&text)?.deserialize_seq(visitor),
            Self::Text(text) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                visitor.visit_seq(SeqDeserializer::new(parts.map(|part| Self::Text(part.to_owned()))))
            }
            Self::Typed(value) => typed(value.deserialize_seq(visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self {
            Self::Text(text) => json(&text)?.deserialize_map(visitor),
            Self::Typed(value) => typed(value.deserialize_map(visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self {
            Self::Text(text) => json(&text)?.deserialize_struct(name, fields, visitor),
            Self::Typed(value) => typed(value.deserialize_struct(name, fields, visitor)),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

fn number<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, Refused> {
    let text = text.trim();
    if let Ok(number) = text.parse::<u64>() {
        visitor.visit_u64(number)
    } else if let Ok(number) = text.parse::<i64>() {
        visitor.visit_i64(number)
    } else if let Some(number) = text.parse::<f64>().ok().filter(|number| number.is_finite()) {
        visitor.visit_f64(number)
    } else {
        Err(de::Error::invalid_type(de::Unexpected::Str(text), &visitor))
    }
}

fn json(text: &str) -> Result<Setting, Refused> {
    serde_json::from_str(text).map(Setting::Typed).map_err(|error| Refused(format!("must be JSON: {error}")))
}

fn typed<T>(result: Result<T, serde_json::Error>) -> Result<T, Refused> {
    result.map_err(|error| Refused(error.to_string()))
}
