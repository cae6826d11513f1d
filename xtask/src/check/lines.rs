//! Rules about single lines: what a library must not do, what is unfinished, what belongs to one machine. Pure.

use super::{finding::Finding, source::Source};

/// What only the binary does, and what to do instead.
const ONLY_THE_BINARY: [(&str, &str); 8] = [
    ("println!", "a library returns values and emits events; the binary prints"),
    ("print!", "a library returns values and emits events; the binary prints"),
    ("eprintln!", "a library logs with `tracing` or returns an error"),
    ("eprint!", "a library logs with `tracing` or returns an error"),
    ("dbg!", "left over from debugging"),
    ("process::exit", "a library returns an error; the binary chooses the exit code"),
    ("env::var", "the binary reads the environment and passes settings"),
    ("env::args", "the binary reads the arguments and passes settings"),
];

/// Crates that are not libraries: they print, exit and read the environment. `testkit` stands in for a user's
/// shell, so it reads the environment too.
const NOT_LIBRARIES: [&str; 3] = ["crates/tugyard", "testkit", "xtask"];

/// Marks of work that is not done, or of tests that do not run.
const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "#[ignore"];

/// Homes and work folders of single machines, cut in two so that this file passes its own rule.
const MACHINE_PATHS: [[&str; 2]; 4] = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"]];

/// The one path of that kind in the seed's own example, which documentation and tests quote.
const QUOTED_PATH: [&str; 2] = ["/ho", "me/misc"];

/// Printing, exiting and reading the environment in a library.
pub(crate) fn library_purity(source: &Source) -> Vec<Finding> {
    if NOT_LIBRARIES.contains(&source.folder()) || source.is_test_file() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, line) in source.product_lines() {
        for (forbidden, instead) in ONLY_THE_BINARY {
            if names(line, forbidden) {
                found.push(Finding::at_line(&source.path, number, format!("`{forbidden}`: {instead}")));
            }
        }
    }
    found
}

/// Work that is not done.
pub(crate) fn unfinished(source: &Source) -> Vec<Finding> {
    let in_code = source.code_lines().filter_map(|(number, line)| {
        let mark = UNFINISHED.iter().find(|mark| line.contains(*mark))?;
        Some(Finding::at_line(&source.path, number, format!("`{mark}`: finish it or take it out")))
    });
    let mark = ["FIX", "ME"].concat();
    let in_comments =
        source.text.lines().enumerate().filter(|(_, line)| line.contains(&mark)).map(|(index, _)| {
            Finding::at_line(&source.path, index + 1, "an open end in a comment: mend it or open an issue")
        });
    in_code.chain(in_comments).collect()
}

/// Paths that exist on one machine only, in any text file.
pub(crate) fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for forbidden in MACHINE_PATHS.map(|parts| parts.concat()) {
            let quoted = line.matches(&QUOTED_PATH.concat()).count();
            let all = absolute(line, &forbidden);
            if all > if forbidden.starts_with("/ho") { quoted } else { 0 } {
                found.push(Finding::at_line(
                    path,
                    index + 1,
                    format!("`{forbidden}` exists on one machine only"),
                ));
            }
        }
    }
    found
}

/// How often an absolute path begins with `prefix` in this line (and not merely contains it).
fn absolute(line: &str, prefix: &str) -> usize {
    line.match_indices(prefix)
        .filter(|(at, _)| {
            let before = line[..*at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "/._-}*>~".contains(c))
        })
        .count()
}

/// Whether a line names this item, not one whose name merely ends the same way.
fn names(line: &str, item: &str) -> bool {
    line.match_indices(item).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::places;

    fn library(text: &str) -> Source {
        Source::new("crates/test-runner/src/a.rs", text)
    }

    #[test]
    fn a_library_that_prints_exits_or_reads_the_environment_is_found() {
        let text = "fn a() {\n  println!(\"x\");\n  std::process::exit(1);\n  std::env::var_os(\"HOME\");\n  dbg!(1);\n}\n";
        assert_eq!(
            places(&library_purity(&library(text))),
            [
                "crates/test-runner/src/a.rs:2",
                "crates/test-runner/src/a.rs:3",
                "crates/test-runner/src/a.rs:4",
                "crates/test-runner/src/a.rs:5"
            ]
        );
    }

    #[test]
    fn comments_strings_and_tests_of_a_library_may_name_them() {
        let text = "//! Never println!\nlet a = \"env::var\";\n#[cfg(test)]\nmod tests {\n  fn b() { println!(); }\n}\n";
        assert_eq!(library_purity(&library(text)), []);
        assert_eq!(library_purity(&Source::new("crates/test-runner/tests/it/a.rs", "println!();\n")), []);
    }

    #[test]
    fn the_binary_may() {
        assert_eq!(library_purity(&Source::new("crates/tugyard/src/a.rs", "println!();\n")), []);
    }

    #[test]
    fn a_longer_name_is_another_item() {
        assert_eq!(library_purity(&library("my_env::var(); do_print!();\n")), []);
    }

    #[test]
    fn unfinished_work_is_found_in_tests_too() {
        let text = "fn a() { todo!() }\n#[ignore = \"slow\"]\nfn b() {}\nlet s = \"todo!\";\n";
        assert_eq!(
            places(&unfinished(&library(text))),
            ["crates/test-runner/src/a.rs:1", "crates/test-runner/src/a.rs:2"]
        );
        let open = format!("// {}{}: later\n", "FIX", "ME");
        assert_eq!(unfinished(&library(&open)).len(), 1);
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        for parts in MACHINE_PATHS {
            let text = format!("first\nsee {}someone/notes\n", parts.concat());
            assert_eq!(places(&machine_paths("docs/a.md", &text)), ["docs/a.md:2"]);
        }
    }

    #[test]
    fn the_seeds_example_and_relative_paths_pass() {
        let quoted = format!("tugbot watch --dir {}\n", QUOTED_PATH.concat());
        assert_eq!(machine_paths("docs/a.md", &quoted), []);
        let relative = format!(
            "target{}x and https://example.org{}y\n",
            MACHINE_PATHS[0].concat(),
            MACHINE_PATHS[2].concat()
        );
        assert_eq!(machine_paths("docs/a.md", &relative), []);
    }
}
