//! Reads an archive while it arrives: keeps it as it came, lists its files, and hands on the cases of its reports.
//! No path of the archive is ever used as one.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read},
};

use serde_json::Value;
use test_results::{
    Totals,
    junit::JunitError,
    recognise::{ParseError, recognise_and_parse},
    subunit::SubunitError,
    tap::TapError,
    upload::{self, Entry, EntryKind, UploadError, UploadLimits, layout},
};

use super::cases::Cases;
use crate::{
    blobs::{Blobs, Keeping, KeptBlob},
    http::problem::{self, Problem},
    settings::Limits,
    store::{NewCase, NewFile},
    views::{FileKind, FileRow},
};

/// Bytes of each document in `container_info/` that is read.
const DOCUMENT: u64 = 4 << 20;

/// How many entries without content are named in the notes; the others are counted.
const NAMED: usize = 10;

/// How many notes a run has at most.
const NOTES: usize = 100;

/// What an archive holds.
#[derive(Default)]
pub(crate) struct Unpacked {
    pub(crate) inspect: Option<Value>,
    pub(crate) engine: BTreeMap<String, String>,
    pub(crate) totals: Totals,
    pub(crate) notes: Vec<String>,
    pub(crate) files: Vec<NewFile>,
    /// The cases that are not in the database yet.
    pub(crate) cases: Vec<NewCase>,
}

/// Reads an archive to its end. The cases of its reports go to `cases`, as they are read. Blocks.
pub(crate) fn unpack(
    source: impl Read,
    blobs: &Blobs,
    limits: &Limits,
    lenient: bool,
    cases: &mut Cases,
) -> Result<(Unpacked, KeptBlob), Problem> {
    let bounds = UploadLimits {
        entries: limits.entries,
        entry: limits.unpacked_bytes,
        total: limits.unpacked_bytes,
        ..UploadLimits::default()
    };
    let mut keeping = Keeping::new(source, blobs.receive());
    let mut visitor = Visitor { limits, lenient, cases, found: Unpacked::default(), index: Index::default() };
    let mut refusal = None;
    let read = upload::read(&mut keeping, &bounds, &mut |entry, content| {
        visitor.visit(entry, content).map_err(|problem| {
            refusal = Some(problem);
            io::Error::other("refused")
        })
    });
    if let Some(failure) = keeping.take_failure() {
        return Err(Problem::internal(&failure));
    }
    match (read, refusal) {
        (Ok(_), _) => {}
        (Err(UploadError::Visitor { .. }), Some(problem)) => return Err(problem),
        (Err(error), _) => return Err(refused(&error)),
    }
    let found = visitor.finish();
    let kept = keeping.finish().and_then(|incoming| blobs.keep(incoming));
    Ok((found, kept.map_err(|error| Problem::internal(&error))?))
}

/// Why an archive is not taken.
fn refused(error: &UploadError) -> Problem {
    let detail = problem::chain(error);
    match error {
        // Who passes the body on knows better what happened to it; this answer is not sent.
        UploadError::Body(_) => Problem::bad_request("the body did not arrive whole"),
        UploadError::Visitor { .. } => Problem::internal(error),
        error if error.is_too_large() => Problem::too_large(detail),
        UploadError::AbsolutePath { .. }
        | UploadError::OutsidePath { .. }
        | UploadError::InvalidPath { .. }
        | UploadError::PathTooLong { .. }
        | UploadError::PathTooDeep { .. } => Problem::unprocessable(detail),
        _ => Problem::bad_request(detail),
    }
}

struct Visitor<'a> {
    limits: &'a Limits,
    lenient: bool,
    cases: &'a mut Cases,
    found: Unpacked,
    index: Index,
}

