//! Reads the Test Anything Protocol, versions 12 to 14 (<https://testanything.org>), as prove, bats, node:test, node-tap and
//! pytest-tap write it. Streams: one case per level of subtests is kept, until what belongs to it has been seen.
//!
//! A stream without a plan, with fewer tests than planned, with more, or that bails out, delivers cases that say so: none of
//! them passes in silence. Subtests are cases in a suite of their name; the test that sums them up is a case of
//! its own only if it says something that they did not. Since nothing waits for the summing test, a failed
//! subtest counts as failed even if the test around it is marked TODO.

mod line;

use std::io;

use crate::{
    Case, CaseStatus, Limits, Sink, Totals,
    bounded::{self, Delivery, Lines, Refused, Text},
};

use self::line::{Directive, Word};

/// Missing tests of a plan that are delivered one by one; the others are summed up in one case.
const MISSING: u64 = 100;

/// A stream that is not TAP, or goes beyond a limit. Cases before the fault have been delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// Not one line is TAP.
    #[error("none of the {lines} lines is of the Test Anything Protocol")]
    NotTap {
        /// How many were read.
        lines: u64,
    },
    /// Subtests are nested too deeply.
    #[error("more than {limit} subtests are inside each other in line {line}")]
    TooDeep {
        /// The line, from 1.
        line: u64,
        /// The limit.
        limit: usize,
    },
    /// It has too many cases.
    #[error("the stream has more than {limit} cases")]
    TooManyCases {
        /// The limit.
        limit: u64,
    },
    /// It could not be read.
    #[error("the stream cannot be read after line {line}")]
    Read {
        /// The line, from 1.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads a stream and hands each case to `sink`. Returns the counts of what was delivered.
pub fn parse(reader: impl io::BufRead, limits: &Limits, sink: &mut Sink<'_>) -> Result<Totals, TapError> {
    let mut lines = Lines::new(reader, limits.text + limits.name + 4 * limits.depth);
    let mut stream = Stream {
        limits,
        delivery: Delivery::new(limits, sink),
        levels: vec![Level::default()],
        subtest: None,
        noise: Text::default(),
        yaml: None,
        any: false,
        bailed: false,
    };
    while !stream.bailed {
        let line = lines.next().map_err(|source| TapError::Read { line: lines.number, source })?;
        let step = match &line {
            Some(line) => stream.line(line),
            None => break,
        };
        if let Err(stop) = step {
            return stream.stopped(stop, lines.number);
        }
    }
    if !stream.any {
        return Err(TapError::NotTap { lines: lines.number });
    }
    match stream.close_to(0) {
        Ok(()) => Ok(stream.delivery.totals),
        Err(stop) => stream.stopped(stop, lines.number),
    }
}

enum Stop {
    Refused(Refused),
    TooDeep,
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// A stream or a subtest in it.
#[derive(Default)]
struct Level {
    name: Option<String>,
    plan: Option<u64>,
    seen: u64,
    /// The last test, until what belongs to it has been seen.
    pending: Option<Pending>,
    /// What was delivered here and below.
    told: Told,
    /// What was delivered below since the last test here.
    below: Told,
}

/// Counts of delivered cases.
#[derive(Clone, Copy, Default)]
struct Told {
    cases: u64,
    failed: u64,
}

impl Told {
    fn add(&mut self, more: Self) {
        self.cases += more.cases;
        self.failed += more.failed;
    }
}

struct Pending {
    case: Case,
    /// Its subtest follows in braces.
    opens: bool,
    reason: Option<String>,
    message: Option<String>,
    kind: Option<String>,
    yaml: Text,
    output: Text,
    /// What its subtest said.
    below: Told,
}

struct Yaml {
    indent: usize,
    /// Where keys begin; deeper lines belong to the value above.
    keys: Option<usize>,
    /// The value above is the message, in a block.
    in_message: bool,
}

struct Stream<'a, 'b> {
    limits: &'a Limits,
    delivery: Delivery<'a, 'b>,
    levels: Vec<Level>,
    /// The name in the last `# Subtest:` line.
    subtest: Option<String>,
    /// Lines that are not TAP, before the test that they belong to.
    noise: Text,
    yaml: Option<Yaml>,
    any: bool,
    bailed: bool,
}

impl Stream<'_, '_> {
    fn line(&mut self, line: &str) -> Result<(), Stop> {
        if self.yaml(line) {
            return Ok(());
        }
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        let word = line::read(content);
        let depth = match &word {
            // Other text may be indented as it likes; a subtest's name may stand at the level above.
            Word::Other | Word::Comment(_) => None,
            _ if !indent.is_multiple_of(4) => None,
            Word::Subtest(name) => return self.announce(name, indent / 4),
            _ => Some(indent / 4),
        };
        let Some(depth) = depth else {
            self.other(line, &word);
            return Ok(());
        };
        self.enter(depth)?;
        self.any = true;
        match word {
            Word::Plan { last, skip } => self.plan(last, skip)?,
            Word::Test { ok, number, description, directive, opens } => {
                self.test(ok, number, &description, &directive, opens)?;
            }
            Word::BailOut(reason) => self.bail_out(reason)?,
            Word::Version
            | Word::Pragma
            | Word::Close
            | Word::Subtest(_)
            | Word::Comment(_)
            | Word::Other => {}
        }
        Ok(())
    }

    /// A subtest's name stands at the level of its tests, or at the level above: either way, before its first line.
    fn announce(&mut self, name: &str, depth: usize) -> Result<(), Stop> {
        self.close_to(depth + 1)?;
        if depth >= self.levels.len() && self.subtest.is_some() {
            self.open()?;
        }
        self.subtest = Some(bounded::name(name, self.limits));
        Ok(())
    }

    /// Makes `depth` the innermost level.
    fn enter(&mut self, depth: usize) -> Result<(), Stop> {
        self.close_to(depth + 1)?;
        while self.levels.len() <= depth {
            self.open()?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Stop> {
        if self.levels.len() >= self.limits.depth {
            return Err(Stop::TooDeep);
        }
        if self.levels.last().and_then(|level| level.pending.as_ref()).is_some_and(|pending| !pending.opens) {
            self.flush()?;
        }
        // Each case repeats the names of its subtests, so all of them together are kept short.
        let used: usize = self.levels.iter().filter_map(|level| level.name.as_ref()).map(String::len).sum();
        let room = (4 * self.limits.name).saturating_sub(used);
        let short = |name: String| name[..bounded::floor_char_boundary(&name, room)].to_owned();
        self.levels.push(Level { name: self.subtest.take().map(short), ..Level::default() });
        Ok(())
    }

    /// Ends the levels from `depth` on; with 0, the stream.
    fn close_to(&mut self, depth: usize) -> Result<(), Stop> {
        while self.levels.len() > depth {
            self.flush()?;
            let Some(level) = self.levels.last() else { break };
            let (plan, seen) = (level.plan, level.seen);
            match plan {
                // A bail-out has said why tests are missing.
                _ if self.bailed => {}
                None if seen > 0 || self.levels.len() == 1 => {
                    self.fault("(plan)", "there is no plan: the output may have been cut")?;
                }
                Some(plan) if seen > plan => {
                    self.fault("(plan)", &format!("{plan} tests were planned, but {seen} were run"))?;
                }
                Some(plan) => self.missing(seen, plan)?,
                None => {}
            }
            let ended = self.levels.pop().unwrap_or_default();
            if let Some(above) = self.levels.last_mut() {
                above.told.add(ended.told);
                match above.pending.as_mut().filter(|pending| pending.opens) {
                    Some(pending) => pending.below.add(ended.told),
                    None => above.below.add(ended.told),
                }
            }
        }
        Ok(())
    }

    fn missing(&mut self, seen: u64, plan: u64) -> Result<(), Stop> {
        let told = (plan - seen).min(MISSING);
        for number in seen + 1..=seen + told {
            let name = format!("test {number}");
            let message = format!("{plan} tests were planned, this one was not run");
            let case = bounded::fault(self.suite(), &name, &message, self.limits);
            self.deliver(Case { status: CaseStatus::Failed, ..case })?;
        }
        if seen + told < plan {
            let rest = plan - seen - told;
            let message = format!("{plan} tests were planned, {rest} more were not run");
            let case = bounded::fault(self.suite(), "(missing tests)", &message, self.limits);
            self.deliver(Case { status: CaseStatus::Failed, ..case })?;
        }
        Ok(())
    }

    fn plan(&mut self, last: u64, skip: Option<&str>) -> Result<(), Stop> {
        if let Some(level) = self.levels.last_mut() {
            level.plan = Some(last);
        }
        if last == 0 && self.levels.len() == 1 {
            // Nothing else tells that the file was skipped.
            let reason = skip.unwrap_or("no tests were planned");
            let case = bounded::fault(self.suite(), "(all)", reason, self.limits);
            self.deliver(Case { status: CaseStatus::Skipped, ..case })?;
        }
        Ok(())
    }

    fn test(
        &mut self,
        ok: bool,
        number: Option<u64>,
        description: &str,
        directive: &Directive<'_>,
        opens: bool,
    ) -> Result<(), Stop> {
        self.flush()?;
        let suite = self.suite();
        let noise = std::mem::take(&mut self.noise);
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        level.seen = level.seen.saturating_add(1);
        let number = number.unwrap_or(level.seen);
        let mut name = bounded::name(description, self.limits);
        if name.is_empty() {
            name = format!("test {number}");
        }
        let (status, reason, seconds) = match *directive {
            Directive::Skip(reason) => (CaseStatus::Skipped, Some(reason), None),
            // A test that passes although it is still to do is a bonus, which fails nothing.
            Directive::Todo(reason) if ok => (CaseStatus::Passed, Some(reason), None),
            Directive::Todo(reason) => (CaseStatus::ExpectedFailure, Some(reason), None),
            Directive::Time(seconds) => (passed(ok), None, Some(seconds)),
            Directive::None => (passed(ok), None, None),
        };
        let case = Case { suite, class: None, name, status, seconds, failure: None, output: None };
        let mut kept = Text::default();
        kept.push(reason.unwrap_or_default(), self.limits.text);
        level.pending = Some(Pending {
            case,
            opens,
            reason: kept.finish(),
            message: None,
            kind: None,
            yaml: Text::default(),
            output: noise,
            below: std::mem::take(&mut level.below),
        });
        // Node-tap's buffered subtests: `ok 1 - name {`, then the subtest, then `}`. Else, what was announced is over.
        self.subtest = level.pending.as_ref().filter(|_| opens).map(|pending| pending.case.name.clone());
        Ok(())
    }

    fn bail_out(&mut self, reason: &str) -> Result<(), Stop> {
        self.flush()?;
        let reason = if reason.is_empty() { "the tests bailed out" } else { reason };
        self.fault("Bail out!", reason)?;
        self.bailed = true;
        Ok(())
    }

    /// Takes a line of a YAML block. False if it is not one.
    fn yaml(&mut self, line: &str) -> bool {
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        let limit = self.limits.text;
        let Some(pending) = self.levels.last_mut().and_then(|level| level.pending.as_mut()) else {
            return false;
        };
        match &mut self.yaml {
            None if content.trim_end() == "---" && indent > 0 => {
                self.yaml = Some(Yaml { indent, keys: None, in_message: false });
                true
            }
            None => false,
            Some(yaml) if content.trim_end() == "..." && indent == yaml.indent => {
                self.yaml = None;
                true
            }
            // The block was not closed: go on with the stream.
            Some(yaml) if indent < yaml.indent && !content.is_empty() => {
                self.yaml = None;
                false
            }
            Some(yaml) => {
                if indent == *yaml.keys.get_or_insert(indent) {
                    yaml.in_message = pending.member(content, self.limits);
                } else if yaml.in_message && pending.message.is_none() && !content.trim().is_empty() {
                    pending.message = Some(content.trim().to_owned());
                }
                pending.yaml.push_line(line.get(yaml.indent..).unwrap_or_default(), limit);
                true
            }
        }
    }

    /// A comment belongs to the test before it, other text to the test after it.
    fn other(&mut self, line: &str, word: &Word<'_>) {
        let limit = self.limits.text;
        let pending = self.levels.last_mut().and_then(|level| level.pending.as_mut());
        match (word, pending) {
            (Word::Comment(comment), Some(pending)) => pending.output.push_line(comment, limit),
            (Word::Comment(_), None) => {}
            _ => self.noise.push_line(line, limit),
        }
    }

    /// Delivers the last test of the innermost level.
    fn flush(&mut self) -> Result<(), Stop> {
        self.yaml = None;
        let Some(pending) = self.levels.last_mut().and_then(|level| level.pending.take()) else {
            return Ok(());
        };
        let Told { cases, failed } = pending.below;
        let says_the_same = match pending.case.status {
            CaseStatus::Passed => failed == 0,
            CaseStatus::Failed => failed > 0,
            _ => false,
        };
        if cases > 0 && says_the_same {
            return Ok(());
        }
        let case = pending.finish(self.limits.text);
        self.deliver(case)
    }

    fn fault(&mut self, name: &str, message: &str) -> Result<(), Stop> {
        let case = bounded::fault(self.suite(), name, message, self.limits);
        self.deliver(case)
    }

    fn deliver(&mut self, case: Case) -> Result<(), Stop> {
        if let Some(level) = self.levels.last_mut() {
            level.told.add(Told { cases: 1, failed: u64::from(case.status.is_failure()) });
        }
        Ok(self.delivery.deliver(case)?)
    }

    fn suite(&self) -> Vec<String> {
        let unnamed = || "subtest".to_owned();
        self.levels.iter().skip(1).map(|level| level.name.clone().unwrap_or_else(unnamed)).collect()
    }

    fn stopped(&self, stop: Stop, line: u64) -> Result<Totals, TapError> {
        match stop {
            Stop::Refused(Refused::Stopped) => Ok(self.delivery.totals),
            Stop::Refused(Refused::TooMany) => Err(TapError::TooManyCases { limit: self.limits.cases }),
            Stop::TooDeep => Err(TapError::TooDeep { line, limit: self.limits.depth }),
        }
    }
}

impl Pending {
    /// Takes a member of the YAML block. True if its value is the message and follows in a block.
    fn member(&mut self, line: &str, limits: &Limits) -> bool {
        let Some((key, value)) = line.split_once(':') else { return false };
        let value = value.trim();
        let bare = || value.trim_matches(['"', '\'']).to_owned();
        match key {
            "message" | "error" if value.starts_with(['|', '>']) => return self.message.is_none(),
            "message" | "error" if self.message.is_none() && !value.is_empty() => self.message = Some(bare()),
            "name" | "type" if self.kind.is_none() && !value.is_empty() => {
                self.kind = Some(bounded::name(&bare(), limits))
            }
            "duration_ms" => {
                self.case.seconds = bounded::seconds(value).map(|milliseconds| milliseconds / 1000.0);
            }
            _ => {}
        }
        false
    }

    fn finish(mut self, limit: usize) -> Case {
        if self.case.status == CaseStatus::Passed {
            if let Some(reason) = &self.reason {
                self.output.push_line(&format!("TODO: {reason}"), limit);
            }
        } else {
            let mut message = Text::default();
            message.push(self.message.or(self.reason).unwrap_or_default().as_str(), limit);
            self.case.failure = bounded::failure(message.finish(), self.kind, self.yaml.finish());
        }
        self.case.output = self.output.finish();
        self.case
    }
}

fn passed(ok: bool) -> CaseStatus {
    if ok { CaseStatus::Passed } else { CaseStatus::Failed }
}
