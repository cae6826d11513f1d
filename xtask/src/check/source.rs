//! Rust source text as the rules see it: code without comments and literals, and which lines are tests.
//! Reads no file and judges nothing.

use std::ops::Range;

use ra_ap_rustc_lexer::{FrontmatterAllowed, TokenKind, tokenize};

/// One `.rs` file of the workspace.
pub(crate) struct Source {
    /// Path from the workspace root, with `/`.
    pub(crate) path: String,
    /// The file as it is.
    pub(crate) text: String,
    /// The same text with the inside of comments and literals blanked: offsets and lines agree with `text`.
    code: String,
    /// Zero-based lines of `#[cfg(test)]` modules.
    tests: Vec<Range<usize>>,
}

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = without_comments_and_literals(&text);
        let tests = test_modules(&code);
        Self { path, text, code, tests }
    }

    /// Lines of code with their number, from 1.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The same without test modules.
    pub(crate) fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let everything_is_a_test = self.is_test_file();
        self.code_lines().filter(move |(number, _)| {
            !everything_is_a_test && !self.tests.iter().any(|lines| lines.contains(&(number - 1)))
        })
    }

    /// The crate's folder: `crates/test-results`, `testkit`.
    pub(crate) fn folder(&self) -> &str {
        let parts = if self.path.starts_with("crates/") { 2 } else { 1 };
        match self.path.match_indices('/').nth(parts - 1) {
            Some((end, _)) => &self.path[..end],
            None => &self.path,
        }
    }

    /// Whether the whole file is test code.
    pub(crate) fn is_test_file(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }
}

/// Blanks comments and literals, keeping every newline and every byte offset.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    for token in tokenize(text, FrontmatterAllowed::No) {
        let (lexeme, after) = rest.split_at(token.len as usize);
        rest = after;
        match token.kind {
            TokenKind::LineComment { .. } | TokenKind::BlockComment { .. } | TokenKind::Literal { .. } => {
                for byte in lexeme.bytes() {
                    code.push(if byte == b'\n' { '\n' } else { ' ' });
                }
            }
            _ => code.push_str(lexeme),
        }
    }
    code
}

/// Finds the lines of `#[cfg(test)] mod … { … }`, outermost modules only.
fn test_modules(code: &str) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find(MARK).map(|offset| from + offset) {
        let after = at + MARK.len();
        from = after;
        let Some(open) = opens_module(&code[after..]).map(|offset| after + offset) else { continue };
        let end = closing_brace(code, open).unwrap_or(code.len());
        found.push(line_of(code, at)..line_of(code, end) + 1);
        from = end;
    }
    found
}

/// The offset of the brace that opens the module declared here, past further attributes.
fn opens_module(code: &str) -> Option<usize> {
    let open = code.find(['{', ';']).filter(|at| code[*at..].starts_with('{'))?;
    code[..open].split_whitespace().any(|word| word == "mod").then_some(open)
}

fn closing_brace(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (offset, character) in code[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(open + offset);
                }
            }
            _ => {}
        }
    }
    None
}

fn line_of(code: &str, offset: usize) -> usize {
    code[..offset].matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(text: &str) -> Vec<usize> {
        let source = Source::new("crates/x/src/a.rs", text);
        source.product_lines().filter(|(_, line)| !line.trim().is_empty()).map(|(number, _)| number).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let source = Source::new(
            "crates/x/src/a.rs",
            "//! says println!\nlet a = \"} env::var\"; /* exit( */ let c = '{';\nlet r = r#\"dbg!\"#;\n",
        );
        let code: Vec<_> = source.code_lines().map(|(_, line)| line.to_owned()).collect();
        assert!(code.iter().all(|line| !line.contains('!') && !line.contains('{') && !line.contains("env")));
        assert!(code[1].contains("let c = "));
    }

    #[test]
    fn blanking_keeps_offsets_even_of_wide_characters() {
        let text = "let a = \"größe→\"; b\n";
        assert_eq!(without_comments_and_literals(text).find('b'), text.find('b'));
    }

    #[test]
    fn a_test_module_is_not_product_code() {
        assert_eq!(
            product("fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { if true {} }\n}\nfn c() {}\n"),
            [1, 6]
        );
    }

    #[test]
    fn attributes_between_the_mark_and_the_module_are_passed_over() {
        assert_eq!(product("#[cfg(test)]\n#[allow(dead_code)]\npub(crate) mod tests {\n}\nfn c() {}\n"), [5]);
    }

    #[test]
    fn a_test_item_that_is_no_module_ends_nothing() {
        assert_eq!(product("#[cfg(test)]\nmod tests;\nfn a() {}\n"), [1, 2, 3]);
        assert_eq!(product("#[cfg(test)]\nuse x::y;\nfn a() { }\n"), [1, 2, 3]);
    }

    #[test]
    fn the_folder_is_the_crates() {
        assert_eq!(Source::new("crates/test-results/src/lib.rs", "").folder(), "crates/test-results");
        assert_eq!(Source::new("xtask/src/main.rs", "").folder(), "xtask");
    }
}
