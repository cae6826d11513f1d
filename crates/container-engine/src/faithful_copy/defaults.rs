//! What of a container's configuration came from its image: the engine merges the two when it makes a container,
//! and shows only the result. Pure.

use serde_json::{Map, Value, json};

/// Takes out what equals the image's default, so that a newer image's own defaults apply. A value that was given
/// by hand and happens to equal the default cannot be told from it.
pub(super) fn leave_to_image(config: &mut Map<String, Value>, image: &Value) {
    leave_command(config, image);
    for key in ["User", "WorkingDir", "StopSignal", "Shell", "OnBuild"] {
        if config.get(key).is_some_and(|value| !is_empty(value) && *value == image[key]) {
            config.remove(key);
        }
    }
    if let Some(env) = config.get_mut("Env").and_then(Value::as_array_mut) {
        let defaults = image["Env"].as_array().map(Vec::as_slice).unwrap_or_default();
        env.retain(|variable| !defaults.contains(variable));
        if env.is_empty() {
            config.remove("Env");
        }
    }
    for key in ["Labels", "ExposedPorts", "Volumes", "Healthcheck"] {
        if let Some(fields) = config.get_mut(key).and_then(Value::as_object_mut) {
            fields.retain(|field, value| image[key].get(field) != Some(value));
            if fields.is_empty() {
                config.remove(key);
            }
        }
    }
}

/// An entry point of one's own makes the engine ignore the image's command as well.
fn leave_command(config: &mut Map<String, Value>, image: &Value) {
    keep_reset_entrypoint(config, image);
    let value = |key| config.get(key).unwrap_or(&Value::Null);
    if !is_same(value("Entrypoint"), &image["Entrypoint"]) {
        return;
    }
    config.remove("Entrypoint");
    if is_same(config.get("Cmd").unwrap_or(&Value::Null), &image["Cmd"]) {
        config.remove("Cmd");
        config.remove("ArgsEscaped");
    }
}

/// `--entrypoint ""` takes the image's entry point away, and is shown as none at all. It has to be asked for again.
pub(super) fn keep_reset_entrypoint(config: &mut Map<String, Value>, image: &Value) {
    let has_none = config.get("Entrypoint").is_none_or(is_empty);
    if has_none && !is_empty(&image["Entrypoint"]) {
        config.insert("Entrypoint".into(), json!([""]));
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    one == other || (is_empty(one) && is_empty(other))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
