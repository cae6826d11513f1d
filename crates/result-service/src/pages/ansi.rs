//! Turns what a program wrote to a terminal into HTML: colours become classes, everything else becomes text.
//! Pure, linear in its input; emits no markup but its own `<span>` and `<a>` and never an attribute made of input.
//!
//! Colours of the 256-colour and true-colour palettes are mapped to the nearest of sixteen, for which the
//! stylesheet has readable shades in light and dark. A carriage return starts the line again, so progress bars
//! leave only their last state, as they do on a terminal.

use std::fmt::Write as _;

/// HTML that was made here and may be put on a page as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl askama::filters::HtmlSafe for Html {}

impl std::fmt::Display for Html {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Renders text without line numbers, for failure texts and the output of one case.
pub(super) fn text(bytes: &[u8]) -> Html {
    let mut html = String::with_capacity(bytes.len() + bytes.len() / 8);
    let mut pen = Pen::default();
    for (index, line) in lines(&String::from_utf8_lossy(bytes)).enumerate() {
        if index > 0 {
            html.push('\n');
        }
        pen.write_line(line, &mut html);
    }
    Html(html)
}

/// Renders lines that can be linked to: line 7 of the panel `stdout` has the id `stdout-7`. Numbering starts
/// at `first`.
pub(super) fn numbered(bytes: &[u8], panel: &'static str, first: u64) -> Html {
    let mut html = String::with_capacity(bytes.len() * 2);
    let mut pen = Pen::default();
    for (number, line) in (first..).zip(lines(&String::from_utf8_lossy(bytes))) {
        let _ = write!(
            html,
            r##"<span class="line" id="{panel}-{number}"><a href="#{panel}-{number}" tabindex="-1" data-n="{number}"></a>"##
        );
        pen.write_line(line, &mut html);
        // Lines are blocks: no line end is needed between them.
        html.push_str("</span>");
    }
    Html(html)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}

/// How the following characters look. Carries over line ends, as on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pen {
    foreground: Option<u8>,
    background: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    strike: bool,
    inverse: bool,
}

impl Pen {
    fn write_line(&mut self, line: &str, html: &mut String) {
        // All but the last pass over the line are overwritten; their colours stay switched on.
        let shown = match line.rfind('\r') {
            Some(end) => {
                let mut overwritten = String::new();
                self.write(&line[..end], &mut overwritten);
                &line[end + 1..]
            }
            None => line,
        };
        self.write(shown, html);
    }

    fn write(&mut self, mut rest: &str, html: &mut String) {
        let mut open = false;
        // A span is opened only when there is a character to put into it.
        let mut drawn = Self::default();
        while let Some(character) = rest.chars().next() {
            if character == '\u{1b}' || character == '\u{9b}' {
                let sequence = Sequence::read(rest);
                rest = &rest[sequence.length..];
                if let Some(parameters) = sequence.colours {
                    self.apply(parameters);
                }
                continue;
            }
            if *self != drawn {
                if open {
                    html.push_str("</span>");
                }
                open = self.open(html);
                drawn = *self;
            }
            push_text(character, html);
            rest = &rest[character.len_utf8()..];
        }
        if open {
            html.push_str("</span>");
        }
    }

    fn open(&self, html: &mut String) -> bool {
        if *self == Self::default() {
            return false;
        }
        html.push_str("<span class=\"");
        let start = html.len();
        let (foreground, background) = match self.inverse {
            // Without colours of its own, inverse text takes the page's two.
            true if (self.foreground, self.background) == (None, None) => {
                html.push_str("inv ");
                (None, None)
            }
            true => (self.background, self.foreground),
            false => (self.foreground, self.background),
        };
        if let Some(colour) = foreground {
            let _ = write!(html, "f{colour} ");
        }
        if let Some(colour) = background {
            let _ = write!(html, "b{colour} ");
        }
        for (on, class) in [
            (self.bold, "bold "),
            (self.dim, "dim "),
            (self.italic, "it "),
            (self.underline, "ul "),
            (self.strike, "st "),
        ] {
            if on {
                html.push_str(class);
            }
        }
        debug_assert!(html.len() > start, "a pen that differs from the default has a class");
        html.pop();
        html.push_str("\">");
        true
    }

