//! Which engine events a test container asks for (`tugbot.event.docker` and its filters). Pure matching: whether an
//! event is one of the runner's own traces is decided elsewhere, before.
//!
//! Within one filter any entry may match; all filters that are given must match. Entries are separated by commas, a
//! comma inside an entry is written `\,`.

use std::fmt;

use container_engine::EngineEvent;
use regex::Regex;

/// Actions that look into a container, or that the engine does on its own every few seconds (a health check is an
/// `exec`). They change nothing, so they count only for a test that names them.
const OBSERVING: [&str; 12] = [
    "archive-path",
    "attach",
    "detach",
    "exec_create",
    "exec_detach",
    "exec_die",
    "exec_start",
    "export",
    "extract-to-dir",
    "resize",
    "save",
    "top",
];

/// All actions that an engine is known to send, to point at a misspelt one.
const ACTIONS: [&str; 44] = [
    "archive-path",
    "attach",
    "commit",
    "connect",
    "copy",
    "create",
    "delete",
    "destroy",
    "detach",
    "die",
    "disable",
    "disconnect",
    "enable",
    "exec_create",
    "exec_detach",
    "exec_die",
    "exec_start",
    "export",
    "extract-to-dir",
    "health_status",
    "import",
    "install",
    "kill",
    "load",
    "mount",
    "oom",
    "pause",
    "prune",
    "pull",
    "push",
    "reload",
    "remove",
    "rename",
    "resize",
    "restart",
    "save",
    "start",
    "stop",
    "tag",
    "top",
    "unmount",
    "unpause",
    "untag",
    "update",
];

/// What a test container wants to hear of. `Default` is the bare marker: everything that changes something.
#[derive(Clone, Debug, Default)]
pub struct DockerFilter {
    /// Actions listed in `tugbot.event.docker` itself.
    pub(crate) actions: Vec<Action>,
    /// `…filter.action`.
    pub(crate) filter_actions: Vec<Action>,
    /// `…filter.type`.
    pub(crate) types: Vec<String>,
    /// `…filter.container`.
    pub(crate) containers: Vec<NamePattern>,
    /// `…filter.image`.
    pub(crate) images: Vec<NamePattern>,
    /// `…filter.label`.
    pub(crate) labels: Vec<LabelPattern>,
}

/// An action: a verb (`health_status`), or a verb with its detail (`health_status: unhealthy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    verb: String,
    detail: Option<String>,
}

/// A name: exact, or a regular expression after `re2:`.
#[derive(Clone, Debug)]
pub(crate) enum NamePattern {
    /// The name itself.
    Exact(String),
    /// Found anywhere in the name, as in Go's `MatchString`.
    Regex(Regex),
}

/// A label: its presence, or its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelPattern {
    key: String,
    value: Option<String>,
}

impl Action {
    /// Reads one entry of an action list; the second value is a hint if no engine is known to send it.
    pub(crate) fn parse(entry: &str) -> (Self, Option<String>) {
        let lower = entry.to_ascii_lowercase();
        let (verb, detail) = lower.split_once(':').map_or((lower.as_str(), None), |(v, d)| (v, Some(d)));
        let verb = verb.trim().to_owned();
        let hint = (!ACTIONS.contains(&verb.as_str()))
            .then(|| format!("`{verb}` is not an action that an engine is known to send"));
        (Self { verb, detail: detail.map(|d| d.trim().to_owned()).filter(|d| !d.is_empty()) }, hint)
    }

    fn matches(&self, event: &EngineEvent) -> bool {
        if self.verb != event.verb() {
            return false;
        }
        let Some(wanted) = &self.detail else { return true };
        event.action.split_once(':').is_some_and(|(_, detail)| detail.trim().eq_ignore_ascii_case(wanted))
    }
}

impl NamePattern {
    /// Reads one entry; an expression that does not compile is an error.
    pub(crate) fn parse(entry: &str) -> Result<Self, regex::Error> {
        match entry.strip_prefix("re2:") {
            Some(expression) => Regex::new(expression).map(Self::Regex),
            None => Ok(Self::Exact(entry.strip_prefix('/').unwrap_or(entry).to_owned())),
        }
    }

    fn matches_name(&self, name: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == name,
            Self::Regex(expression) => expression.is_match(name),
        }
    }

    /// A full id, or the beginning of one as the command line prints it.
    fn matches_id(&self, id: &str) -> bool {
        let short = |wanted: &str| wanted.len() >= 12 && wanted.bytes().all(|b| b.is_ascii_hexdigit());
        matches!(self, Self::Exact(wanted) if short(wanted) && id.starts_with(wanted.as_str()))
    }

    /// An image reference; without a tag or digest it stands for all of them.
    fn matches_image(&self, reference: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == reference || wanted == repository(reference),
            Self::Regex(expression) => expression.is_match(reference),
        }
    }
}

