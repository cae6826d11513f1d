//! Uploads: what is written comes back, and what is hostile is refused by name.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read, Write},
};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use tar::{EntryType, Header};
use test_results::upload::{
    Appended, Entry, EntryKind, FileMetadata, UploadError, UploadLimits, UploadSummary, UploadWriter, layout,
    read,
};

type Read1 = (Vec<(Entry, Vec<u8>)>, Result<UploadSummary, UploadError>);

fn unpack_within(body: &[u8], limits: &UploadLimits) -> Read1 {
    let mut entries = Vec::new();
    let result = read(body, limits, &mut |entry, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        entries.push((entry.clone(), bytes));
        Ok(())
    });
    (entries, result)
}

fn unpack(body: &[u8]) -> Read1 {
    unpack_within(body, &UploadLimits::default())
}

fn refusal(body: &[u8]) -> String {
    unpack(body).1.unwrap_err().to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One header with its content, as any program may write it.
fn raw(path: &[u8], kind: EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_777_629_600);
    header.set_cksum();
    block(header.as_bytes(), content)
}

fn block(header: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = [header, content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
    gzip(&[parts.concat(), vec![0; 1024]].concat())
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().into_bytes(), rest].concat()
}

#[test]
fn an_upload_comes_back_as_it_was_written() {
    let mut writer = UploadWriter::new(Vec::new());
    let modified = Some("2026-05-01T10:00:00Z".parse().unwrap());
    writer.json(layout::INSPECT, &serde_json::json!({"Name": "/t1"})).unwrap();
    writer.bytes(layout::STDOUT, b"hello\n").unwrap();
    writer.note("results", &EntryKind::Directory, modified).unwrap();
    let long = format!("results/{}/junit.xml", "deep/".repeat(60));
    let whole = writer.file(&long, FileMetadata { size: 12, modified }, &b"<testsuite/>"[..]).unwrap();
    writer.file(b"results/\xff\xfe.log", FileMetadata { size: 1, modified }, &b"x"[..]).unwrap();
    writer.note("results/link", &EntryKind::Symlink { target: b"/etc/passwd".to_vec() }, modified).unwrap();
    writer
        .note("results/again", &EntryKind::HardLink { target: b"results/link".to_vec() }, modified)
        .unwrap();
    writer.note("results/pipe", &EntryKind::Skipped { what: "FIFO" }, modified).unwrap();
    let body = writer.finish().unwrap();
    assert_eq!(whole, Appended::Whole);

    let (entries, result) = unpack(&body);
    let summary = result.unwrap();
    assert_eq!((summary.entries, summary.packed), (8, body.len() as u64));
    let by_path: BTreeMap<_, _> = entries
        .iter()
        .map(|(entry, bytes)| (entry.lossy_path().into_owned(), (entry, bytes.as_slice())))
        .collect();
    assert_eq!(by_path["container_info/inspect.json"].1, br#"{"Name":"/t1"}"#);
    assert_eq!(by_path[&long.replace("//", "/")].1, b"<testsuite/>");
    assert_eq!(by_path["results"].0.kind, EntryKind::Directory);
    assert_eq!(by_path["results"].0.modified, modified);
    assert_eq!(by_path["results/\u{fffd}\u{fffd}.log"].0.path, b"results/\xff\xfe.log");
    assert_eq!(by_path["results/link"].0.kind, EntryKind::Symlink { target: b"/etc/passwd".to_vec() });
    assert_eq!(by_path["results/again"].0.kind, EntryKind::HardLink { target: b"results/link".to_vec() });
    assert_eq!(by_path["results/pipe"].0.kind, EntryKind::Skipped { what: "FIFO" });
}

#[test]
fn a_file_that_shrinks_while_it_is_read_leaves_the_archive_sound() {
    let mut writer = UploadWriter::new(Vec::new());
    let short = writer.file("a", FileMetadata { size: 10, modified: None }, &b"abc"[..]).unwrap();
    let long = writer.file("b", FileMetadata { size: 2, modified: None }, &b"abc"[..]).unwrap();
    let (entries, result) = unpack(&writer.finish().unwrap());
    assert_eq!((short, long), (Appended::Short { written: 3 }, Appended::Whole));
    assert_eq!(result.unwrap().entries, 2);
    assert_eq!((entries[0].1.as_slice(), entries[1].1.as_slice()), (&b"abc\0\0\0\0\0\0\0"[..], &b"ab"[..]));
}

#[test]
fn paths_that_lead_outside_are_refused() {
    // Upstream's service extracted them.
    let body = |path: &[u8]| archive(&[raw(path, EntryType::Regular, b"x")]);
    assert_eq!(refusal(&body(b"../../etc/cron.d/x")), "the path `../../etc/cron.d/x` leads outside");
    assert_eq!(refusal(&body(b"results/../../x")), "the path `results/../../x` leads outside");
    assert_eq!(refusal(&body(b"/etc/passwd")), "the path `/etc/passwd` is absolute");
    let hidden = raw(b"././@LongLink", EntryType::GNULongName, b"../x\0");
    assert_eq!(
        refusal(&archive(&[hidden, raw(b"a", EntryType::Regular, b"")])),
        "the path `../x` leads outside"
    );
    let hidden = raw(b"pax", EntryType::XHeader, &record("path", b"/x"));
    assert_eq!(refusal(&archive(&[hidden, raw(b"a", EntryType::Regular, b"")])), "the path `/x` is absolute");
}

#[test]
fn links_and_devices_are_noted_and_have_no_content() {
    let link = |kind, target: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_path("results/x").unwrap();
        header.set_entry_type(kind);
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target);
        // A size that means nothing: the next header follows at once.
        header.set_size(700);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let kinds = [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo];
    let mut parts: Vec<_> = kinds.into_iter().map(|kind| link(kind, b"../../etc/passwd")).collect();
    parts.push(raw(b"results/after", EntryType::Regular, b"y"));
    let (entries, result) = unpack(&archive(&parts));
    result.unwrap();
    let target = b"../../etc/passwd".to_vec();
    let expected = [
        EntryKind::Symlink { target: target.clone() },
        EntryKind::HardLink { target },
        EntryKind::Skipped { what: "character device" },
        EntryKind::Skipped { what: "block device" },
        EntryKind::Skipped { what: "FIFO" },
        EntryKind::File,
    ];
    assert_eq!(entries.iter().map(|(entry, _)| entry.kind.clone()).collect::<Vec<_>>(), expected);
    assert!(entries[..5].iter().all(|(entry, content)| entry.size == 0 && content.is_empty()));
    assert_eq!(entries[5].1, b"y");
}