impl Visitor<'_> {
    fn visit(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Problem> {
        let place = self.index.entries;
        self.index.entries += 1;
        let left_out = match &entry.kind {
            EntryKind::File => None,
            EntryKind::Directory => return Ok(()),
            EntryKind::Symlink { target } => Some(format!("a link to `{}`", String::from_utf8_lossy(target))),
            EntryKind::HardLink { target } => {
                Some(format!("another name of `{}`", String::from_utf8_lossy(target)))
            }
            EntryKind::Skipped { what } => Some((*what).to_owned()),
        };
        if let Some(what) = left_out {
            self.index.left_out += 1;
            if self.index.left_out <= NAMED {
                self.note(format!("{} is {what}: it has no contents here", entry.lossy_path()));
            }
            return Ok(());
        }
        let path = self.index.name(entry);
        let format = match path.as_str() {
            layout::INSPECT => {
                self.found.inspect = self.document(&path, entry.size, content)?;
                None
            }
            layout::ENGINE => {
                let document = self.document(&path, entry.size, content)?;
                self.found.engine = document.as_ref().map(texts).unwrap_or_default();
                None
            }
            path if FileKind::of(path) == FileKind::Result => self.report(path, content)?,
            _ => None,
        };
        let row =
            FileRow { kind: FileKind::of(&path), path, size: entry.size, format: format.map(str::to_owned) };
        self.index.add(&entry.path, NewFile { row, entry: place });
        Ok(())
    }

    /// Reads a JSON document of `container_info/`.
    fn document(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<Option<Value>, Problem> {
        if size > DOCUMENT {
            let detail = format!("`{path}` has {size} bytes, at most {DOCUMENT} are taken");
            return Err(Problem::too_large(detail).with("file", path));
        }
        match serde_json::from_reader(content) {
            Ok(document) => Ok(Some(document)),
            Err(error) => {
                let line = u64::try_from(error.line()).unwrap_or(0);
                self.unreadable(path, &problem::chain(&error), Some(line).filter(|line| *line > 0))?;
                Ok(None)
            }
        }
    }

    /// Reads the cases of a file, if it is a report. Returns its format.
    fn report(&mut self, path: &str, content: &mut dyn Read) -> Result<Option<&'static str>, Problem> {
        let left = self.limits.cases.saturating_sub(self.cases.count());
        let limits = test_results::Limits { cases: left, ..test_results::Limits::default() };
        let (cases, totals) = (&mut *self.cases, &mut self.found.totals);
        let parsed = recognise_and_parse(path, content, &limits, &mut |case| {
            totals.add(case.status);
            cases.take(case, path)
        });
        if let Some(failure) = self.cases.failure() {
            return Err(failure.into());
        }
        match parsed {
            Ok(recognised) => Ok(recognised.map(|(format, _)| format.as_str())),
            Err(error) if is_too_many(&error) => {
                let most = self.limits.cases;
                Err(Problem::too_large(format!("a result of more than {most} cases is not taken"))
                    .with("file", path))
            }
            Err(error) => {
                self.unreadable(path, &problem::chain(&error), line(&error))?;
                Ok(None)
            }
        }
    }

    /// A file that is not what it says: refused, or noted when the uploader asked for that.
    fn unreadable(&mut self, path: &str, why: &str, line: Option<u64>) -> Result<(), Problem> {
        if self.lenient {
            self.note(format!("{path}: {why}"));
            return Ok(());
        }
        let problem = Problem::unprocessable(format!("`{path}`: {why}")).with("file", path);
        Err(match line {
            Some(line) => problem.with("line", line),
            None => problem,
        })
    }

    fn note(&mut self, note: String) {
        if self.found.notes.len() < NOTES {
            self.found.notes.push(note);
        }
    }

    fn finish(mut self) -> Unpacked {
        if let Some(more) = self.index.left_out.checked_sub(NAMED).filter(|more| *more > 0) {
            self.note(format!("{more} more links and devices have no contents here"));
        }
        self.found.files = self.index.files;
        self.found
    }
}

