//! Holds every answer of the admin API against the OpenAPI document that the same proxy serves:
//! an answer that the document does not know fails the test that got it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jsonschema::Validator;
use serde_json::{Value, json};

/// The document and what was compiled of it.
pub struct Contract {
    document: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Contract {
    pub fn new(document: Value) -> Self {
        assert_eq!(document["openapi"], "3.1.0");
        for part in document.to_string().split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap_or_default();
            assert!(document.pointer(pointer).is_some(), "the document has no {pointer}");
        }
        Self { document, validators: Mutex::default() }
    }

    /// Panics unless the document has an answer such as this one.
    pub fn check(&self, method: &str, path: &str, status: u16, kind: &str, body: &[u8]) {
        let asked = format!("{method} {path} → {status} {kind}");
        // Whatever a path answers to a method that it has not, and an unknown path, is no operation.
        let Some((template, operation)) = self.operation(method, path) else {
            assert!([404, 405].contains(&status), "{asked}: an operation without documentation");
            return;
        };
        let answer = &operation["responses"][status.to_string()];
        assert!(answer.is_object(), "{asked}: the document has no such status");
        let content = answer["content"].as_object().expect("every answer has content");
        let bare = kind.split(';').next().unwrap_or_default();
        let known = content.iter().find(|(name, _)| name.split(';').next() == Some(bare));
        let (_, media) = known.unwrap_or_else(|| panic!("{asked}: the document has no such type"));
        if !bare.ends_with("json") {
            return;
        }
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let key = format!("{method} {template} {status}");
        let errors: Vec<String> = self
            .validator(key, &media["schema"])
            .iter_errors(&body)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{asked}: {errors:#?}\n{body:#}");
    }

    /// The operation of a path, with the path's template.
    fn operation(&self, method: &str, path: &str) -> Option<(&str, &Value)> {
        let paths = self.document["paths"].as_object().expect("there are paths");
        let fits = |template: &str| {
            let (mut wanted, mut given) = (template.split('/'), path.split('/'));
            loop {
                match (wanted.next(), given.next()) {
                    (None, None) => return true,
                    (Some(wanted), Some(given)) if wanted.starts_with('{') || wanted == given => {}
                    _ => return false,
                }
            }
        };
        let (template, item) = paths
            .iter()
            // A path without parameters wins over one with some.
            .min_by_key(|(template, _)| (!fits(template), template.contains('{')))
            .filter(|(template, _)| fits(template))?;
        Some((template, item.get(method.to_lowercase())?))
    }

    fn validator(&self, key: String, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let compile = || {
            let mut whole = json!({"allOf": [schema]});
            whole["components"] = self.document["components"].clone();
            Arc::new(jsonschema::draft202012::new(&whole).expect("a schema of the document"))
        };
        Arc::clone(validators.entry(key).or_insert_with(compile))
    }
}
