//! The networks of a copy: one when it is made, the others connected before the start. Pure.

use serde_json::{Map, Value};

use super::{object, short_id};

/// An endpoint's settings that somebody chose. The engine shows them among what it worked out by itself:
/// addresses, ids, gateways.
const CHOSEN: [&str; 5] = ["IPAMConfig", "Links", "Aliases", "DriverOpts", "GwPriority"];

pub(super) struct Networks {
    /// The one of the container's network mode, if anything was chosen for it.
    pub(super) main: Option<(String, Value)>,
    pub(super) others: Vec<(String, Value)>,
}

/// Before API 1.44 the engine takes only one network with the container itself; connecting the others afterwards
/// is understood by all.
pub(super) fn plan(document: &Value, is_running: bool, remarks: &mut Vec<String>) -> Networks {
    let mut networks = Networks { main: None, others: Vec::new() };
    let mode = match document["HostConfig"]["NetworkMode"].as_str().unwrap_or_default() {
        "" | "default" => "bridge",
        mode => mode,
    };
    if matches!(mode, "host" | "none") || mode.starts_with("container:") {
        return networks;
    }
    let mut main_is_connected = false;
    for (name, endpoint) in object(document["NetworkSettings"].get("Networks")) {
        let mut settings = chosen(&endpoint, short_id(document));
        if name == "bridge" {
            // The engine refuses them on its default bridge.
            settings.retain(|key, _| !matches!(key.as_str(), "IPAMConfig" | "Links" | "Aliases"));
        }
        if is_running {
            release_addresses(&mut settings, &name, remarks);
        }
        let is_main = name == mode
            || endpoint["NetworkID"].as_str().is_some_and(|id| mode.len() >= 12 && id.starts_with(mode));
        main_is_connected |= is_main;
        match (is_main, settings.is_empty()) {
            (true, true) => {}
            (true, false) => networks.main = Some((name, settings.into())),
            (false, _) => networks.others.push((name, settings.into())),
        }
    }
    if !main_is_connected {
        remarks.push(format!("the original was taken off its network {mode}, but a copy begins on it"));
    }
    networks
}

/// The chosen settings of an endpoint, without the alias that the engine adds: the container's short id.
pub(super) fn chosen(endpoint: &Value, short_id: &str) -> Map<String, Value> {
    let mut settings = object(Some(endpoint));
    settings.retain(|key, _| CHOSEN.contains(&key.as_str()));
    if let Some(aliases) = settings.get_mut("Aliases").and_then(Value::as_array_mut) {
        aliases.retain(|alias| alias.as_str() != Some(short_id));
    }
    settings.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0),
        _ => true,
    });
    settings
}

/// A static address cannot be used twice.
fn release_addresses(settings: &mut Map<String, Value>, network: &str, remarks: &mut Vec<String>) {
    let Some(addresses) = settings.get_mut("IPAMConfig").and_then(Value::as_object_mut) else { return };
    for key in ["IPv4Address", "IPv6Address"] {
        if let Some(address) = addresses.remove(key).and_then(|address| address.as_str().map(str::to_owned))
            && !address.is_empty()
        {
            remarks.push(format!(
                "the original still uses {address} on {network}: the copy gets another address"
            ));
        }
    }
    if addresses.is_empty() {
        settings.remove("IPAMConfig");
    }
}

/// Old engines wrote a MAC address that they had derived from the IP address (`02:42:` and its four bytes) into
/// the configuration, as if it had been asked for.
pub(super) fn is_automatic_mac(document: &Value, mac: &str) -> bool {
    let networks = object(document["NetworkSettings"].get("Networks"));
    let mut addresses = networks.values().filter_map(|endpoint| endpoint["IPAddress"].as_str());
    let top = document["NetworkSettings"]["IPAddress"].as_str();
    addresses.by_ref().chain(top).filter_map(|address| address.parse::<std::net::Ipv4Addr>().ok()).any(
        |address| {
            let [a, b, c, d] = address.octets();
            mac.eq_ignore_ascii_case(&format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}"))
        },
    )
}
