//! Reads an archive as it arrives: keeps it, lists its files, and hands on the cases of its reports. Interim.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use flate2::read::GzDecoder;
use serde_json::Value;
use test_results::Totals;

use super::cases::Cases;
use crate::{
    blobs::{Blobs, Keeping, KeptBlob},
    http::problem::{self, Problem},
    settings::Limits,
    store::{NewCase, NewFile},
    views::{FileKind, FileRow},
};

/// What an archive holds.
#[derive(Default)]
pub(crate) struct Unpacked {
    pub(crate) inspect: Option<Value>,
    pub(crate) engine: BTreeMap<String, String>,
    pub(crate) totals: Totals,
    pub(crate) notes: Vec<String>,
    pub(crate) files: Vec<NewFile>,
    pub(crate) cases: Vec<NewCase>,
}

pub(crate) fn unpack(
    source: impl Read,
    blobs: &Blobs,
    _limits: &Limits,
    _lenient: bool,
    cases: &mut Cases,
) -> Result<(Unpacked, KeptBlob), Problem> {
    let keeping = Keeping::new(source, blobs.receive());
    let mut archive = tar::Archive::new(GzDecoder::new(keeping));
    let mut unpacked = Unpacked::default();
    let bad = |error: io::Error| Problem::bad_request(problem::chain(&error));
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let row = FileRow { kind: FileKind::of(&path), path: path.clone(), size: entry.size(), format: None };
        unpacked.files.push(NewFile { row, position: entry.raw_file_position() });
        if path.ends_with(".xml") {
            let mut totals = Totals::default();
            test_results::junit::parse(&mut entry, &test_results::Limits::default(), &mut |case| {
                totals.add(case.status);
                cases.take(case, &path)
            })
            .map_err(|error| Problem::unprocessable(problem::chain(&error)))?;
            unpacked.totals = totals;
        } else if path == "container_info/inspect.json" {
            unpacked.inspect = serde_json::from_reader(&mut entry).ok();
        }
    }
    let keeping = archive.into_inner().into_inner();
    let incoming = keeping.finish().map_err(bad)?;
    let blob = blobs.keep(incoming).map_err(|error| Problem::internal(&error))?;
    Ok((unpacked, blob))
}