#[test]
fn posix_records_describe_the_entry_after_them() {
    let records = [
        record("comment", b"two\nlines"),
        record("path", "results/é\nx".as_bytes()),
        record("mtime", b"1777629600.25"),
        record("size", b"3"),
    ]
    .concat();
    let parts = [
        raw(b"g", EntryType::XGlobalHeader, &record("path", b"ignored")),
        raw(b"x", EntryType::XHeader, &records),
        raw(b"short", EntryType::Regular, b"abc"),
        raw(b"./results/./plain", EntryType::Regular, b"z"),
        raw(b"./", EntryType::Directory, b""),
    ];
    let (entries, result) = unpack(&archive(&parts));
    assert_eq!(result.unwrap().entries, 2);
    assert_eq!(
        (entries[0].0.path.as_slice(), entries[0].1.as_slice()),
        ("results/é\nx".as_bytes(), &b"abc"[..])
    );
    assert_eq!(entries[0].0.lossy_path(), "results/é\u{fffd}x");
    assert_eq!(entries[0].0.modified, Some("2026-05-01T10:00:00.25Z".parse().unwrap()));
    assert_eq!(entries[1].0.path, b"results/plain");
}

#[test]
fn files_with_holes_are_read_with_their_zeros() {
    let mut header = Header::new_gnu();
    header.set_path("old").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(7);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].set_offset(2);
    gnu.sparse[0].set_length(3);
    gnu.set_is_extended(true);
    gnu.set_real_size(12);
    header.set_cksum();
    let mut more = tar::GnuExtSparseHeader::new();
    more.sparse_mut()[0].set_offset(6);
    more.sparse_mut()[0].set_length(4);
    let old = [header.as_bytes().to_vec(), block(more.as_bytes(), b"abcdefg")].concat();

    let records = |parts: &[(&str, &[u8])]| {
        parts.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>()
    };
    let form_0_0 = records(&[
        ("GNU.sparse.size", b"12"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"2"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"6"),
        ("GNU.sparse.numbytes", b"4"),
    ]);
    let form_0_1 =
        records(&[("GNU.sparse.size", b"12"), ("GNU.sparse.name", b"0.1"), ("GNU.sparse.map", b"2,3,6,4")]);
    let form_1_0 = records(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"1.0"),
        ("GNU.sparse.realsize", b"12"),
    ]);
    let with_map = [block(b"2\n2\n3\n6\n4\n", b""), b"abcdefg".to_vec()].concat();
    let parts = [
        old,
        raw(b"x", EntryType::XHeader, &form_0_0),
        raw(b"0.0", EntryType::Regular, b"abcdefg"),
        raw(b"x", EntryType::XHeader, &form_0_1),
        raw(b"made/up", EntryType::Regular, b"abcdefg"),
        raw(b"x", EntryType::XHeader, &form_1_0),
        raw(b"made/up", EntryType::Regular, &with_map),
        raw(b"after", EntryType::Regular, b"z"),
    ];
    let (entries, result) = unpack(&archive(&parts));
    result.unwrap();
    let names: Vec<_> = entries.iter().map(|(entry, _)| entry.lossy_path().into_owned()).collect();
    assert_eq!(names, ["old", "0.0", "0.1", "1.0", "after"]);
    for (entry, content) in &entries[..4] {
        assert_eq!(
            (entry.size, content.as_slice()),
            (12, &b"\0\0abc\0defg\0\0"[..]),
            "{}",
            entry.lossy_path()
        );
    }
}