/// The files of an archive under names that are text and of which none is there twice.
#[derive(Default)]
struct Index {
    files: Vec<NewFile>,
    /// Where in `files` a path of the archive is.
    by_path: HashMap<Vec<u8>, usize>,
    /// Entries so far, of all kinds.
    entries: u64,
    left_out: usize,
    /// Names that were made from paths that are not text.
    made_up: HashMap<String, u64>,
}

impl Index {
    /// The name of an entry. Two paths that look the same once they are text get different ones.
    fn name(&mut self, entry: &Entry) -> String {
        let text = entry.lossy_path();
        if text.as_bytes() == entry.path {
            return text.into_owned();
        }
        if let Some(known) = self.by_path.get(&entry.path) {
            return self.files[*known].row.path.clone();
        }
        let text = text.into_owned();
        let count = self.made_up.entry(text.clone()).or_default();
        *count += 1;
        // The replacement character in it makes it unlikely, the number impossible, to meet a real name.
        format!("{text}~{count}")
    }

    /// A path that is there twice means its last contents, as it does when a tar is unpacked.
    fn add(&mut self, path: &[u8], file: NewFile) {
        match self.by_path.get(path) {
            Some(known) => self.files[*known] = file,
            None => {
                self.by_path.insert(path.to_owned(), self.files.len());
                self.files.push(file);
            }
        }
    }
}

/// The members of a document that are text and say something.
fn texts(document: &Value) -> BTreeMap<String, String> {
    let members = document.as_object().into_iter().flatten();
    let texts = members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    texts.filter(|(_, text)| !text.is_empty()).collect()
}

fn is_too_many(error: &ParseError) -> bool {
    matches!(
        error,
        ParseError::Junit(JunitError::TooManyCases { .. })
            | ParseError::Tap(TapError::TooManyCases { .. })
            | ParseError::Subunit(SubunitError::TooManyCases { .. })
    )
}

/// The line at which a report cannot be read, from 1.
fn line(error: &ParseError) -> Option<u64> {
    match error {
        ParseError::Junit(
            JunitError::Truncated { line, .. }
            | JunitError::Malformed { line, .. }
            | JunitError::Refused { line, .. }
            | JunitError::TooDeep { line, .. }
            | JunitError::Read { line, .. },
        )
        | ParseError::Tap(TapError::TooDeep { line, .. } | TapError::Read { line, .. })
        | ParseError::Subunit(SubunitError::TruncatedText { line, .. }) => Some(*line),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    fn entry(path: &[u8]) -> Entry {
        Entry { path: path.to_owned(), size: 0, kind: EntryKind::File, modified: None }
    }

    fn file(path: &str, entry: u64) -> NewFile {
        let row = FileRow { path: path.to_owned(), kind: FileKind::Result, size: 0, format: None };
        NewFile { row, entry }
    }

    #[test]
    fn every_path_has_a_name_of_its_own() {
        let mut index = Index::default();
        let mut named = |path: &[u8], place| {
            let name = index.name(&entry(path));
            index.add(path, file(&name, place));
            name
        };
        assert_eq!(named(b"results/a", 0), "results/a");
        assert_eq!(named(b"results/\xff", 1), "results/\u{fffd}~1");
        assert_eq!(named(b"results/\xfe", 2), "results/\u{fffd}~2");
        assert_eq!(named(b"results/\xff", 3), "results/\u{fffd}~1");
        assert_eq!(named(b"results/a", 4), "results/a");
        let places: Vec<_> = index.files.iter().map(|file| file.entry).collect();
        assert_eq!(places, [4, 3, 2]);
    }

    #[test]
    fn an_archive_is_answered_for_what_it_is() {
        let status = |error: UploadError| refused(&error).status();
        assert_eq!(status(UploadError::NotGzip), StatusCode::BAD_REQUEST);
        assert_eq!(
            status(UploadError::OutsidePath { path: "../x".into() }),
            StatusCode::UNPROCESSABLE_ENTITY
        );
        assert_eq!(status(UploadError::Bomb { ratio: 200 }), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
