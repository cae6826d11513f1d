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

/// Paths that exist on this machine only, in any text file: `here` names the checkout and the user's home.
pub(crate) fn machine_paths(path: &str, text: &str, here: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for folder in here.iter().filter(|folder| names_path(line, folder)) {
            found.push(Finding::at_line(path, index + 1, format!("`{folder}` exists on one machine only")));
        }
    }
    found
}

/// Whether a line holds this absolute path or one below it, not one that merely contains the same letters.
fn names_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + folder.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || "/._-}*>~".contains(c))
            && !after.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c))
    })
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
    fn a_path_of_this_machine_is_found() {
        let here = ["/srv/checkout".to_owned(), "/home/ada".to_owned()];
        let text = "first\nsee /srv/checkout/notes\nand `/home/ada`\n";
        assert_eq!(places(&machine_paths("docs/a.md", text, &here)), ["docs/a.md:2", "docs/a.md:3"]);
    }

    #[test]
    fn other_and_relative_paths_pass() {
        let here = ["/srv/checkout".to_owned(), "/root".to_owned()];
        let text =
            "/srv/checkout-2/a target/srv/checkout https://example.org/root/x /rootfs /home/misc/tests\n";
        assert_eq!(machine_paths("docs/a.md", text, &here), []);
    }
}
