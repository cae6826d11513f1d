//! The value of the label `tugbot.event.cd`: which events a test container asks for. Decides only, runs nothing.

use regex::Regex;
use serde_json::Value;

use super::{CloudEvent, cdevent};

/// A filter for events.
///
/// ```text
/// filter    = types *( ";" condition )
/// types     = glob *( "," glob )                   ; the event has one of these types
/// condition = path "=" ( glob | "re2:" regex )     ; all conditions hold
/// ```
///
/// - A *glob* covers the whole text; `*` stands for any characters, `?` for one. A type without its version
///   (`dev.cdevents.artifact.published`) covers every version.
/// - A *regex* may match anywhere in the text; anchor it with `^` and `$`.
/// - A *path* is an attribute of the envelope (`source`, `id`, `type`, `subject`, an extension), or leads into the
///   CDEvents document (`subject.id`, `subject.content.user`, `context.chainId`, `customData.…`), or into any payload
///   (`data.…`). It descends by names and, into arrays, by indices from 0; a name that itself has dots is found too.
///   An array holds when one of its elements does. A missing value never matches.
/// - `\;` is a semicolon inside a value, and `\,` a comma inside a type. Space around each part is ignored.
///
/// ```
/// use test_results::event::CdFilter;
/// let filter = "dev.cdevents.artifact.published.*;source=/registry/*;subject.content.user=re2:^bot-";
/// assert!(CdFilter::parse(filter).is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct CdFilter {
    types: Vec<Glob>,
    conditions: Vec<(String, Matcher)>,
}

#[derive(Clone, Debug)]
enum Matcher {
    Glob(Glob),
    Regex(Regex),
}

/// A text that is not a [`CdFilter`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CdFilterError {
    /// There is no type.
    #[error("filter `{filter}` names no event type: begin it with one, or with `*`")]
    NoType {
        /// The whole filter.
        filter: String,
    },
    /// A part has no `=`.
    #[error("`{part}` is not a condition: write `<path>=<value>`")]
    NoValue {
        /// The part.
        part: String,
    },
    /// A path is empty, or has an empty name in it.
    #[error("`{part}` has no path before the `=`")]
    NoPath {
        /// The part.
        part: String,
    },
    /// A regular expression is not one.
    #[error("`{expression}` is not a regular expression")]
    Regex {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        #[source]
        source: Box<regex::Error>,
    },
}

impl CdFilter {
    /// Reads the value of a label.
    pub fn parse(text: &str) -> Result<Self, CdFilterError> {
        let mut parts = split(text, ';').into_iter().map(|part| part.trim().to_owned());
        let first = parts.next().unwrap_or_default();
        let types: Vec<Glob> =
            split(&first, ',').iter().map(|t| t.trim()).filter(|t| !t.is_empty()).map(Glob::new).collect();
        if types.is_empty() {
            return Err(CdFilterError::NoType { filter: text.to_owned() });
        }
        let conditions = parts.filter(|part| !part.is_empty()).map(condition).collect::<Result<_, _>>()?;
        Ok(Self { types, conditions })
    }

    /// Whether the event is one of those asked for.
    pub fn matches(&self, event: &CloudEvent) -> bool {
        let bare = cdevent::without_version(&event.kind);
        self.types.iter().any(|glob| glob.matches(&event.kind) || glob.matches(bare))
            && self.conditions.iter().all(|(path, wanted)| holds(event, path, wanted))
    }
}

fn condition(part: String) -> Result<(String, Matcher), CdFilterError> {
    let Some((path, value)) = part.split_once('=') else { return Err(CdFilterError::NoValue { part }) };
    let (path, value) = (path.trim(), value.trim());
    if path.split('.').any(str::is_empty) {
        return Err(CdFilterError::NoPath { part });
    }
    let matcher = match value.strip_prefix("re2:") {
        None => Matcher::Glob(Glob::new(value)),
        Some(expression) => {
            let regex = regex::RegexBuilder::new(expression).size_limit(1 << 20).build();
            Matcher::Regex(regex.map_err(|source| CdFilterError::Regex {
                expression: expression.to_owned(),
                source: Box::new(source),
            })?)
        }
    };
    Ok((path.to_owned(), matcher))
}

