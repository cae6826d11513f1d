//! Subunit as Python's test runners write it, and as it arrives when something breaks.

use proptest::prelude::*;
use subunit::types::{
    event::{Event, EventBuilder},
    teststatus::TestStatus::{self, *},
    timestamp::Timestamp,
};
use test_results::{
    CUT_MARK, Case, CaseStatus, Limits, Totals,
    subunit::{SubunitError, parse},
};

use crate::{gather, gather_within, kind, message, only, statuses, text, told};

fn read(stream: &[u8]) -> (Vec<Case>, Result<Totals, SubunitError>) {
    gather(|limits, sink| parse(stream, limits, sink))
}

fn whole(stream: &[u8]) -> Vec<Case> {
    let (cases, result) = read(stream);
    assert_eq!(result.unwrap().cases, cases.len() as u64);
    cases
}

fn bytes(event: EventBuilder) -> Vec<u8> {
    event.build().to_vec().unwrap()
}

fn event(id: &str, status: TestStatus) -> Vec<u8> {
    bytes(Event::new(status).test_id(id))
}

fn at(id: &str, status: TestStatus, seconds: u32, nanoseconds: u32) -> Vec<u8> {
    let mut event = Event::new(status).test_id(id).build();
    event.timestamp = Some(Timestamp { seconds, nanoseconds: nanoseconds.try_into().unwrap() });
    event.to_vec().unwrap()
}

fn file(id: &str, name: &str, mime: &str, content: &[u8]) -> Vec<u8> {
    bytes(Event::new(Undefined).test_id(id).mime_type(mime).file_content(name, content))
}

const TEXT: &str = "text/plain;charset=\"utf8\"";

#[test]
fn stestr() {
    let stream = [
        event("shop.test_cart.TestCart.test_add", Enumeration),
        at("shop.test_cart.TestCart.test_add", InProgress, 1_700_000_000, 500_000_000),
        at("shop.test_cart.TestCart.test_add", Success, 1_700_000_002, 0),
        event("shop.test_cart.TestCart.test_pay[id-7,smoke]", InProgress),
        file("shop.test_cart.TestCart.test_pay[id-7,smoke]", "pythonlogging:''", TEXT, "log é".as_bytes()),
        file(
            "shop.test_cart.TestCart.test_pay[id-7,smoke]",
            "traceback",
            "text/x-traceback",
            b"Traceback (most recent call last):\n  File \"t.py\"",
        ),
        file(
            "shop.test_cart.TestCart.test_pay[id-7,smoke]",
            "traceback",
            "text/x-traceback",
            b", line 3\ntesttools.matchers._impl.MismatchError: 1 != 2\n",
        ),
        file("shop.test_cart.TestCart.test_pay[id-7,smoke]", "screen", "image/png", &[0x89; 90]),
        event("shop.test_cart.TestCart.test_pay[id-7,smoke]", Failed),
        file("setUpClass (shop.Db)", "reason", TEXT, b"no database"),
        event("setUpClass (shop.Db)", Skipped),
        event("known", ExpectedFailure),
        event("fixed", UnexpectedSuccess),
    ];
    let cases = whole(&stream.concat());
    assert_eq!(
        told(&cases),
        [
            "shop.test_cart.TestCart/test_add: passed",
            "shop.test_cart.TestCart/test_pay[id-7,smoke]: failed",
            "shop.Db/setUpClass: skipped",
            "known: expected-failure",
            "fixed: unexpected-success",
        ]
    );
    assert_eq!(cases[0].seconds, Some(1.5));
    assert_eq!(message(&cases[1]), "testtools.matchers._impl.MismatchError: 1 != 2");
    assert_eq!(kind(&cases[1]), "testtools.matchers._impl.MismatchError");
    assert!(text(&cases[1]).contains("File \"t.py\", line 3"));
    let output = cases[1].output.as_deref().unwrap();
    assert_eq!(output, "pythonlogging:'':\nlog é\nscreen:\n(90 bytes that are not text)");
    assert_eq!(message(&cases[2]), "no database");
}

