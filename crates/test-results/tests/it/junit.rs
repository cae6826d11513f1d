//! JUnit's XML in the dialects of its writers.

use proptest::prelude::*;
use test_results::{
    CUT_MARK, Case, CaseStatus, Limits, Totals,
    junit::{JunitError, parse},
};

use crate::{gather, gather_within, kind, message, only, statuses, text, told};

fn read(document: &str) -> (Vec<Case>, Result<Totals, JunitError>) {
    gather(|limits, sink| parse(document.as_bytes(), limits, sink))
}

fn whole(document: &str) -> Vec<Case> {
    let (cases, result) = read(document);
    let totals = result.unwrap();
    assert_eq!(totals.cases, cases.len() as u64);
    cases
}

fn in_suite(inside: &str) -> Vec<Case> {
    whole(&format!("<testsuite name='s'>{inside}</testsuite>"))
}

#[test]
fn nested_suites_of_any_depth_give_their_cases() {
    // Upstream found no case below the second level.
    let cases = whole(
        "<testsuites name='all'><testsuites><testsuite name='a'><testsuite name='b'><testsuite name='c'>\
         <testcase name='deep'/></testsuite><testcase name='middle'/></testsuite></testsuite></testsuites>\
         <testsuite><testcase name='plain'/></testsuite></testsuites>",
    );
    assert_eq!(told(&cases), ["all/a/b/c/deep: passed", "all/a/b/middle: passed", "all/plain: passed"]);
}

#[test]
fn a_failure_without_text_is_a_failure() {
    // Upstream counted it as passed.
    let cases = in_suite(
        "<testcase name='1'><failure message='boom'/></testcase><testcase name='2'><failure/></testcase>\
         <testcase name='3'><error message='no host' type='IOError'></error></testcase>",
    );
    assert_eq!(statuses(&cases), [CaseStatus::Failed, CaseStatus::Failed, CaseStatus::Error]);
    assert_eq!((message(&cases[0]), text(&cases[0])), ("boom", ""));
    assert_eq!(cases[1].failure, None);
    assert_eq!(kind(&cases[2]), "IOError");
}

