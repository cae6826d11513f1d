//! Large results are read in bounded memory.

use std::io::{self, Read};

use test_results::{CUT_MARK, Limits, junit};

/// A document that is made while it is read.
struct Repeated {
    head: &'static [u8],
    part: Vec<u8>,
    times: u64,
    tail: &'static [u8],
    at: usize,
}

impl Read for Repeated {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let part = match (self.head.is_empty(), self.times) {
            (false, _) => self.head,
            (true, 0) => self.tail,
            (true, _) => &self.part,
        };
        let count = (part.len() - self.at).min(into.len());
        into[..count].copy_from_slice(&part[self.at..self.at + count]);
        self.at += count;
        if self.at == part.len() && count > 0 {
            self.at = 0;
            match (self.head.is_empty(), self.times) {
                (false, _) => self.head = b"",
                (true, 0) => self.tail = b"",
                (true, _) => self.times -= 1,
            }
        }
        Ok(count)
    }
}

/// The most memory that this process has had resident, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const MIB: usize = 1024 * 1024;

fn grows_less_than_16_mib(document: Repeated, expected: u64) -> Option<String> {
    let before = peak();
    let mut output = None;
    let totals = junit::parse(document, &Limits::default(), &mut |case| {
        output = case.output;
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(totals.unwrap().cases, expected);
    let grown = peak() - before;
    assert!(grown < 16 * 1024, "grew by {grown} KiB");
    output
}

#[test]
fn a_hundred_megabytes_of_cases() {
    let trace = "at shop.Cart.pay(Cart.java:17)\n".repeat(30);
    let part = format!(
        "<testcase classname='c' name='n' time='0.1'><failure message='m'>{trace}</failure></testcase>\n"
    );
    let times = (100 * MIB / part.len()) as u64;
    let part = part.into_bytes();
    grows_less_than_16_mib(
        Repeated { head: b"<testsuite>", part, times, tail: b"</testsuite>", at: 0 },
        times,
    );
}

#[test]
fn one_text_of_a_hundred_megabytes() {
    let part = "a line of the log\n".repeat(MIB / 18).into_bytes();
    for (head, tail) in [
        (&b"<testsuite><testcase name='n'><system-out>"[..], &b"</system-out></testcase></testsuite>"[..]),
        (b"<testsuite><testcase name='n'><system-out><![CDATA[", b"]]></system-out></testcase></testsuite>"),
    ] {
        let document = Repeated { head, part: part.clone(), times: 50, tail, at: 0 };
        let output = grows_less_than_16_mib(document, 1).unwrap();
        assert!(output.ends_with(CUT_MARK));
    }
}