#[test]
fn a_file_of_holes_counts_with_its_full_size() {
    let mut header = Header::new_gnu();
    header.set_path("hole").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(0);
    header.as_gnu_mut().unwrap().set_real_size(600);
    header.set_cksum();
    let body = archive(&vec![header.as_bytes().to_vec(); 3]);
    let limits = UploadLimits { entry: 599, ..UploadLimits::default() };
    assert!(matches!(unpack_within(&body, &limits).1, Err(UploadError::EntryTooLarge { size: 600, .. })));
    let limits = UploadLimits { total: 512 * 2 + 2 * 600, ..UploadLimits::default() };
    assert!(matches!(unpack_within(&body, &limits).1, Err(UploadError::TooLarge { .. })));
    assert!(unpack(&body).1.is_ok());
}

#[test]
fn broken_maps_of_holes_are_refused() {
    for (map, size) in [(&b"2,3,1,1"[..], &b"12"[..]), (b"2,3", b"4"), (b"0,900", b"1000"), (b"x", b"1")] {
        let records = [record("GNU.sparse.size", size), record("GNU.sparse.map", map)].concat();
        let parts = [raw(b"x", EntryType::XHeader, &records), raw(b"a", EntryType::Regular, b"abc")];
        assert!(refusal(&archive(&parts)).contains("makes no sense"), "{map:?}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let mut writer = UploadWriter::with_level(Vec::new(), 9);
    let size = 200 * 1024 * 1024;
    writer.file("zeros", FileMetadata { size, modified: None }, io::repeat(0)).unwrap();
    let body = writer.finish().unwrap();
    let mut taken = 0;
    let result = read(body.as_slice(), &UploadLimits::default(), &mut |_, content| {
        taken = io::copy(content, &mut io::sink()).unwrap_or(taken);
        Ok(())
    });
    assert!(matches!(result, Err(UploadError::Bomb { ratio: 200 })), "{result:?}");
    assert!(result.unwrap_err().is_too_large());
    assert!(taken < 64 * 1024 * 1024);
}

#[test]
fn limits_hold() {
    let three = archive(&[
        raw(b"a", EntryType::Regular, b"12345"),
        raw(b"b/c/d", EntryType::Regular, b""),
        raw(b"e", EntryType::Regular, b""),
    ]);
    let refused = |limits: UploadLimits| unpack_within(&three, &limits).1.unwrap_err();
    let all = UploadLimits::default();
    assert_eq!(
        refused(UploadLimits { entries: 2, ..all }).to_string(),
        "the archive has more than 2 entries"
    );
    assert_eq!(refused(UploadLimits { entry: 4, ..all }).to_string(), "`a` has 5 bytes, at most 4 are taken");
    assert_eq!(
        refused(UploadLimits { total: 1000, ..all }).to_string(),
        "the archive unpacks to more than 1000 bytes"
    );
    assert_eq!(
        refused(UploadLimits { path_depth: 2, ..all }).to_string(),
        "the path `b/c/d` has more than 2 parts"
    );
    assert_eq!(refused(UploadLimits { path_length: 4, ..all }).to_string(), "a path has more than 4 bytes");
    let long = raw(b"x", EntryType::XHeader, &record("comment", &[b'x'; 3000]));
    let body = archive(&[long, raw(b"a", EntryType::Regular, b"")]);
    let limits = UploadLimits { metadata: 3000, ..all };
    let error = unpack_within(&body, &limits).1.unwrap_err();
    assert_eq!(error.to_string(), "the extended headers before byte 0 are longer than 3000 bytes");
    // An announced size that is not there costs nothing.
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    assert!(refusal(&gzip(header.as_bytes())).starts_with("a path has more than"));
}

#[test]
fn a_truncated_body_says_where() {
    let body = archive(&[raw(b"a", EntryType::Regular, b"12345"), raw(b"b", EntryType::Regular, &[7; 2000])]);
    for cut in 1..body.len() {
        assert!(matches!(unpack(&body[..cut]).1, Err(UploadError::TruncatedGzip { .. })), "{cut}");
    }
    let tar = [raw(b"a", EntryType::Regular, b"12345"), raw(b"b", EntryType::Regular, &[7; 2000])].concat();
    for (cut, expected) in [
        (100, "the archive ends too early, inside a header"),
        (600, "the archive ends too early, inside `a`"),
        (1200, "the archive ends too early, inside a header"),
        (2000, "the archive ends too early, inside `b`"),
    ] {
        assert_eq!(refusal(&gzip(&tar[..cut])), expected);
    }
    let lonely = raw(b"././@LongLink", EntryType::GNULongName, b"name\0");
    assert_eq!(refusal(&gzip(&lonely)), "the archive ends too early, inside a header");
    // Without the empty blocks at its end it is still whole.
    assert_eq!(unpack(&gzip(&tar)).1.unwrap().entries, 2);
}

#[test]
fn what_is_no_upload_says_why() {
    assert_eq!(refusal(b""), "the body is empty");
    assert_eq!(refusal(b"PK\x03\x04"), "the body is not gzip");
    assert_eq!(refusal(&gzip(b"hello, this is no archive")), "the archive ends too early, inside a header");
    assert!(refusal(&gzip(&[b'x'; 1024])).contains("byte 0 that makes no sense: its checksum"));
    let sound = archive(&[raw(b"a", EntryType::Regular, b"12345")]);
    let garbage = [sound.as_slice(), b"garbage"].concat();
    assert_eq!(refusal(&garbage), "something follows the end of the archive");
    let inside = gzip(&[raw(b"a", EntryType::Regular, b""), vec![0; 1024], b"garbage".to_vec()].concat());
    assert_eq!(refusal(&inside), "something follows the end of the archive");
    let mut damaged = sound;
    let middle = damaged.len() - 6;
    damaged[middle] ^= 1;
    assert_eq!(refusal(&damaged), "the gzip data is damaged");
}

#[test]
fn padding_and_several_members_are_sound() {
    let tar = [raw(b"a", EntryType::Regular, b"12345"), vec![0; 1024]].concat();
    let members = [gzip(&tar[..700]), gzip(&tar[700..]), vec![0; 600]].concat();
    let (entries, result) = unpack(&members);
    assert_eq!(result.unwrap().entries, 1);
    assert_eq!(entries[0].1, b"12345");
}

#[test]
fn an_error_of_the_sender_is_not_taken_for_a_damaged_body() {
    struct Cut;
    impl Read for Cut {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed"))
        }
    }
    let body = archive(&[raw(b"a", EntryType::Regular, &[3; 3000])]);
    let cut = Cursor::new(&body[..40]).chain(Cut);
    let error = read(cut, &UploadLimits::default(), &mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, UploadError::Body(_)) && !error.is_final(), "{error:?}");
    assert!(matches!(read(Cut, &UploadLimits::default(), &mut |_, _| Ok(())), Err(UploadError::Body(_))));
}

