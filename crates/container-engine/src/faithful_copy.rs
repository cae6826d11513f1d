//! Plans a faithful copy of a container: what to ask the engine for, as a pure function of two documents.
//!
//! *Invariant:* the copy's `docker inspect` equals the original's except for ids, names, times, addresses, labels
//! that were asked for, and what [`CopyPlan::remarks`] says. So the documents are copied whole and only what must
//! not be copied is taken out; a list of what to copy would lose each field that a newer engine adds.

mod defaults;
mod differences;
mod networks;

use serde_json::{Map, Value, json};

pub use self::differences::differences;
use crate::{Container, Image, Lifecycle, container::Labels, image::Reference};

/// What a copy should differ in.
#[derive(Clone, Debug, Default)]
pub struct CopyRequest {
    /// Name of the copy.
    pub name: String,
    /// Labels to set on the copy besides the original's.
    pub labels: Labels,
    /// Labels of the original that the copy must not carry.
    pub without_labels: Vec<String>,
    /// Make the copy from this image instead of the original's own image id.
    pub image: Option<String>,
}

/// What to ask the engine for.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyPlan {
    /// Name of the copy.
    pub name: String,
    /// Body of `POST /containers/create`.
    pub create: Value,
    /// Networks to connect before the start, with their endpoint settings, beyond those in `create`.
    pub connect: Vec<(String, Value)>,
    /// What could not be copied, in words for the log (e.g. a host port that is still held).
    pub remarks: Vec<String>,
}

/// Plans the copy. `made_from` is the image that the original was made from: when the copy is to run on another
/// one, values that are just the old image's defaults are left to the new image.
pub fn plan(original: &Container, made_from: Option<&Image>, request: &CopyRequest) -> CopyPlan {
    let mut remarks = Vec::new();
    let document = &original.document;
    let image_config = made_from.map(|image| &image.document["Config"]);

    let host = host_config(original, &mut remarks);
    let mut config = config(original, &mut remarks);
    match (&request.image, image_config) {
        (None, Some(image)) => defaults::keep_reset_entrypoint(&mut config, image),
        (None, None) => {}
        (Some(_), Some(image)) => defaults::leave_to_image(&mut config, image),
        (Some(image), None) => remarks.push(format!(
            "the image that {} was made from is gone, so its defaults go over to the copy on {image}",
            original.name
        )),
    }
    config.insert("Labels".into(), json!(labels(&config, made_from, request, &mut remarks)));
    config.insert("Image".into(), image(original, made_from, request).into());

    let networks = networks::plan(document, is_running(original), &mut remarks);
    let mut create = config;
    create.insert("HostConfig".into(), host.into());
    if let Some((network, endpoint)) = networks.main {
        create.insert("NetworkingConfig".into(), json!({ "EndpointsConfig": { network: endpoint } }));
    }
    CopyPlan { name: request.name.clone(), create: create.into(), connect: networks.others, remarks }
}

/// The name under which the original's image is known, so that filters and people see it on the copy too; but its
/// id when the name means another image by now.
fn image(original: &Container, made_from: Option<&Image>, request: &CopyRequest) -> String {
    if let Some(image) = &request.image {
        return image.clone();
    }
    let wanted = Reference::parse(&original.image);
    let still_means_it = made_from.is_some_and(|image| {
        let mut names = image.tags.iter().chain(&image.digests);
        image.id.0 == original.image_id && names.any(|name| Reference::parse(name).is_same(&wanted))
    });
    if still_means_it { original.image.clone() } else { original.image_id.clone() }
}

fn labels(
    config: &Map<String, Value>,
    made_from: Option<&Image>,
    request: &CopyRequest,
    remarks: &mut Vec<String>,
) -> Map<String, Value> {
    let mut labels = object(config.get("Labels"));
    for label in &request.without_labels {
        let of_image = made_from.is_some_and(|image| image.labels.contains_key(label));
        if labels.remove(label).is_some() && of_image {
            remarks.push(format!("the label {label} comes from the image and cannot be taken off"));
        }
    }
    labels.extend(request.labels.iter().map(|(key, value)| (key.clone(), value.clone().into())));
    labels
}

fn config(original: &Container, remarks: &mut Vec<String>) -> Map<String, Value> {
    let document = &original.document;
    let mut config = object(document.get("Config"));
    let mode = |key: &str| document["HostConfig"][key].as_str().unwrap_or_default();
    let shares_network = mode("NetworkMode").starts_with("container:");
    if shares_network {
        // They are the other container's, or the image's; the engine refuses them in this mode.
        config.retain(|key, _| !matches!(key.as_str(), "Domainname" | "ExposedPorts" | "MacAddress"));
    }
    let hostname = config.get("Hostname").and_then(Value::as_str).unwrap_or_default();
    // The engine names a host after its container, and takes no name for one that shares the machine's.
    if shares_network || mode("UTSMode") == "host" || hostname == short_id(document) {
        config.remove("Hostname");
    }
    if let Some(mac) = config.get("MacAddress").and_then(Value::as_str).filter(|mac| !mac.is_empty()) {
        let is_held = is_running(original);
        if is_held {
            remarks.push(format!(
                "{} still uses the MAC address {mac}: the copy gets one of its own",
                original.name
            ));
        }
        if is_held || networks::is_automatic_mac(document, mac) {
            config.remove("MacAddress");
        }
    }
    config
}

fn host_config(original: &Container, remarks: &mut Vec<String>) -> Map<String, Value> {
    let mut host = object(original.document.get("HostConfig"));
    // No archive can be taken out of a container that is gone.
    host.insert("AutoRemove".into(), false.into());
    let restart = host.get("RestartPolicy").and_then(|policy| policy["Name"].as_str()).unwrap_or_default();
    if !matches!(restart, "" | "no") {
        remarks.push(format!("the restart policy {restart} is not copied: a copy runs once"));
    }
    host.insert("RestartPolicy".into(), json!({ "Name": "no", "MaximumRetryCount": 0 }));
    if let Some(links) = host.get_mut("Links").and_then(Value::as_array_mut) {
        links.iter_mut().for_each(make_portable);
    }
    if is_running(original) {
        release_ports(&mut host, &original.name, remarks);
    }
    host
}

/// The engine shows a link as `/target:/original/alias` and takes it as `target:alias`.
fn make_portable(link: &mut Value) {
    if let Some((target, alias)) = link.as_str().and_then(|link| link.split_once(':')) {
        let alias = alias.rsplit('/').next().unwrap_or(alias);
        *link = format!("{}:{alias}", target.trim_start_matches('/')).into();
    }
}

/// A host port that the original holds would keep the copy from starting: it gets a free one instead.
fn release_ports(host: &mut Map<String, Value>, name: &str, remarks: &mut Vec<String>) {
    let Some(ports) = host.get_mut("PortBindings").and_then(Value::as_object_mut) else { return };
    for (port, bindings) in ports {
        for binding in bindings.as_array_mut().into_iter().flatten() {
            let held = binding["HostPort"].as_str().unwrap_or_default();
            if !matches!(held, "" | "0") {
                remarks.push(format!(
                    "{name} still holds host port {held} for {port}: the copy gets a free one"
                ));
                binding["HostPort"] = "".into();
            }
        }
    }
}

fn is_running(original: &Container) -> bool {
    original.lifecycle == Lifecycle::Running
}

/// The twelve digits that the engine uses as a host name and as an alias.
fn short_id(document: &Value) -> &str {
    let id = document["Id"].as_str().unwrap_or_default();
    id.get(..12).unwrap_or(id)
}

fn object(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests;
