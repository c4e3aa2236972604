//! The domain's JSON Schemas, as OpenAPI sees them.
//!
//! The domain describes itself with `schemars` alone; OpenAPI 3.1 speaks the same JSON Schema, so what `schemars`
//! generates is taken over as it is.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use utoipa::openapi::RefOr;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType};
use utoipa::{PartialSchema, ToSchema};

/// Stands for a domain type in OpenAPI documents; it has no values.
pub struct Domain<T>(PhantomData<T>);

/// Where a task is in its life.
pub type TaskStatusSchema = Domain<domain::TaskStatus>;
/// How an agent runs.
pub type ExecutionModeSchema = Domain<domain::ExecutionMode>;
/// A typed failure.
pub type FailureSchema = Domain<domain::Failure>;
/// What model calls used.
pub type UsageSchema = Domain<domain::Usage>;
/// What a task is asked to do.
pub type TaskInputSchema = Domain<domain::TaskInput>;
/// An agent's file.
pub type AgentSpecSchema = Domain<domain::AgentSpec>;

impl<T: JsonSchema> PartialSchema for Domain<T> {
    fn schema() -> RefOr<Schema> {
        of::<T>(None)
    }
}

impl<T: JsonSchema> ToSchema for Domain<T> {
    fn name() -> Cow<'static, str> {
        T::schema_name()
    }
}

/// The schema of `T` without references, with an example if given.
pub(crate) fn of<T: JsonSchema>(example: Option<serde_json::Value>) -> RefOr<Schema> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut keywords = match schema.to_value() {
        serde_json::Value::Object(keywords) => keywords,
        _ => serde_json::Map::new(),
    };
    if let Some(example) = example {
        keywords.insert("examples".to_owned(), serde_json::json!([example]));
    }
    // The builder knows only some keywords of JSON Schema; extensions are written out as they are, whatever their name.
    let extensions: Extensions = keywords.into_iter().collect();
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).extensions(Some(extensions)).build().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_schema_arrives_whole() {
        let value = serde_json::to_value(<TaskStatusSchema as PartialSchema>::schema()).expect("serializes");
        let text = value.to_string();
        assert!(text.contains("queued") && text.contains("cancelled"), "{text}");
        assert!(!text.contains("$ref") && !text.contains("$schema"), "{text}");
        assert_eq!(TaskStatusSchema::name(), "TaskStatus");
    }
}