#[test]
fn the_visitor_may_skip_or_fail() {
    let body = archive(&[raw(b"a", EntryType::Regular, &[1; 5000]), raw(b"b", EntryType::Regular, b"x")]);
    let mut names = Vec::new();
    read(body.as_slice(), &UploadLimits::default(), &mut |entry, content| {
        names.push(entry.lossy_path().into_owned());
        content.read_exact(&mut [0; 1])
    })
    .unwrap();
    assert_eq!(names, ["a", "b"]);
    let full = |_: &Entry, _: &mut dyn Read| Err(io::Error::new(io::ErrorKind::StorageFull, "disk is full"));
    let error = read(body.as_slice(), &UploadLimits::default(), &mut { full }).unwrap_err();
    assert_eq!(error.to_string(), "cannot take `a` of the archive");
    // A visitor that hides a broken content does not hide it from us.
    let cut = gzip(&raw(b"a", EntryType::Regular, &[1; 5000])[..1000]);
    let error = read(cut.as_slice(), &UploadLimits::default(), &mut |_, content| {
        let _ = io::copy(content, &mut io::sink());
        Ok(())
    });
    assert!(matches!(error, Err(UploadError::TruncatedTar { .. })));
}

#[test]
fn the_tar_program_writes_what_we_read() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir_all(root.join("results/sub")).unwrap();
    std::fs::write(root.join("results/sub/a.xml"), "<testsuite/>").unwrap();
    std::fs::write(root.join(format!("results/{}", "n".repeat(200))), "long").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("results/link")).unwrap();
    let sparse = std::fs::File::create(root.join("results/sparse")).unwrap();
    sparse.set_len(300_000).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"data", 200_000).unwrap();
    for format in ["gnu", "posix", "pax"] {
        let output = std::process::Command::new("tar")
            .args(["--create", "--gzip", "--sparse", "--format", format, "."])
            .current_dir(root)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (entries, result) = unpack(&output.stdout);
        result.unwrap();
        let content: BTreeMap<_, _> =
            entries.iter().map(|(entry, content)| (entry.lossy_path().into_owned(), content)).collect();
        assert_eq!(content["results/sub/a.xml"], b"<testsuite/>");
        assert_eq!(content[&format!("results/{}", "n".repeat(200))], b"long");
        let sparse = content["results/sparse"];
        assert_eq!((sparse.len(), &sparse[200_000..200_004]), (300_000, &b"data"[..]), "{format}");
        assert!(entries.iter().any(|(entry, _)| matches!(entry.kind, EntryKind::Symlink { .. })));
    }
}