/// Splits at a separator unless a backslash is before it; that backslash goes.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in text.chars() {
        let part = parts.last_mut().expect("never empty");
        if c != separator {
            part.push(c);
        } else if part.ends_with('\\') {
            part.pop();
            part.push(c);
        } else {
            parts.push(String::new());
        }
    }
    parts
}

fn holds(event: &CloudEvent, path: &str, wanted: &Matcher) -> bool {
    let attribute = match path {
        "source" => Some(event.source.as_str()),
        "id" => Some(event.id.0.as_str()),
        "type" => Some(event.kind.as_str()),
        "subject" => event.subject.as_deref(),
        "subject.id" => cdevent::subject_id(event),
        _ => None,
    };
    if let Some(text) = attribute {
        return wanted.matches(text);
    }
    let (root, rest) = path.split_once('.').unwrap_or((path, ""));
    match root {
        "subject" | "context" | "customData" => value_holds(&event.data, path, wanted),
        "data" => value_holds(&event.data, rest, wanted),
        _ => event.extensions.get(path).is_some_and(|value| value_holds(value, "", wanted)),
    }
}

fn value_holds(value: &Value, path: &str, wanted: &Matcher) -> bool {
    if path.is_empty() {
        return match value {
            Value::String(text) => wanted.matches(text),
            Value::Number(number) => wanted.matches(&number.to_string()),
            Value::Bool(flag) => wanted.matches(if *flag { "true" } else { "false" }),
            Value::Array(values) => values.iter().any(|value| value_holds(value, "", wanted)),
            Value::Null | Value::Object(_) => false,
        };
    }
    match value {
        Value::Object(members) => {
            // A name may have dots itself, e.g. a container's label: try each split, the shortest first.
            let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
            let mut splits = ends.map(|end| (&path[..end], path.get(end + 1..).unwrap_or("")));
            splits.any(|(name, rest)| members.get(name).is_some_and(|value| value_holds(value, rest, wanted)))
        }
        Value::Array(values) => {
            let (index, rest) = path.split_once('.').unwrap_or((path, ""));
            match index.parse::<usize>() {
                Ok(index) => values.get(index).is_some_and(|value| value_holds(value, rest, wanted)),
                Err(_) => values.iter().any(|value| value_holds(value, path, wanted)),
            }
        }
        _ => false,
    }
}

impl Matcher {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(text),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// A pattern with `*` and `?`.
#[derive(Clone, Debug)]
struct Glob(Vec<char>);

impl Glob {
    fn new(pattern: &str) -> Self {
        Self(pattern.chars().collect())
    }

