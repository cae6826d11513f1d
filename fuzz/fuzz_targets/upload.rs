//! Any body of an upload ends in entries within their limits that lead nowhere outside. The first byte chooses: the body
//! itself, a tar that is still to be compressed (which gets further), or the JSON form.
#![no_main]

use std::io::{Read, Write};

use test_results::{
    Limits,
    upload::{Entry, JsonResult, UploadLimits, read},
};

const LIMITS: UploadLimits = UploadLimits {
    entries: 100,
    entry: 1 << 16,
    total: 1 << 18,
    ratio: 100,
    ratio_after: 1 << 16,
    path_length: 256,
    path_depth: 8,
    metadata: 1 << 13,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, input)) = input.split_first() else { return };
    match choice % 3 {
        0 => unpack(input),
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(input).expect("memory takes everything");
            unpack(&encoder.finish().expect("memory takes everything"));
        }
        _ => {
            if let Ok(result) = serde_json::from_slice::<JsonResult>(input) {
                let limits = Limits { cases: 10, ..Limits::default() };
                assert!(result.cases(&limits).count() <= 10);
                let _ = result.query().to_pairs();
            }
        }
    }
});

fn unpack(body: &[u8]) {
    let mut entries = 0;
    let result = read(body, &LIMITS, &mut |entry, content| {
        entries += 1;
        check(entry);
        let mut taken = Vec::new();
        let read = content.read_to_end(&mut taken);
        assert!(taken.len() as u64 <= entry.size);
        if read.is_ok() {
            assert_eq!(taken.len() as u64, entry.size);
        }
        Ok(())
    });
    assert!(entries <= LIMITS.entries);
    if let Ok(summary) = result {
        assert_eq!(summary.entries, entries);
        assert!(summary.unpacked <= LIMITS.total);
    }
}

fn check(entry: &Entry) {
    assert!(!entry.path.is_empty() && entry.path.len() <= LIMITS.path_length && entry.size <= LIMITS.entry);
    assert!(entry.path[0] != b'/' && !entry.path.contains(&0));
    assert!(entry.path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b"..")));
    assert!(!entry.lossy_path().chars().any(char::is_control));
}