#[test]
fn the_tar_program_reads_what_we_write() {
    let long = "d".repeat(150);
    let mut writer = UploadWriter::new(Vec::new());
    let modified = Some("2026-05-01T10:00:00Z".parse().unwrap());
    let content = vec![b'x'; 1500];
    writer.file(format!("{long}/file"), FileMetadata { size: 1500, modified }, content.as_slice()).unwrap();
    writer.note("dir", &EntryKind::Directory, modified).unwrap();
    writer.note("link", &EntryKind::Symlink { target: long.clone().into_bytes() }, modified).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("upload.tar.gz");
    std::fs::write(&path, writer.finish().unwrap()).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.arg("--extract").arg("--file").arg(&path).arg("-C").arg(directory.path());
    assert!(tar.status().unwrap().success());
    assert_eq!(std::fs::read(directory.path().join(&long).join("file")).unwrap(), content);
    assert!(directory.path().join("dir").is_dir());
    assert_eq!(std::fs::read_link(directory.path().join("link")).unwrap().to_str(), Some(long.as_str()));
}

proptest! {
    #[test]
    fn any_tree_comes_back(files in prop::collection::btree_map(
        prop::collection::vec(prop::collection::vec(any::<u8>().prop_filter("separator", |b| !matches!(b, 0 | b'/' | b'.' | b'\\')), 1..150), 1..4),
        prop::collection::vec(any::<u8>(), 0..1500), 0..6,
    )) {
        let files: Vec<(Vec<u8>, Vec<u8>)> = files.into_iter().map(|(parts, content)| (parts.join(&b'/'), content)).collect();
        let mut writer = UploadWriter::new(Vec::new());
        for (path, content) in &files {
            writer.bytes(path, content).unwrap();
        }
        let (entries, result) = unpack(&writer.finish().unwrap());
        prop_assert_eq!(result.unwrap().entries, files.len() as u64);
        let read: Vec<_> = entries.into_iter().map(|(entry, content)| (entry.path, content)).collect();
        prop_assert_eq!(read, files);
    }

    #[test]
    fn any_bytes_end_in_a_result(bytes in prop::collection::vec(any::<u8>(), 0..200), zipped in any::<bool>()) {
        let body = if zipped { gzip(&bytes) } else { bytes };
        let _ = unpack(&body);
    }

    #[test]
    fn any_headers_end_in_a_result(
        kinds in prop::collection::vec(prop::sample::select(b"0\x00123456789LKxgSVMDN".to_vec()), 1..5),
        flips in prop::collection::vec((0usize..512, any::<u8>()), 0..4),
        content in prop::sample::select(vec![b"".to_vec(), b"1\n2\n".to_vec(), record("GNU.sparse.major", b"1"), record("size", b"9"), vec![b'7'; 600]]),
    ) {
        let mut tar = Vec::new();
        for kind in kinds {
            let mut part = raw(b"a/b", EntryType::new(kind), &content);
            for (at, byte) in &flips {
                part[*at] = *byte;
            }
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(&part[..512]);
            header.set_cksum();
            part[..512].copy_from_slice(header.as_bytes());
            tar.extend(part);
        }
        let limits = UploadLimits { total: 1 << 20, entry: 1 << 19, ..UploadLimits::default() };
        let (entries, _) = unpack_within(&gzip(&tar), &limits);
        for (entry, content) in entries {
            prop_assert!(content.len() as u64 <= entry.size);
        }
    }
}