    /// Goes back only to the last `*`, so the work is at most pattern times text.
    fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (&self.0, text.chars().collect::<Vec<_>>());
        let (mut at, mut from, mut star) = (0, 0, None);
        while from < text.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, from));
                    at += 1;
                }
                Some(c) if *c == '?' || *c == text[from] => {
                    at += 1;
                    from += 1;
                }
                _ => {
                    let Some((star_at, star_from)) = star else { return false };
                    star = Some((star_at, star_from + 1));
                    at = star_at + 1;
                    from = star_from + 1;
                }
            }
        }
        pattern[at..].iter().all(|c| *c == '*')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::EventId;

    fn event() -> CloudEvent {
        let kind = "dev.cdevents.artifact.published.0.2.0";
        let mut event = CloudEvent::new(EventId("e-1".into()), "/registry/eu", kind);
        event.subject = Some("pkg:oci/shop@1".into());
        event.extensions.insert("traceparent".into(), json!("00-ab"));
        event.data = json!({
            "context": {"chainId": "c-9"},
            "subject": {"id": "pkg:oci/shop@1", "content": {"user": "bot-7", "size": 12, "signed": true,
                "tags": ["v1", "latest"], "labels": {"com.example.team": "web"}}},
            "customData": {"parts": [{"name": "a"}, {"name": "b"}]},
        });
        event
    }

    fn check(filter: &str, expected: bool) {
        assert_eq!(CdFilter::parse(filter).unwrap().matches(&event()), expected, "{filter}");
    }

    #[test]
    fn types_are_matched_with_and_without_version() {
        check("dev.cdevents.artifact.published.*", true);
        check("dev.cdevents.artifact.published.0.2.0", true);
        check("dev.cdevents.artifact.published", true);
        check("dev.cdevents.artifact.*", true);
        check("*", true);
        check("dev.cdevents.build.*, dev.cdevents.artifact.pub?ished.*", true);
        check("dev.cdevents.artifact.published.0.1.*", false);
        check("dev.cdevents.artifact", false);
        check("artifact", false);
    }

    #[test]
    fn all_conditions_must_hold() {
        check("*;source=/registry/*", true);
        check("*;source=/registry", false);
        check("*;subject=pkg:oci/shop@*;subject.id=pkg:oci/shop@1;id=e-?", true);
        check("*;subject.content.user=re2:^bot-[0-9]+$ ; context.chainId=c-9", true);
        check("*;subject.content.user=re2:bot;source=elsewhere", false);
        check("*;subject.content.size=12;subject.content.signed=true", true);
        check("*;subject.content.tags=latest", true);
        check("*;subject.content.tags.0=latest", false);
        check("*;subject.content.labels.com.example.team=web", true);
        check("*;customData.parts.name=b;customData.parts.1.name=b", true);
        check("*;data.customData.parts.0.name=a;traceparent=00-*", true);
        check("*;subject.content.missing=*", false);
        check("*;subject.content=*", false);
    }

    #[test]
    fn a_semicolon_can_be_part_of_a_value() {
        let filter = CdFilter::parse(r"*;subject=re2:[\;a]b").unwrap();
        let mut event = event();
        event.subject = Some("x;b".into());
        assert!(filter.matches(&event));
    }

    #[test]
    fn the_expression_keeps_all_its_characters() {
        // Upstream trimmed the letters of `re2:` off both ends of the expression.
        check("*;subject.content.user=re2:er2", false);
        let filter = CdFilter::parse("*;subject.content.user=re2:2er").unwrap();
        let mut event = event();
        event.data["subject"]["content"]["user"] = json!("x2ery");
        assert!(filter.matches(&event));
        event.data["subject"]["content"]["user"] = json!("x");
        assert!(!filter.matches(&event));
    }

    #[test]
    fn what_is_not_a_filter_says_why() {
        for (text, message) in [
            ("", "filter `` names no event type: begin it with one, or with `*`"),
            (";source=a", "filter `;source=a` names no event type: begin it with one, or with `*`"),
            ("*;source", "`source` is not a condition: write `<path>=<value>`"),
            ("*;=a", "`=a` has no path before the `=`"),
            ("*;a..b=c", "`a..b=c` has no path before the `=`"),
            ("*;source=re2:(", "`(` is not a regular expression"),
        ] {
            assert_eq!(CdFilter::parse(text).unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn filters_never_panic(text in "[a-z*?;=,.\\\\:(]{0,40}") {
            if let Ok(filter) = CdFilter::parse(&text) {
                filter.matches(&event());
            }
        }

        #[test]
        fn a_glob_agrees_with_a_regular_expression(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let regex = pattern.replace('*', ".*").replace('?', ".");
            let regex = Regex::new(&format!("^{regex}$")).unwrap();
            prop_assert_eq!(Glob::new(&pattern).matches(&text), regex.is_match(&text));
        }
    }
}
