//! Whether what is there already is what is wanted.

use serde_json::Value;

/// Whether `actual` has everything that `wanted` asks for. What `wanted` does not mention is the
/// platform's: an answer always holds more than the request did.
pub(super) fn covers(wanted: &Value, actual: &Value) -> bool {
    first_difference("", wanted, actual).is_none()
}

/// The path of the first thing that differs.
pub(super) fn first_difference(path: &str, wanted: &Value, actual: &Value) -> Option<String> {
    let here = || Some(if path.is_empty() { "/".to_owned() } else { path.to_owned() });
    match (wanted, actual) {
        (Value::Null, _) => None,
        (Value::Object(wanted), Value::Object(actual)) => {
            wanted.iter().find_map(|(key, wanted)| {
                let path = format!("{path}/{key}");
                match find(actual, key) {
                    Some(actual) => first_difference(&path, wanted, actual),
                    None if empty(wanted) => None,
                    None => Some(path),
                }
            })
        }
        (Value::Array(wanted), Value::Array(actual)) => {
            if wanted.len() != actual.len() {
                return here();
            }
            wanted.iter().enumerate().find_map(|(at, item)| {
                let path = format!("{path}/{at}");
                // Items that have a name are found by it; the order is Azure's.
                match name(item) {
                    Some(wanted) => {
                        match actual
                            .iter()
                            .find(|a| name(a).is_some_and(|n| n.eq_ignore_ascii_case(wanted)))
                        {
                            Some(actual) => first_difference(&path, item, actual),
                            None => Some(path),
                        }
                    }
                    None => (!actual.iter().any(|a| covers(item, a))).then_some(path),
                }
            })
        }
        (Value::String(wanted), Value::String(actual)) => {
            (!same_text(path, wanted, actual)).then(here).flatten()
        }
        (wanted, Value::Null) if empty(wanted) => None,
        (Value::Number(wanted), Value::Number(actual)) => {
            (wanted.as_f64() != actual.as_f64()).then(here).flatten()
        }
        (Value::Number(wanted), Value::String(actual))
        | (Value::String(actual), Value::Number(wanted)) => {
            (wanted.to_string() != *actual).then(here).flatten()
        }
        (wanted, actual) => (wanted != actual).then(here).flatten(),
    }
}

/// Nothing asked for: Azure leaves such things out of its answers.
fn empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(empty),
        _ => false,
    }
}

fn find<'a>(object: &'a serde_json::Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).or_else(|| {
        object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    })
}

fn name(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}

fn same_text(path: &str, wanted: &str, actual: &str) -> bool {
    if wanted == actual {
        return true;
    }
    let key = path.rsplit('/').next().unwrap_or_default();
    if wanted.starts_with("/subscriptions/") || path.starts_with("/sku/") {
        return wanted.eq_ignore_ascii_case(actual);
    }
    if key == "location" {
        // Some services answer `West Europe` for `westeurope`.
        let plain = |s: &str| s.replace(' ', "").to_ascii_lowercase();
        return plain(wanted) == plain(actual);
    }
    // Enumerations come back in another casing at times; free text does not.
    matches!(key, "kind" | "type" | "mode" | "protocol" | "access" | "direction")
        && wanted.eq_ignore_ascii_case(actual)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_may_hold_more_than_was_asked() {
        let wanted =
            json!({"location": "westeurope", "properties": {"a": 1, "off": false, "none": null}});
        let actual = json!({"id": "x", "location": "West Europe", "properties": {"a": 1, "provisioningState": "Succeeded"}});
        assert!(covers(&wanted, &actual));
    }

    #[test]
    fn a_difference_is_named() {
        let wanted =
            json!({"properties": {"rules": [{"name": "A", "port": 1}, {"name": "B", "port": 2}]}});
        let actual =
            json!({"properties": {"rules": [{"name": "B", "port": 3}, {"name": "A", "port": 1}]}});
        assert_eq!(
            first_difference("", &wanted, &actual).as_deref(),
            Some("/properties/rules/1/port")
        );
        let more = json!({"properties": {"rules": [{"name": "A"}, {"name": "B"}, {"name": "C"}]}});
        assert!(!covers(&wanted, &more), "a rule that was added by hand is a difference");
    }

    #[test]
    fn ids_are_one_in_any_casing_and_other_text_is_not() {
        let wanted = json!({"id": "/subscriptions/S/resourceGroups/rg", "command": "Gunicorn"});
        assert!(covers(
            &wanted,
            &json!({"id": "/subscriptions/s/resourcegroups/RG", "command": "Gunicorn"})
        ));
        assert!(!covers(
            &wanted,
            &json!({"id": "/subscriptions/s/resourcegroups/RG", "command": "gunicorn"})
        ));
    }

    #[test]
    fn what_is_switched_on_is_not_covered_by_silence() {
        assert!(!covers(&json!({"httpsOnly": true}), &json!({})));
        assert!(!covers(&json!({"httpsOnly": false}), &json!({"httpsOnly": true})));
    }
}