#[test]
fn what_is_printed_between_packets_is_passed_over() {
    let stream = [
        b"starting ... \xb3\xb3x caf\xc3\xb3 ".to_vec(),
        event("a", InProgress),
        "cómo? más\n".repeat(100).into_bytes(),
        event("a", Success),
        b"\xc3".to_vec(),
        event("b", Success),
        b"\xff\xb3".to_vec(),
    ];
    assert_eq!(told(&whole(&stream.concat())), ["a: passed", "b: passed"]);
}

#[test]
fn a_test_that_never_ended_is_an_error() {
    let stream = [event("hangs", InProgress), event("b", InProgress), event("b", Success)];
    let cases = whole(&stream.concat());
    assert_eq!(told(&cases), ["b: passed", "hangs: error"]);
    assert_eq!(message(&cases[1]), "the test started and never ended");
}

#[test]
fn the_same_id_from_two_workers_is_two_tests() {
    let on = |route: &str, status| bytes(Event::new(status).test_id("t").route_code(route));
    let cases =
        whole(&[on("0", InProgress), on("1", InProgress), on("1", Failed), on("0", Success)].concat());
    assert_eq!(statuses(&cases), [CaseStatus::Failed, CaseStatus::Passed]);
}

#[test]
fn a_damaged_packet_is_an_error_and_the_rest_is_read() {
    let mut damaged = event("lost", Failed);
    damaged[5] ^= 1;
    let cases = whole(&[event("a", Success), damaged, event("b", Success)].concat());
    assert_eq!(told(&cases), ["a: passed", "subunit: error", "b: passed"]);
    assert!(message(&cases[1]).starts_with("the packet at byte 10 is damaged"), "{}", message(&cases[1]));
}

#[test]
fn a_truncated_stream_says_so_after_the_whole_cases() {
    let first = [event("a", Success), event("b", InProgress)].concat();
    let last = file("b", "traceback", TEXT, &[b'x'; 5000]);
    for cut in 4..last.len() {
        let (cases, result) = read(&[&first, &last[..cut]].concat());
        assert_eq!(told(&cases), ["a: passed", "b: error"]);
        assert!(
            matches!(result, Err(SubunitError::Truncated { at }) if at == first.len() as u64),
            "{cut}: {result:?}"
        );
    }
}

#[test]
fn an_attachment_may_split_characters() {
    let text = "é€𝄞".as_bytes();
    let mut stream = event("t", InProgress);
    for byte in text {
        stream.extend(file("t", "log", TEXT, &[*byte]));
    }
    stream.extend(event("t", Success));
    assert_eq!(only(whole(&stream)).output.as_deref(), Some("log:\né€𝄞"));
}

#[test]
fn version_one_is_read_too() {
    let stream = "noise before\ntime: 2026-05-01 10:00:00.000000Z\ntest: shop.T.a\ntime: 2026-05-01 10:00:01.250000Z\n\
        success: shop.T.a\ntags: slow\ntest: shop.T.b\nprinted\nfailure: shop.T.b [\nTraceback\n ]\nValueError: no\n]\n\
        test: shop.T.c\nskip: shop.T.c [\nnot here\n]\ntest: shop.T.d\nerror: shop.T.d [ multipart\n\
        Content-Type: text/plain;charset=utf8\nlog\n4\r\nab\ncC\r\n]\ndefghijklm0\r\n\
        Content-Type: text/x-traceback\ntraceback\nD\r\nOSError: diskF\r\n\n/var is full.\n0\r\n]\n\
        test: shop.T.e\nxfail: shop.T.e\ntest: shop.T.f\n";
    let cases = whole(stream.as_bytes());
    use CaseStatus::*;
    assert_eq!(statuses(&cases), [Passed, Failed, Skipped, Error, ExpectedFailure, Error]);
    assert_eq!((cases[0].class.as_deref(), cases[0].name.as_str()), (Some("shop.T"), "a"));
    assert_eq!(cases[0].seconds, Some(1.25));
    assert_eq!(text(&cases[1]), "Traceback\n]\nValueError: no");
    assert_eq!((message(&cases[1]), kind(&cases[1])), ("ValueError: no", "ValueError"));
    assert_eq!(message(&cases[2]), "not here");
    assert_eq!(cases[3].output.as_deref(), Some("log:\nab\nc]\ndefghijklm"));
    assert_eq!(text(&cases[3]), "OSError: disk\n/var is full.");
    assert_eq!(message(&cases[5]), "the test started and never ended");
}

