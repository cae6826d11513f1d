//! The pattern of `config:/etc/foo/*.conf`: where to look, how deep, and what matches. Pure.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use globset::{GlobBuilder, GlobMatcher};

/// Characters that give a component a meaning beyond itself.
const META: [char; 5] = ['*', '?', '[', '{', '\\'];

/// A pattern of configuration files, absolute on the host.
///
/// `*`, `?` and `[a-z]` stay within one directory, `**` spans any number of them, `{a,b}` is either. A path
/// without any of these is a file, or a directory with all that is in it. Links to files are followed; links
/// to directories only where the pattern spells them out.
#[derive(Clone, Debug)]
pub struct ConfigGlob {
    text: String,
    /// The longest part in front without a meta character.
    base: PathBuf,
    /// How many levels below `base` can match; `None` is all.
    depth: Option<usize>,
    /// `None` matches `base` itself and all below.
    matcher: Option<GlobMatcher>,
}

/// A pattern that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BadConfigGlob {
    /// It does not start at the root, or goes up.
    #[error(
        "`{glob}` is no pattern of configuration files: write an absolute path without `..`, e.g. /etc/app/*.conf"
    )]
    NotAbsolute {
        /// The pattern.
        glob: String,
    },
    /// Its syntax is wrong.
    #[error("`{glob}` is no pattern of configuration files")]
    Syntax {
        /// The pattern.
        glob: String,
        /// What is wrong.
        #[source]
        source: globset::Error,
    },
}

impl FromStr for ConfigGlob {
    type Err = BadConfigGlob;

    fn from_str(glob: &str) -> Result<Self, Self::Err> {
        let absolute = glob.starts_with('/') && !glob.split('/').any(|part| part == "..");
        if !absolute {
            return Err(BadConfigGlob::NotAbsolute { glob: glob.to_owned() });
        }
        // `//` and `/./` mean nothing to a path but much to a pattern.
        let parts: Vec<&str> = glob.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let literal = parts.iter().take_while(|part| !part.contains(META)).count();
        let base: PathBuf = Path::new("/").join(parts[..literal].iter().collect::<PathBuf>());
        if literal == parts.len() {
            return Ok(Self { text: glob.to_owned(), base, depth: None, matcher: None });
        }
        let below = &parts[literal..];
        // `**/` in front of a directory's end asks for all files below it.
        let depth = (!below.iter().any(|part| part.contains("**"))).then_some(below.len());
        let matcher = GlobBuilder::new(&format!("/{}", parts.join("/")))
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|source| BadConfigGlob::Syntax { glob: glob.to_owned(), source })?
            .compile_matcher();
        Ok(Self { text: glob.to_owned(), base, depth, matcher: Some(matcher) })
    }
}

impl ConfigGlob {
    /// Whether a file, absolute on the host, is meant.
    pub fn is_match(&self, path: &Path) -> bool {
        match &self.matcher {
            Some(matcher) => matcher.is_match(path),
            None => path.starts_with(&self.base),
        }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn depth(&self) -> Option<usize> {
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> ConfigGlob {
        text.parse().unwrap()
    }

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = glob(pattern);
        for path in yes {
            assert!(glob.is_match(Path::new(path)), "{pattern} should match {path}");
        }
        for path in no {
            assert!(!glob.is_match(Path::new(path)), "{pattern} should not match {path}");
        }
    }

    #[test]
    fn a_star_stays_in_its_directory() {
        check(
            "/etc/foo/*.conf",
            &["/etc/foo/a.conf", "/etc/foo/.conf"],
            &["/etc/foo/b/a.conf", "/etc/foo/a.cfg"],
        );
    }

    #[test]
    fn two_stars_span_directories() {
        check("/etc/**/*.conf", &["/etc/a.conf", "/etc/x/y/a.conf"], &["/opt/a.conf", "/etc/a"]);
        check("/etc/foo/**", &["/etc/foo/a", "/etc/foo/b/c"], &["/etc/foobar"]);
    }

    #[test]
    fn braces_and_classes_work() {
        check(
            "/etc/{nginx,httpd}/*.[ch]onf",
            &["/etc/nginx/a.conf", "/etc/httpd/a.honf"],
            &["/etc/apache/a.conf"],
        );
        check("/srv/{a,b/c}/d", &["/srv/a/d", "/srv/b/c/d"], &["/srv/b/d"]);
    }

    #[test]
    fn a_plain_path_is_a_file_or_a_whole_directory() {
        check("/etc/hosts", &["/etc/hosts", "/etc/hosts/x"], &["/etc/hosts.allow", "/etc"]);
        check("/etc//ssh/./", &["/etc/ssh/sshd_config"], &["/etc/sshd"]);
    }

    #[test]
    fn knows_where_to_look_and_how_deep() {
        let cases: [(&str, &str, Option<usize>); 6] = [
            ("/etc/foo/*.conf", "/etc/foo", Some(1)),
            ("/etc/*/conf.d/*.conf", "/etc", Some(3)),
            ("/etc/**", "/etc", None),
            ("/etc/hosts", "/etc/hosts", None),
            ("/*", "/", Some(1)),
            ("/srv/{a,b/c}/d", "/srv", Some(3)),
        ];
        for (pattern, base, depth) in cases {
            let glob = glob(pattern);
            assert_eq!((glob.base(), glob.depth()), (Path::new(base), depth), "{pattern}");
        }
    }

    #[test]
    fn refuses_what_is_not_absolute_or_is_malformed() {
        for bad in ["etc/*.conf", "", "/etc/../shadow", "/etc/[a", "/etc/{a"] {
            assert!(bad.parse::<ConfigGlob>().is_err(), "{bad}");
        }
    }
}