#[test]
fn pytest() {
    let cases = whole(
        r#"<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="2" skipped="2" tests="7" time="0.412"
 timestamp="2026-05-01T10:00:00.123456+00:00" hostname="ci-1"><testcase classname="tests.test_cart.TestCart"
 name="test_total[eur-2]" time="0.003" /><testcase classname="tests.test_cart" name="test_discount" time="0.120">
<failure message="AssertionError: assert 9 == 8&#10; +  where 9 = total([4, 5])">def test_discount():
&gt;       assert total([4, 5]) == 8
E       AssertionError: assert 9 == 8

tests/test_cart.py:12: AssertionError</failure></testcase><testcase classname="tests.test_cart" name="test_db" time="0.001">
<error message="failed on setup with &quot;ConnectionError: db:5432&quot;">@pytest.fixture</error></testcase>
<testcase classname="tests.test_cart" name="test_old" time="0.000"><skipped type="pytest.skip" message="not on arm">
/src/tests/test_cart.py:30: not on arm</skipped></testcase><testcase classname="tests.test_cart" name="test_known" time="0.0">
<skipped type="pytest.xfail" message="bug 12" /></testcase><testcase classname="tests.test_cart" name="test_fixed" time="0.0">
<failure message="[XPASS(strict)] bug 13" /></testcase><testcase classname="tests.test_cart" name="test_log" time="1.0">
<system-out>--------- Captured Log ---------
hello</system-out><system-err>careful</system-err></testcase></testsuite></testsuites>"#,
    );
    use CaseStatus::*;
    assert_eq!(
        statuses(&cases),
        [Passed, Failed, Error, Skipped, ExpectedFailure, UnexpectedSuccess, Passed]
    );
    assert_eq!(told(&cases)[0], "pytest tests/pytest/tests.test_cart.TestCart/test_total[eur-2]: passed");
    assert_eq!(cases[1].seconds, Some(0.12));
    assert_eq!(message(&cases[1]), "AssertionError: assert 9 == 8");
    assert!(text(&cases[1]).starts_with("def test_discount():\n>       assert total([4, 5]) == 8\n"));
    assert_eq!(message(&cases[2]), r#"failed on setup with "ConnectionError: db:5432""#);
    assert_eq!(message(&cases[3]), "not on arm");
    assert_eq!(cases[6].output.as_deref(), Some("--------- Captured Log ---------\nhello\ncareful"));
}

#[test]
fn maven_surefire_with_reruns() {
    let cases = whole(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="https://maven.apache.org/surefire/maven-surefire-plugin/xsd/surefire-test-report-3.0.xsd"
 version="3.0" name="shop.CartTest" time="1,234.5" tests="4" errors="0" skipped="1" failures="1" flakes="1">
  <properties><property name="java.version" value="21"/></properties>
  <testcase name="adds" classname="shop.CartTest" time="1,200.25"/>
  <testcase name="pays" classname="shop.CartTest" time="0.1">
    <failure message="expected: &lt;1&gt; but was: &lt;2&gt;" type="org.opentest4j.AssertionFailedError"><![CDATA[org.opentest4j.AssertionFailedError: expected: <1> but was: <2>
	at shop.CartTest.pays(CartTest.java:20)
]]></failure>
    <rerunFailure message="expected: &lt;1&gt; but was: &lt;3&gt;" type="org.opentest4j.AssertionFailedError">
      <stackTrace><![CDATA[at shop.CartTest.pays(CartTest.java:20)]]></stackTrace>
      <system-out><![CDATA[second try]]></system-out>
    </rerunFailure>
    <system-out><![CDATA[first try]]></system-out>
  </testcase>
  <testcase name="ships" classname="shop.CartTest" time="0.2">
    <flakyFailure message="timeout" type="java.util.concurrent.TimeoutException">
      <stackTrace>at shop.CartTest.ships(CartTest.java:33)</stackTrace>
    </flakyFailure>
  </testcase>
  <testcase name="refunds" classname="shop.CartTest"><skipped message="not yet"/></testcase>
</testsuite>"#,
    );
    use CaseStatus::*;
    assert_eq!(statuses(&cases), [Passed, Failed, Passed, Skipped]);
    assert_eq!(cases[0].seconds, Some(1200.25));
    assert_eq!(kind(&cases[1]), "org.opentest4j.AssertionFailedError");
    assert_eq!(message(&cases[1]), "expected: <1> but was: <2>");
    assert!(text(&cases[1]).ends_with("at shop.CartTest.pays(CartTest.java:20)"));
    let output = cases[1].output.as_deref().unwrap();
    assert!(
        output.contains("first try") && output.contains("second try") && output.contains("[rerunFailure]")
    );
    assert_eq!(cases[2].failure, None);
    let flaky = cases[2].output.as_deref().unwrap();
    assert!(flaky.starts_with("[flakyFailure] java.util.concurrent.TimeoutException timeout\n"), "{flaky}");
    assert!(flaky.contains("CartTest.java:33"));
}

#[test]
fn gotestsum() {
    let cases = whole(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="3" failures="1" errors="0" time="0.512">
	<testsuite tests="3" failures="1" time="0.500000" name="example.org/shop/cart" timestamp="2026-05-01T10:00:00Z">
		<properties><property name="go.version" value="go1.24 linux/amd64"></property></properties>
		<testcase classname="example.org/shop/cart" name="TestAdd/two_items" time="0.000000"></testcase>
		<testcase classname="example.org/shop/cart" name="TestPay" time="0.010000">
			<failure message="Failed" type="">=== RUN   TestPay&#xA;    cart_test.go:9: got 2, want 1&#xA;--- FAIL: TestPay (0.01s)&#xA;</failure>
		</testcase>
		<testcase classname="example.org/shop/cart" name="TestShip" time="0.000000">
			<skipped message="=== RUN   TestShip&#xA;    cart_test.go:20: later"></skipped>
		</testcase>
	</testsuite>
</testsuites>"#,
    );
    assert_eq!(statuses(&cases), [CaseStatus::Passed, CaseStatus::Failed, CaseStatus::Skipped]);
    assert_eq!((message(&cases[1]), kind(&cases[1])), ("Failed", ""));
    assert_eq!(text(&cases[1]).lines().nth(1), Some("    cart_test.go:9: got 2, want 1"));
    assert!(text(&cases[2]).ends_with("later"));
}

#[test]
fn jest_puts_the_message_into_the_text() {
    let case = only(whole(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="jest tests" tests="1" failures="1" errors="0" time="1.5">
  <testsuite name="Cart" errors="0" failures="1" skipped="0" timestamp="2026-05-01T10:00:00" time="0.9" tests="1">
    <testcase classname="Cart totals" name="Cart totals adds up" time="0.004">
      <failure>Error: expect(received).toBe(expected) // Object.is equality

Expected: 8
Received: 9
    at Object.toBe (/src/cart.test.js:5:20)</failure>
    </testcase>
  </testsuite>
</testsuites>"#,
    ));
    assert_eq!(message(&case), "Error: expect(received).toBe(expected) // Object.is equality");
    assert!(text(&case).contains("Received: 9"));
}

#[test]
fn nextest() {
    let cases = whole(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="2" failures="1" errors="0" uuid="1d3c" timestamp="2026-05-01T10:00:00.000+00:00" time="0.2">
    <testsuite name="shop::it" tests="2" disabled="0" errors="0" failures="1">
        <testcase name="cart::adds" classname="shop::it" timestamp="2026-05-01T10:00:00.010+00:00" time="0.012"/>
        <testcase name="cart::pays" classname="shop::it" time="0.020">
            <failure message="thread &apos;cart::pays&apos; panicked at src/cart.rs:3:5" type="test failure with exit code 101">thread panicked</failure>
            <system-out>running 1 test</system-out>
            <system-err>thread panicked</system-err>
        </testcase>
    </testsuite>
</testsuites>"#,
    );
    assert_eq!(statuses(&cases), [CaseStatus::Passed, CaseStatus::Failed]);
    assert_eq!(message(&cases[1]), "thread 'cart::pays' panicked at src/cart.rs:3:5");
}

#[test]
fn googletest_and_ctest_tell_the_status_in_attributes() {
    let cases = in_suite(
        "<testcase name='a' status='run' result='completed' time='0.001' classname='Cart'/>\
         <testcase name='DISABLED_b' status='notrun' result='suppressed' classname='Cart'/>\
         <testcase name='c' status='fail'/><testcase name='d' status='run'><failure message=''/></testcase>",
    );
    use CaseStatus::*;
    assert_eq!(statuses(&cases), [Passed, Skipped, Failed, Failed]);
}

#[test]
fn a_suite_that_could_not_be_set_up_is_a_case_in_error() {
    let cases = in_suite("<error type='NoDb' message='no database'>trace</error><testcase name='t'/>");
    assert_eq!(told(&cases), ["s/s: error", "s/t: passed"]);
    assert_eq!((message(&cases[0]), text(&cases[0])), ("no database", "trace"));
}

#[test]
fn several_faults_of_a_case_are_all_kept_and_the_worst_decides() {
    let case = only(in_suite(
        "<testcase name='t'><failure message='first'>one</failure><error message='second'>two</error>\
         <failure message='third'>three</failure></testcase>",
    ));
    assert_eq!((case.status, message(&case)), (CaseStatus::Error, "second"));
    for part in ["first", "one", "two", "third", "three"] {
        assert!(text(&case).contains(part), "{part} in {:?}", text(&case));
    }
}

#[test]
fn namespaces_entities_and_stray_ampersands_are_read() {
    let case = only(whole(
        "<j:testsuite xmlns:j='urn:x' name='a &amp;&#x20;b'><j:testcase name='x&lt;y&gt; &quot;&apos; &nbsp; a&b &#0;'>\
         <j:failure message='&#xD800;'>1 & 2 &&lt; &copy; &#65;</j:failure></j:testcase></j:testsuite>",
    ));
    assert_eq!(case.suite, ["a & b"]);
    assert_eq!(case.name, "x<y> \"' &nbsp; a&b \u{fffd}");
    assert_eq!((message(&case), text(&case)), ("\u{fffd}", "1 & 2 &< &copy; A"));
}

#[test]
fn control_characters_are_kept_or_replaced_but_not_fatal() {
    let case = only(in_suite("<testcase name='a\u{1}b'><failure>\u{1b}[31mred\u{0}</failure></testcase>"));
    assert_eq!((case.name.as_str(), text(&case)), ("a b", "\u{1b}[31mred\u{fffd}"));
}

#[test]
fn other_encodings_are_decoded() {
    let document = "<testsuite name='é'><testcase name='ü€'/></testsuite>";
    let utf16: Vec<u8> = document.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let latin = b"\n<?xml version='1.0' encoding='windows-1252'?><testsuite name='\xe9'><testcase name='\xfc\x80'/></testsuite>";
    for bytes in [utf16, [b"\xef\xbb\xbf", document.as_bytes()].concat(), latin.to_vec()] {
        let (cases, result) = gather(|limits, sink| parse(bytes.as_slice(), limits, sink));
        result.unwrap();
        assert_eq!(told(&cases), ["é/ü€: passed"]);
    }
}

#[test]
fn a_truncated_document_names_line_and_case_after_the_whole_cases() {
    let document =
        "<testsuite name='s'>\n<testcase name='one'/>\n<testcase name='two'>\n<failure message='x'>tra";
    let (cases, result) = read(document);
    assert_eq!(told(&cases), ["s/one: passed"]);
    let message = "the document ends in line 4 at case `two` before its elements are closed";
    assert_eq!(result.unwrap_err().to_string(), message);
    for cut in 1..document.len() {
        let (cases, result) = read(&document[..cut]);
        assert!(matches!(result, Err(JunitError::Truncated { .. } | JunitError::Empty)), "{cut}: {result:?}");
        assert!(cases.len() <= 1);
    }
}

#[test]
fn what_is_not_junit_says_so() {
    let error = |document: &str| read(document).1.unwrap_err().to_string();
    assert_eq!(error(""), "the document is empty");
    assert_eq!(error(" \n not xml"), "the document is empty");
    assert_eq!(error("<html/>"), "the document begins with <html>, not with <testsuites> or <testsuite>");
    assert_eq!(
        error("<testsuite>\n<testcase name='a'>\n</testsuite>"),
        "the document is not well-formed in line 3 at case `a`"
    );
    let bomb =
        "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><testsuite><testcase name='&b;'/></testsuite>";
    let error = read(bomb).1.unwrap_err();
    assert!(matches!(error, JunitError::Refused { line: 1, .. }), "{error:?}");
}

#[test]
fn limits_hold() {
    let limits = Limits { text: 10, name: 5, cases: 2, depth: 4, ..Limits::default() };
    let read =
        |document: &str| gather_within(&limits, |limits, sink| parse(document.as_bytes(), limits, sink));
    let case = "<testcase name='abcdefgh'><failure message='0123456789ab'>0123456789é</failure>\
                <system-out><![CDATA[0123456789a]]></system-out></testcase>";
    let (cases, result) = read(&format!("<testsuite>{case}{case}</testsuite>"));
    assert_eq!(result.unwrap().failed, 2);
    assert_eq!(cases[0].name, format!("abcde{CUT_MARK}"));
    assert_eq!(message(&cases[0]), format!("0123456789{CUT_MARK}"));
    assert_eq!(text(&cases[0]), format!("0123456789{CUT_MARK}"));
    assert_eq!(cases[0].output, Some(format!("0123456789{CUT_MARK}")));

    let (cases, result) =
        read("<testsuite><testcase name='1'/><testcase name='2'/><testcase name='3'/></testsuite>");
    assert_eq!(cases.len(), 2);
    assert!(matches!(result, Err(JunitError::TooManyCases { limit: 2 })));
    let (_, result) = read(&"<testsuite>".repeat(5));
    assert!(matches!(result, Err(JunitError::TooDeep { limit: 4, .. })));
}

#[test]
fn the_receiver_can_stop_the_reading() {
    let document = "<testsuite><testcase name='1'/><testcase name='2'/><broken";
    let totals =
        parse(document.as_bytes(), &Limits::default(), &mut |_| std::ops::ControlFlow::Break(())).unwrap();
    assert_eq!(totals.cases, 1);
}

fn element() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "<testsuite name='a'>",
        "</testsuite>",
        "<testsuites>",
        "</testsuites>",
        "<testcase name='t' time='1'>",
        "<testcase",
        "</testcase>",
        "<failure message='m'>",
        "</failure>",
        "<failure/>",
        "<error>",
        "</error>",
        "<skipped/>",
        "<system-out>",
        "</system-out>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "&amp;",
        "&#0;",
        "&",
        "<",
        ">",
        "'",
        "\"",
        "\0",
        "é",
        "\n",
        "<flakyFailure>",
        "</flakyFailure>",
        "<?xml encoding='x'?>",
        "<!DOCTYPE x>",
        "some text",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_result(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = gather(|limits, sink| parse(bytes.as_slice(), limits, sink));
    }

    #[test]
    fn any_markup_ends_in_bounded_cases(document in element()) {
        let limits = Limits { text: 16, name: 8, ..Limits::default() };
        let (cases, _) = gather_within(&limits, |limits, sink| parse(document.as_bytes(), limits, sink));
        for case in cases {
            prop_assert!(case.name.len() <= 8 + CUT_MARK.len());
            prop_assert!(text(&case).len() <= 16 + CUT_MARK.len());
            prop_assert!(case.output.is_none_or(|output| output.len() <= 16 + CUT_MARK.len()));
        }
    }

    #[test]
    fn what_is_escaped_comes_back(name in "[ -~é€]{1,40}", trace in "[ -~\n]{0,80}") {
        let document = format!(
            "<testsuite><testcase name=\"{}\"><failure>{}</failure></testcase></testsuite>",
            quick_xml::escape::escape(name.as_str()), quick_xml::escape::escape(trace.as_str()),
        );
        let case = only(whole(&document));
        prop_assert_eq!(&case.name, name.trim());
        prop_assert_eq!(text(&case).trim(), trace.trim());
    }
}