impl LabelPattern {
    /// Reads `key` or `key=value`.
    pub(crate) fn parse(entry: &str) -> Self {
        match entry.split_once('=') {
            Some((key, value)) => Self { key: key.trim().to_owned(), value: Some(value.trim().to_owned()) },
            None => Self { key: entry.to_owned(), value: None },
        }
    }

    fn matches(&self, event: &EngineEvent) -> bool {
        let found = event.actor.attributes.get(&self.key);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|wanted| wanted == found))
    }
}

impl DockerFilter {
    /// Whether the event is asked for. `name_of` tells a container's name by its id, for events on networks and
    /// volumes, which carry only the id.
    pub fn matches<'a>(&self, event: &EngineEvent, name_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.matches_action(event)
            && any(&self.types, |wanted| *wanted == event.kind)
            && (self.containers.is_empty() || self.matches_container(event, name_of))
            && (self.images.is_empty() || self.matches_image(event))
            && any(&self.labels, |wanted| wanted.matches(event))
    }

    fn matches_action(&self, event: &EngineEvent) -> bool {
        if self.actions.is_empty() && self.filter_actions.is_empty() {
            return !OBSERVING.contains(&event.verb());
        }
        any(&self.actions, |wanted| wanted.matches(event))
            && any(&self.filter_actions, |wanted| wanted.matches(event))
    }

    fn matches_container<'a>(&self, event: &EngineEvent, name_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        let attributes = &event.actor.attributes;
        let (id, name) = if event.kind == "container" {
            (Some(event.actor.id.as_str()), attributes.get("name").map(String::as_str))
        } else {
            let id = attributes.get("container").map(String::as_str);
            (id, id.and_then(name_of))
        };
        self.containers.iter().any(|wanted| {
            name.is_some_and(|name| wanted.matches_name(name)) || id.is_some_and(|id| wanted.matches_id(id))
        })
    }

    fn matches_image(&self, event: &EngineEvent) -> bool {
        let attributes = &event.actor.attributes;
        let candidates = if event.kind == "image" {
            [Some(event.actor.id.as_str()), attributes.get("name").map(String::as_str)]
        } else {
            [attributes.get("image").map(String::as_str), None]
        };
        self.images.iter().any(|wanted| candidates.iter().flatten().any(|image| wanted.matches_image(image)))
    }
}

/// An empty filter lets everything through.
fn any<T>(filter: &[T], matches: impl Fn(&T) -> bool) -> bool {
    filter.is_empty() || filter.iter().any(matches)
}

/// `localhost:5000/team/web` of `localhost:5000/team/web:1.2@sha256:…`.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

/// Splits a comma list, with `\,` for a comma inside an entry. Blank entries are left out.
pub(crate) fn comma_list(text: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&',') => {
                entries.last_mut().expect("starts with one").extend(characters.next());
            }
            ',' => entries.push(String::new()),
            other => entries.last_mut().expect("starts with one").push(other),
        }
    }
    entries.iter().map(|e| e.trim()).filter(|e| !e.is_empty()).map(ToOwned::to_owned).collect()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.verb),
            None => f.write_str(&self.verb),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Regex(expression) => write!(f, "re2:{expression}"),
        }
    }
}

impl fmt::Display for LabelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

impl fmt::Display for DockerFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, name: &str, entries: &[T]) -> fmt::Result {
            if entries.is_empty() {
                return Ok(());
            }
            let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
            write!(f, " {name}={}", entries.join(","))
        }
        if self.actions.is_empty() {
            f.write_str("docker event")?;
        } else {
            let actions: Vec<String> = self.actions.iter().map(ToString::to_string).collect();
            write!(f, "docker event {}", actions.join(","))?;
        }
        list(f, "type", &self.types)?;
        list(f, "action", &self.filter_actions)?;
        list(f, "container", &self.containers)?;
        list(f, "image", &self.images)?;
        list(f, "label", &self.labels)
    }
}

