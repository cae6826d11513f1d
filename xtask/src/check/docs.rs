//! Documents must not name what is not there: links between files, and the source files that a walkthrough names. Pure:
//! the list of files comes from the caller. Looks at no address outside the project.

use std::collections::BTreeSet;

use super::finding::Finding;

/// Links and source files that a Markdown document names and that do not exist. `files` holds every file's path from
/// the root.
pub(crate) fn dangling(path: &str, text: &str, files: &BTreeSet<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for target in links(line).filter(|target| !exists(&beside(path, target), files)) {
            found.push(Finding::at_line(
                path,
                index + 1,
                format!("links to `{target}`, which does not exist"),
            ));
        }
        for file in source_files(line).filter(|file| !named(file, files)) {
            found.push(Finding::at_line(path, index + 1, format!("names `{file}`, which does not exist")));
        }
    }
    found
}

/// Targets of `[text](target)` within the project, without their anchors.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let inside = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    inside.filter_map(|target| target.split('#').next()).filter(|target| !target.is_empty())
}

/// Names of Rust files in code spans, without patterns.
fn source_files(line: &str) -> impl Iterator<Item = &str> {
    let spans = line.split('`').skip(1).step_by(2);
    let names = spans.flat_map(str::split_whitespace).filter(|word| word.ends_with(".rs"));
    names.filter(|name| !name.contains(['*', '<', '{']))
}

/// A link's target as a path from the root.
fn beside(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Whether this is a file, or a folder that holds one.
fn exists(path: &str, files: &BTreeSet<String>) -> bool {
    let folder = format!("{path}/");
    files.contains(path) || files.range(folder.clone()..).next().is_some_and(|file| file.starts_with(&folder))
}

/// Whether some file's path ends this way, or does within the crate that a first part names.
fn named(name: &str, files: &BTreeSet<String>) -> bool {
    let ends_with = |file: &String, tail: &str| file == tail || file.ends_with(&format!("/{tail}"));
    let short = name.split_once('/').map(|(krate, rest)| format!("{krate}/src/{rest}"));
    files
        .iter()
        .any(|file| ends_with(file, name) || short.as_ref().is_some_and(|short| ends_with(file, short)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::places;

    fn check(text: &str) -> Vec<Finding> {
        let files = [
            "README.md",
            "docs/operations.md",
            "docs/reference/cli.md",
            "crates/test-runner/src/scheduler/firing.rs",
        ];
        dangling("docs/a.md", text, &files.iter().map(|file| (*file).to_owned()).collect())
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        assert_eq!(
            places(&check("see [x](operations.md)\nand [y](gone.md) [z](../crates/nothing)\n")),
            ["docs/a.md:2", "docs/a.md:2"]
        );
    }

    #[test]
    fn links_to_files_folders_anchors_and_the_web_pass() {
        let text = "[a](../README.md) [b](reference/) [c](operations.md#state) [d](#here) [e](https://example.org/x.md)\n";
        assert_eq!(check(text), []);
    }

    #[test]
    fn a_source_file_that_was_moved_is_found() {
        let text = "`scheduler/firing.rs` and `test-runner/scheduler/firing.rs` and `crates/test-runner/src/scheduler/firing.rs`\n";
        assert_eq!(check(text), []);
        assert_eq!(
            check("`scheduler/fire.rs`\n")[0].message,
            "names `scheduler/fire.rs`, which does not exist"
        );
    }

    #[test]
    fn patterns_name_no_file() {
        assert_eq!(check("`head -qn1 crates/*/src/*.rs` and plain gone.rs\n"), []);
    }
}
