//! Reading a JSON object that somebody sends, and saying in words what is wrong with it.
//!
//! serde takes an array for a struct as well, by position, so that a list of values would be a
//! change; and it speaks of Rust's types. Neither is for whoever writes to an API. Its texts are
//! told apart here, and not by types of our own, because those would have to be at each field.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Longer values are cut in a sentence; one sees what was meant by their begin.
const SHOWN_LONGEST: usize = 60;

/// Reads a body that must be one JSON object.
///
/// # Errors
/// A sentence that names the field and what was expected.
pub fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Err("the body is empty: expected a JSON object".to_owned());
    }
    if !body.starts_with(b"{") {
        return Err("expected a JSON object: names and values within braces".to_owned());
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| sentence(&error.path().to_string(), error.inner()))?;
    reader.end().map_err(|error| sentence("", &error))?;
    Ok(value)
}

fn sentence(field: &str, error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Eof => return "the body ends within its JSON object".to_owned(),
        Category::Syntax | Category::Io => {
            return format!("the body is not valid JSON: look at line {line}, column {column}");
        }
        Category::Data => {}
    }
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    let quoted = text.replace('`', "\"");
    if let Some(name) = quoted.strip_prefix("duplicate field ") {
        return format!("the field {name} is there twice");
    }
    if let Some(name) = quoted.strip_prefix("missing field ") {
        return format!("the field {name} is missing");
    }
    if text.starts_with("unknown field") {
        return quoted;
    }
    let wrong =
        text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    match wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) {
        Some((value, kind)) => {
            format!("{field}: expected {}, not {}", kind_in_words(kind, value), shown(value))
        }
        None => format!("{field}: {text}"),
    }
}

/// What serde expected, without the names of Rust's types.
fn kind_in_words<'a>(kind: &'a str, value: &str) -> &'a str {
    let is_positive = value.strip_prefix("integer `").is_some_and(|rest| !rest.starts_with('-'));
    match kind {
        "u8" | "u16" | "u32" | "u64" | "usize" if is_positive => "a smaller number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        kind => kind,
    }
}

/// What was sent, as whoever sent it wrote it.
fn shown(value: &str) -> String {
    let value = match value {
        "map" => "an object",
        "sequence" => "a list",
        value => value,
    };
    let kinds = ["integer ", "floating point ", "boolean ", "string "];
    let value = kinds.iter().find_map(|kind| value.strip_prefix(kind)).unwrap_or(value);
    let value = value.trim_matches('`');
    match value.char_indices().nth(SHOWN_LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // Only whether they can be read is asked.
    struct Example {
        name: Option<String>,
        port: Option<u16>,
        is_on: bool,
    }

    fn mistake(body: &str) -> String {
        object::<Example>(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn only_an_object_is_taken_for_a_struct() {
        assert!(object::<Example>(b" {\"is_on\": true}\n").is_ok());
        for body in ["[\"a\", 1, true]", "null", "3", "\"x\""] {
            assert!(mistake(body).starts_with("expected a JSON object"), "{body}");
        }
    }

    #[test]
    fn a_mistake_names_the_field_and_what_was_expected_in_words() {
        let cases = [
            ("", "the body is empty: expected a JSON object"),
            ("{\"is_on\": tru}", "the body is not valid JSON: look at line 1, column 14"),
            ("{\"is_on\": ", "the body ends within its JSON object"),
            ("{\"is_on\": true} {}", "the body is not valid JSON: look at line 1, column 17"),
            ("{\"is_on\": 1}", "is_on: expected true or false, not 1"),
            ("{\"is_on\": null}", "is_on: expected true or false, not null"),
            ("{\"name\": 7}", "name: expected text in quotes, not 7"),
            ("{\"name\": [1]}", "name: expected text in quotes, not a list"),
            ("{\"name\": {}}", "name: expected text in quotes, not an object"),
            ("{\"port\": \"1\"}", "port: expected a whole number that is not negative, not \"1\""),
            ("{\"port\": -1}", "port: expected a whole number that is not negative, not -1"),
            ("{\"port\": 1.5}", "port: expected a whole number that is not negative, not 1.5"),
            ("{\"port\": 65536}", "port: expected a smaller number, not 65536"),
            (
                "{\"prt\": 1}",
                "unknown field \"prt\", expected one of \"name\", \"port\", \"is_on\"",
            ),
            ("{\"port\": 1, \"port\": 2}", "the field \"port\" is there twice"),
            ("{}", "the field \"is_on\" is missing"),
        ];
        for (body, told) in cases {
            assert_eq!(mistake(body), told, "{body}");
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        let told = mistake(&format!("{{\"port\": \"{}\"}}", "ü".repeat(5000)));
        assert!(told.len() < 250 && told.ends_with("ü…"), "{told}");
    }
}