#[cfg(test)]
mod tests {
    use container_engine::Actor;
    use jiff::Timestamp;

    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> EngineEvent {
        EngineEvent {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor {
                id: id.to_owned(),
                attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            },
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn actions(list: &str) -> Vec<Action> {
        comma_list(list).iter().map(|entry| Action::parse(entry).0).collect()
    }

    fn names(list: &str) -> Vec<NamePattern> {
        comma_list(list).iter().map(|entry| NamePattern::parse(entry).unwrap()).collect()
    }

    fn nobody(_: &str) -> Option<&'static str> {
        None
    }

    #[test]
    fn matches_on_the_word_before_the_colon() {
        let unhealthy = event("container", "health_status: unhealthy", "c1", &[]);
        let filter = |list| DockerFilter { actions: actions(list), ..Default::default() };
        assert!(filter("health_status").matches(&unhealthy, nobody));
        assert!(filter("health_status:unhealthy").matches(&unhealthy, nobody));
        assert!(filter("create, Health_Status: Unhealthy").matches(&unhealthy, nobody));
        assert!(!filter("health_status: healthy").matches(&unhealthy, nobody));
        assert!(!filter("health").matches(&unhealthy, nobody));
        let exec = event("container", "exec_create: /bin/sh -c true", "c1", &[]);
        assert!(filter("exec_create").matches(&exec, nobody));
    }

    #[test]
    fn a_bare_marker_hears_changes_but_not_looks() {
        let bare = DockerFilter::default();
        for action in ["create", "die", "health_status: healthy", "connect", "pull", "reload"] {
            assert!(bare.matches(&event("container", action, "c1", &[]), nobody), "{action}");
        }
        for action in OBSERVING {
            assert!(!bare.matches(&event("container", action, "c1", &[]), nobody), "{action}");
        }
    }

    #[test]
    fn the_expression_after_re2_is_taken_as_it_is() {
        // Upstream trimmed the characters `r`, `e`, `2` and `:` off both ends of the expression.
        let filter = DockerFilter { containers: names("re2:^reader2$"), ..Default::default() };
        assert!(filter.matches(&event("container", "start", "c1", &[("name", "reader2")]), nobody));
        assert!(!filter.matches(&event("container", "start", "c1", &[("name", "ad")]), nobody));
        let filter = DockerFilter { containers: names("re2:w{1\\,2}eb"), ..Default::default() };
        assert!(filter.matches(&event("container", "start", "c1", &[("name", "my-wweb-1")]), nobody));
    }

    #[test]
    fn container_names_are_exact_and_known_for_networks_too() {
        let filter = DockerFilter { containers: names("web,db"), ..Default::default() };
        assert!(filter.matches(&event("container", "start", "c1", &[("name", "web")]), nobody));
        assert!(!filter.matches(&event("container", "start", "c1", &[("name", "web2")]), nobody));
        assert!(!filter.matches(&event("container", "start", "c1", &[("name", "eb")]), nobody));
        let connect = event("network", "connect", "n1", &[("container", "c9"), ("name", "bridge")]);
        assert!(filter.matches(&connect, |id| (id == "c9").then_some("db")));
        assert!(!filter.matches(&connect, nobody));
        let by_id = DockerFilter { containers: names("0123456789ab"), ..Default::default() };
        assert!(by_id.matches(&event("container", "start", "0123456789abcdef", &[]), nobody));
    }

    #[test]
    fn an_image_without_a_tag_stands_for_all_tags() {
        let started = |image| event("container", "start", "c1", &[("image", image)]);
        let filter = |list| DockerFilter { images: names(list), ..Default::default() };
        assert!(filter("nginx").matches(&started("nginx"), nobody));
        assert!(filter("nginx").matches(&started("nginx:1.27"), nobody));
        assert!(!filter("nginx:1.26").matches(&started("nginx:1.27"), nobody));
        assert!(filter("host:5000/web").matches(&started("host:5000/web:2"), nobody));
        assert!(!filter("web").matches(&started("host:5000/web:2"), nobody));
        assert!(filter("re2:^host.*:2$").matches(&started("host:5000/web:2"), nobody));
        let pulled = event("image", "pull", "nginx:latest", &[("name", "nginx")]);
        assert!(filter("nginx").matches(&pulled, nobody));
    }

    #[test]
    fn labels_match_by_presence_or_value() {
        let started = event("container", "start", "c1", &[("tier", "front"), ("empty", "")]);
        let filter = |entry| DockerFilter { labels: vec![LabelPattern::parse(entry)], ..Default::default() };
        assert!(filter("tier").matches(&started, nobody));
        assert!(filter("tier=front").matches(&started, nobody));
        assert!(filter("empty=").matches(&started, nobody));
        assert!(!filter("tier=back").matches(&started, nobody));
        assert!(!filter("other").matches(&started, nobody));
    }

    #[test]
    fn every_filter_must_match() {
        let filter = DockerFilter {
            actions: actions("create,start"),
            types: vec!["container".to_owned()],
            containers: names("web"),
            ..Default::default()
        };
        assert!(filter.matches(&event("container", "create", "c1", &[("name", "web")]), nobody));
        assert!(!filter.matches(&event("volume", "create", "v1", &[]), nobody));
        assert!(!filter.matches(&event("container", "die", "c1", &[("name", "web")]), nobody));
        assert_eq!(filter.to_string(), "docker event create,start type=container container=web");
    }

    #[test]
    fn an_unknown_action_gets_a_hint() {
        assert!(Action::parse("creat").1.is_some());
        for action in ACTIONS {
            assert_eq!(Action::parse(action).1, None);
        }
    }
}
