//! The schemas that are published: what upstream's have, in words of our own where the words do not matter.

use serde_json::{Value, json};

/// Objects, a list of objects, and primitives, with a status.
pub fn foo() -> Value {
    let bar = json!({
        "type": "object", "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "Name of Bar."},
            "age": {"type": "string", "description": "Age of Bar."},
            "feeling": {"type": "string", "description": "Whether Bar is feeling great.", "enum": ["Great", "Down"]},
            "bazs": {"type": "array", "description": "List of Bazs.", "items": {"type": "string"}},
        },
    });
    let available = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Name of Bar."},
            "available": {"type": "boolean", "description": "Whether the Bar is installed."},
            "quxType": {"type": "string", "description": "Indicates to external qux type.", "pattern": "in-tree|out-of-tree"},
        },
    });
    json!({
        "type": "object", "description": "Foo CRD for Testing",
        "properties": {
            "spec": {
                "type": "object", "description": "Specification of Foo",
                "properties": {"bars": {"type": "array", "description": "List of Bars and their specs.", "items": bar}},
            },
            "status": {
                "type": "object", "description": "Status of Foo",
                "properties": {"bars": {"type": "array", "description": "List of Bars and their statuses.", "items": available}},
            },
        },
    })
}

/// Another one.
pub fn waldo() -> Value {
    json!({
        "type": "object", "description": "Waldo CRD for Testing",
        "properties": {
            "spec": {
                "type": "object", "description": "Specification of Waldo",
                "properties": {"dummy": {"type": "string", "description": "Dummy property."}},
            },
            "status": {
                "type": "object", "description": "Status of Waldo",
                "properties": {
                    "bars": {
                        "type": "array", "description": "List of Bars and their statuses.", "items": {"type": "string"},
                    },
                },
            },
        },
    })
}

/// Anything goes, and what is said of `spec` is said only of what it is.
pub fn unknown_at_root() -> Value {
    json!({
        "type": "object", "description": "preserve-unknown-properties at root for Testing", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "spec": {
                "type": "object", "description": "Specification of Waldo",
                "properties": {"dummy": {"type": "string", "description": "Dummy property."}},
            },
            "status": {
                "type": "object", "description": "Status of Waldo",
                "properties": {"bars": {"type": "array", "description": "List of Bars and their statuses.", "items": {"type": "string"}}},
            },
        },
    })
}

/// Anything goes in `spec`.
pub fn unknown_in_nested() -> Value {
    json!({
        "type": "object", "description": "preserve-unknown-properties in nested field for Testing",
        "properties": {
            "spec": {
                "type": "object", "description": "Specification of Waldo", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"dummy": {"type": "string", "description": "Dummy property."}},
            },
            "status": {
                "type": "object", "description": "Status of Waldo",
                "properties": {"bars": {"type": "array", "description": "List of Bars and their statuses.", "items": {"type": "string"}}},
            },
        },
    })
}