    /// Applies the parameters of one `m` sequence (ECMA-48, Select Graphic Rendition).
    fn apply(&mut self, parameters: &str) {
        // `38:5:1` is the standard's spelling of what everybody writes `38;5;1`.
        let mut numbers = parameters.split([';', ':']).map(|number| match number {
            "" => Some(0),
            digits => digits.parse::<u16>().ok(),
        });
        while let Some(number) = numbers.next() {
            match number {
                Some(0) => *self = Self::default(),
                Some(1) => self.bold = true,
                Some(2) => self.dim = true,
                Some(3) => self.italic = true,
                Some(4) => self.underline = true,
                Some(7) => self.inverse = true,
                Some(9) => self.strike = true,
                Some(22) => (self.bold, self.dim) = (false, false),
                Some(23) => self.italic = false,
                Some(24) => self.underline = false,
                Some(27) => self.inverse = false,
                Some(29) => self.strike = false,
                Some(code @ 30..=37) => self.foreground = Some(low(code - 30)),
                Some(38) => self.foreground = extended(&mut numbers).or(self.foreground),
                Some(39) => self.foreground = None,
                Some(code @ 40..=47) => self.background = Some(low(code - 40)),
                Some(48) => self.background = extended(&mut numbers).or(self.background),
                Some(49) => self.background = None,
                Some(code @ 90..=97) => self.foreground = Some(low(code - 90 + 8)),
                Some(code @ 100..=107) => self.background = Some(low(code - 100 + 8)),
                _ => {}
            }
        }
    }
}

/// A number that is known to be small.
fn low(number: u16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn extended(numbers: &mut impl Iterator<Item = Option<u16>>) -> Option<u8> {
    let mut byte = || numbers.next().flatten().and_then(|number| u8::try_from(number).ok());
    match byte()? {
        5 => Some(match byte()? {
            colour @ 0..=15 => colour,
            cube @ 16..=231 => {
                let (red, green, blue) = ((cube - 16) / 36, (cube - 16) / 6 % 6, (cube - 16) % 6);
                let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
                nearest(level(red), level(green), level(blue))
            }
            grey => {
                let level = 8 + 10 * (grey - 232);
                nearest(level, level, level)
            }
        }),
        2 => Some(nearest(byte()?, byte()?, byte()?)),
        _ => None,
    }
}

/// The nearest of xterm's sixteen colours.
fn nearest(red: u8, green: u8, blue: u8) -> u8 {
    const SIXTEEN: [(u8, u8, u8); 16] = [
        (0, 0, 0),
        (205, 0, 0),
        (0, 205, 0),
        (205, 205, 0),
        (0, 0, 238),
        (205, 0, 205),
        (0, 205, 205),
        (229, 229, 229),
        (127, 127, 127),
        (255, 0, 0),
        (0, 255, 0),
        (255, 255, 0),
        (92, 92, 255),
        (255, 0, 255),
        (0, 255, 255),
        (255, 255, 255),
    ];
    let distance = |&(r, g, b): &(u8, u8, u8)| {
        let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
        square(r, red) + square(g, green) + square(b, blue)
    };
    let nearest = (0_u8..).zip(&SIXTEEN).min_by_key(|(_, colour)| distance(colour));
    nearest.map_or(7, |(index, _)| index)
}

/// An escape sequence at the start of some text.
struct Sequence<'a> {
    /// Its length in bytes; an unfinished one reaches to the end.
    length: usize,
    /// Its parameters, if it sets colours.
    colours: Option<&'a str>,
}

impl<'a> Sequence<'a> {
    fn read(text: &'a str) -> Self {
        let unfinished = Self { length: text.len(), colours: None };
        let mut characters = text.char_indices();
        let introducer = match characters.next() {
            Some((_, '\u{9b}')) => Some('['),
            _ => characters.next().map(|(_, character)| character),
        };
        match introducer {
            Some('[') => {
                let start = characters.offset();
                for (at, character) in characters {
                    match character {
                        '\u{20}'..='\u{3f}' => {}
                        'm' => return Self { length: at + 1, colours: Some(&text[start..at]) },
                        '\u{40}'..='\u{7e}' => return Self { length: at + 1, colours: None },
                        // Not a control sequence after all: what follows is text.
                        _ => return Self { length: at, colours: None },
                    }
                }
                unfinished
            }
            // Strings (titles, hyperlinks, …) up to BEL or ESC \; the text of a hyperlink lies outside.
            Some(']' | 'P' | 'X' | '^' | '_') => {
                for (at, character) in characters {
                    match character {
                        '\u{7}' | '\u{9c}' => {
                            return Self { length: at + character.len_utf8(), colours: None };
                        }
                        '\u{1b}' => {
                            let ends = text[at + 1..].starts_with('\\');
                            return Self { length: at + if ends { 2 } else { 0 }, colours: None };
                        }
                        _ => {}
                    }
                }
                unfinished
            }
            // `ESC ( B` and its like select character sets.
            Some('\u{20}'..='\u{2f}') => {
                let end = characters.find(|(_, character)| !matches!(character, '\u{20}'..='\u{2f}'));
                end.map_or(unfinished, |(at, character)| Self {
                    length: at + character.len_utf8(),
                    colours: None,
                })
            }
            Some('\u{30}'..='\u{7e}') => Self { length: 2, colours: None },
            // A stray escape character; what follows is looked at again.
            _ => Self { length: 1, colours: None },
        }
    }
}

