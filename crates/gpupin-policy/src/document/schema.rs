use serde_json::{Map, Value, json};

use crate::document::{Key, Presence, Shape, Text};

/// The JSON Schema of a document with `keys`, which the map `profiles` may hold again.
///
/// Draft 7, because that is what TOML editors understand.
pub(crate) fn profiled(keys: &[Key], profiles: &Key) -> Value {
    let mut properties: Map<String, Value> = keys
        .iter()
        .map(|key| {
            let place = format!("#/definitions/keys/properties/{}", key.name);
            (key.name.to_owned(), json!({ "$ref": place }))
        })
        .collect();
    let named = json!({
        "description": profiles.doc,
        "type": "object",
        "additionalProperties": { "$ref": "#/definitions/keys" },
    });
    properties.insert(profiles.name.to_owned(), named);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "gpupin.toml",
        "description": "What a project declares about its GPU",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "definitions": { "keys": table(&[keys]) },
    })
}

fn table(groups: &[&[Key]]) -> Value {
    let keys = || groups.iter().copied().flatten();
    let properties: Map<String, Value> =
        keys().map(|key| (key.name.to_owned(), property(key))).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    let required: Vec<_> = keys()
        .filter(|key| matches!(key.presence, Presence::Required))
        .map(|key| key.name)
        .collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = shape(&key.shape);
    schema["description"] = json!(key.doc);
    schema["examples"] = json!([json_of(key.example)]);
    if let Presence::Default(text) = key.presence {
        schema["default"] = json_of(text);
    }
    schema
}

fn shape(shape_: &Shape) -> Value {
    match shape_ {
        Shape::Text(kind) => text(kind),
        Shape::Choice(choices) => {
            let one_of: Vec<_> = choices
                .iter()
                .map(|choice| json!({ "const": choice.name, "description": choice.doc }))
                .collect();
            json!({ "type": "string", "oneOf": one_of })
        }
        Shape::Number(least) => json!({ "type": "integer", "minimum": least, "maximum": u32::MAX }),
        Shape::List(item) => json!({ "type": "array", "items": shape(item) }),
        Shape::Table(groups) => table(groups),
        Shape::Map(name, value) => json!({
            "type": "object",
            "propertyNames": text(name),
            "additionalProperties": shape(value),
        }),
        Shape::AnyTable => json!({ "type": "object" }),
    }
}

fn text(kind: &Text) -> Value {
    let mut schema = json!({ "type": "string" });
    if let Some(pattern) = kind.pattern {
        schema["pattern"] = json!(pattern);
    }
    schema
}

fn json_of(toml_text: &str) -> Value {
    let document: toml::Table =
        format!("value = {toml_text}").parse().expect("examples and defaults are TOML");
    serde_json::to_value(&document["value"]).expect("TOML without dates is JSON")
}
