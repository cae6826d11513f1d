//! Compares two inspect documents and lists in what a copy is not faithful. Pure.

use serde_json::{Map, Value, json};

use super::{make_portable, networks, object, short_id};

/// In what `copy` differs from `original`, one `path: original → copy` each, leaving out what a copy may differ
/// in: ids, names, times, addresses, additional labels, the restart policy and `AutoRemove`; and, when the
/// original runs, the ports and addresses that it holds. For copies that run on the same image.
pub fn differences(original: &Value, copy: &Value) -> Vec<String> {
    let is_held = original["State"]["Running"].as_bool().unwrap_or_default();
    let (mut one, mut other) = (comparable(original, is_held), comparable(copy, is_held));
    // An id in place of a name means the same image; the id itself is compared as well.
    let is_id = |document: &Value| document["Config"]["Image"] == document["Image"];
    if is_id(&one) || is_id(&other) {
        one["Config"]["Image"] = Value::Null;
        other["Config"]["Image"] = Value::Null;
    }
    let known = object(one["Config"].get("Labels"));
    if let Some(labels) = other["Config"].get_mut("Labels").and_then(Value::as_object_mut) {
        labels.retain(|label, _| known.contains_key(label));
    }
    let mut found = Vec::new();
    compare("", &one, &other, &mut found);
    found
}

/// A document reduced to what must be equal.
fn comparable(document: &Value, is_held: bool) -> Value {
    const COMPARED: [&str; 9] =
        ["Image", "Path", "Args", "Platform", "Driver", "AppArmorProfile", "Config", "HostConfig", "Mounts"];
    let mut all = object(Some(document));
    all.retain(|key, _| COMPARED.contains(&key.as_str()));

    let short_id = short_id(document);
    let mut config = object(document.get("Config"));
    if config.get("Hostname").and_then(Value::as_str) == Some(short_id) {
        config.insert("Hostname".into(), "(its own)".into());
    }
    if let Some(env) = config.get_mut("Env").and_then(Value::as_array_mut) {
        // Their order means nothing, and the Docker client shuffles them.
        env.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
    }
    let mut host = object(document.get("HostConfig"));
    if host.get("NetworkMode").and_then(Value::as_str).is_some_and(|mode| mode.starts_with("container:")) {
        // They become the other container's when it is started.
        config.remove("Hostname");
        config.remove("Domainname");
    }
    host.remove("RestartPolicy");
    host.remove("AutoRemove");
    if let Some(links) = host.get_mut("Links").and_then(Value::as_array_mut) {
        links.iter_mut().for_each(make_portable);
    }
    if is_held {
        config.remove("MacAddress");
        let ports = host.get_mut("PortBindings").and_then(Value::as_object_mut);
        for binding in ports.into_iter().flatten().filter_map(|(_, b)| b.as_array_mut()).flatten() {
            binding["HostPort"] = Value::Null;
        }
    }
    all.insert("Config".into(), config.into());
    all.insert("HostConfig".into(), host.into());
    all.insert("Mounts".into(), mounts(document));
    all.insert("Networks".into(), endpoints(document, short_id, is_held).into());
    all.into()
}

/// The mounts by destination; an anonymous volume is a fresh one in the copy.
fn mounts(document: &Value) -> Value {
    let mut mounts = document["Mounts"].as_array().cloned().unwrap_or_default();
    for mount in &mut mounts {
        let is_anonymous = mount["Name"].as_str().is_some_and(is_anonymous);
        if let (true, Some(mount)) = (is_anonymous, mount.as_object_mut()) {
            mount.insert("Name".into(), "(anonymous)".into());
            mount.remove("Source");
        }
    }
    mounts.sort_by_key(|mount| mount["Destination"].as_str().unwrap_or_default().to_owned());
    json!(mounts)
}

fn is_anonymous(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn endpoints(document: &Value, short_id: &str, is_held: bool) -> Map<String, Value> {
    let networks = object(document["NetworkSettings"].get("Networks"));
    let reduce = |(name, endpoint): (String, Value)| {
        let mut settings = networks::chosen(&endpoint, short_id);
        if is_held {
            settings.remove("IPAMConfig");
        }
        (name, Value::from(settings))
    };
    networks.into_iter().map(reduce).collect()
}

fn compare(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let null = Value::Null;
                compare(&path, one.get(key).unwrap_or(&null), other.get(key).unwrap_or(&null), found);
            }
        }
        _ if one == other => {}
        _ => found.push(format!("{path}: {one} → {other}")),
    }
}