#[test]
fn truncated_details_of_version_one_say_so() {
    let (cases, result) = read(b"test: a\nsuccess: a\ntest: b\nfailure: b [\nTrace");
    assert_eq!(told(&cases), ["a: passed", "b: failed"]);
    assert_eq!(result.unwrap_err().to_string(), "the stream ends in line 5, inside the details of test `b`");
}

#[test]
fn what_is_not_subunit_says_so() {
    for stream in [&b""[..], b"hello\n", &[0xb3; 100], b"error: something happened\n"] {
        assert!(matches!(read(stream).1, Err(SubunitError::NotSubunit)), "{stream:?}");
    }
}

#[test]
fn limits_hold() {
    let limits = Limits { text: 8, name: 10, cases: 2, open: 2, ..Limits::default() };
    let read = |stream: &[u8]| gather_within(&limits, |limits, sink| parse(stream, limits, sink));
    let (cases, _) = read(
        &[file("abcdefghijkl", "traceback", TEXT, &[b'x'; 100]), event("abcdefghijkl", Failed)].concat(),
    );
    assert_eq!(
        (cases[0].name.clone(), text(&cases[0])),
        (format!("abcdefghij{CUT_MARK}"), &*format!("xxxxxxxx{CUT_MARK}"))
    );
    let open: Vec<u8> = ["a", "b", "c"].iter().flat_map(|id| event(id, InProgress)).collect();
    assert!(matches!(read(&open).1, Err(SubunitError::TooManyOpen { open: 2 })));
    let done: Vec<u8> = ["a", "b", "c"].iter().flat_map(|id| event(id, Success)).collect();
    assert!(matches!(read(&done).1, Err(SubunitError::TooManyCases { limit: 2 })));
    let mut damaged = event("a", Success);
    damaged[4] ^= 1;
    let limits = Limits::default();
    let (cases, result) = gather_within(&limits, |limits, sink| parse(&*damaged.repeat(200), limits, sink));
    assert_eq!(cases.len(), 100);
    assert!(matches!(result, Err(SubunitError::Damaged { .. })));
}

#[test]
fn the_receiver_can_stop_the_reading() {
    let stream = [event("a", Success), event("b", Success)].concat();
    let totals = parse(&*stream, &Limits::default(), &mut |_| std::ops::ControlFlow::Break(())).unwrap();
    assert_eq!(totals.cases, 1);
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_result(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }

    #[test]
    fn packets_survive_any_noise_without_their_signature(
        noise in prop::collection::vec(any::<u8>().prop_filter("signature", |b| *b != 0xb3), 0..60),
        ids in prop::collection::vec("[a-z]{1,8}", 1..8),
    ) {
        let mut stream = noise.clone();
        for id in &ids {
            stream.extend(event(id, Success));
            stream.extend(&noise);
        }
        let cases = whole(&stream);
        prop_assert_eq!(cases.into_iter().map(|case| case.name).collect::<Vec<_>>(), ids);
    }

    #[test]
    fn flipped_bits_end_in_a_result(at in 0usize..1000, bit in 0u8..8) {
        let mut stream = [event("a", InProgress), file("a", "log", TEXT, b"some text"), event("a", Failed), event("b", Success)].concat();
        let at = at % stream.len();
        stream[at] ^= 1 << bit;
        let _ = read(&stream);
    }

    #[test]
    fn any_lines_of_version_one_end_in_a_result(lines in prop::collection::vec(prop::sample::select(vec![
        "test: a", "success: a", "failure: a [", "error: b [ multipart", "Content-Type: text/plain", "log", "3\r", "ab", "0\r",
        "]", " ]", "time: x", "FFFFFFFFFFFFFFFF", "noise",
    ]), 0..30)) {
        let _ = read(format!("test: z\nsuccess: z\n{}", lines.join("\n")).as_bytes());
    }
}