fn push_text(character: char, html: &mut String) {
    match character {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        '\t' | '\n' => html.push(character),
        // The bell is heard, not seen.
        '\u{7}' => {}
        // Control characters as their pictures, e.g. ␀.
        '\0'..='\u{1f}' => html.push(char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}')),
        '\u{7f}' => html.push('\u{2421}'),
        // Characters that reorder text would make a log lie.
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            let _ = write!(html, r#"<span class="ctl">U+{:04X}</span>"#, u32::from(character));
        }
        _ => html.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, expected: &str) {
        assert_eq!(text(input.as_bytes()).to_string(), expected);
    }

    #[test]
    fn markup_is_text() {
        check(
            "<script>alert('x')</script> & \"",
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;",
        );
        check("\u{1b}[31m<b>\u{1b}[0m", r#"<span class="f1">&lt;b&gt;</span>"#);
    }

    #[test]
    fn colours_become_classes() {
        check(
            "a\u{1b}[1;32mok\u{1b}[0m b \u{1b}[91;44mx",
            r#"a<span class="f2 bold">ok</span> b <span class="f9 b4">x</span>"#,
        );
        check(
            "\u{1b}[31mred\u{1b}[1mbold",
            r#"<span class="f1">red</span><span class="f1 bold">bold</span>"#,
        );
        check("\u{1b}[31m\u{1b}[mplain", "plain");
        check("\u{1b}[7minverse", r#"<span class="inv">inverse</span>"#);
        check("\u{1b}[31;7minverse", r#"<span class="b1">inverse</span>"#);
    }

    #[test]
    fn colours_last_over_line_ends_and_spans_do_not() {
        check("\u{1b}[33ma\nb", "<span class=\"f3\">a</span>\n<span class=\"f3\">b</span>");
    }

    #[test]
    fn large_palettes_map_to_sixteen() {
        check("\u{1b}[38;5;9mx", r#"<span class="f9">x</span>"#);
        check("\u{1b}[38;5;196mx", r#"<span class="f9">x</span>"#);
        check("\u{1b}[38;5;244mx", r#"<span class="f8">x</span>"#);
        check("\u{1b}[38;2;10;200;10;1mx", r#"<span class="f2 bold">x</span>"#);
        check("\u{1b}[48:5:21mx", r#"<span class="b4">x</span>"#);
        check("\u{1b}[38;5mx\u{1b}[38;2;999;0;0my", "xy");
    }

    #[test]
    fn other_sequences_vanish() {
        check("\u{1b}[2Ka\u{1b}[1Ab", "ab");
        check("\u{1b}]0;title\u{7}a\u{1b}]8;;https://x.example/\u{1b}\\link\u{1b}]8;;\u{1b}\\", "alink");
        check("\u{1b}(Ba\u{1b}=b\u{1b}7", "ab");
        for unfinished in ["a\u{1b}", "a\u{1b}[", "a\u{1b}[3", "a\u{1b}]8;;x", "a\u{1b}("] {
            check(unfinished, "a");
        }
        check("\u{1b}[3éa", "éa");
        check("\u{1b}éa", "éa");
        check("\u{1b}\u{1b}[31ma", r#"<span class="f1">a</span>"#);
    }

    #[test]
    fn a_carriage_return_starts_the_line_again() {
        check("10 %\r50 %\r100 %\ndone\r\n", "100 %\ndone");
        check("\u{1b}[31m1\r2", r#"<span class="f1">2</span>"#);
    }

    #[test]
    fn invisible_and_reordering_characters_are_shown() {
        check("a\0b\u{7}", "a␀b");
        check("x\u{202e}y", r#"x<span class="ctl">U+202E</span>y"#);
        assert_eq!(text(b"\xff ok").to_string(), "\u{fffd} ok");
    }

    #[test]
    fn lines_have_numbers_to_link_to() {
        let html = numbered(b"a\nb\n", "stdout", 7).to_string();
        assert_eq!(html.matches("<span class=\"line\"").count(), 2);
        assert!(
            html.contains(r##"id="stdout-8"><a href="#stdout-8" tabindex="-1" data-n="8"></a>b</span>"##)
        );
        assert_eq!(numbered(b"", "stdout", 1).to_string().matches("line").count(), 1);
    }
}
