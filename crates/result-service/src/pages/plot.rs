//! The geometry of the pictures: runs as a row of bars, a trend as a line, durations over runs with axes. Pure
//! numbers in SVG user units; the templates write the markup.

use jiff::Timestamp;
use test_results::{RunId, State};

use super::wording;
use crate::views::RunDot;

/// How many runs a row of bars has room for.
pub(super) const ROW: usize = 30;

/// One run as a bar.
pub(super) struct Bar {
    pub(super) run: RunId,
    pub(super) state: State,
    /// Left edge of the bar's slot; the whole slot can be clicked.
    pub(super) slot: f64,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) height: f64,
    /// For the tooltip and for screen readers.
    pub(super) title: String,
}

/// What the bars' marks mean.
pub(super) const LEGEND: [(State, &str); 4] = [
    (State::Passed, "passed"),
    (State::Failed, "failed"),
    (State::TimedOut, "timed out"),
    (State::Lost, "lost"),
];

/// The path of the mark under a bar, centred at (x, y). It tells apart what did not pass without colour.
pub(super) fn mark(state: &State, x: f64, y: f64) -> String {
    let (left, top) = (tenth(x - 2.5), tenth(y - 2.5));
    match state {
        State::Passed => String::new(),
        State::Failed => format!("M{left} {top}l5 5m0-5l-5 5"),
        State::TimedOut => format!("M{left} {y}a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0"),
        State::Lost => format!("M{left} {y}h5"),
    }
}

/// The last runs of a test, oldest first, the newest at the right edge.
pub(super) struct RunRow {
    pub(super) bars: Vec<Bar>,
    /// Left edges of the places that no run has taken yet.
    pub(super) vacant: Vec<f64>,
    /// What the picture shows, in words.
    pub(super) label: String,
}

impl RunRow {
    pub(super) const SLOT: f64 = 10.0;
    pub(super) const BAR: f64 = 8.0;
    /// Bars stand on this line; the marks of failed runs lie below.
    pub(super) const GROUND: f64 = 28.0;
    const LOWEST: f64 = 7.0;

    /// `newest_first` is cut to [`ROW`] runs.
    pub(super) fn new(newest_first: &[RunDot]) -> Self {
        let shown = &newest_first[..newest_first.len().min(ROW)];
        let longest = longest(shown);
        let left = |place: usize| Self::SLOT * units(place);
        let vacant = ROW - shown.len();
        let bars = shown.iter().rev().enumerate().map(|(index, run)| {
            let share = if longest > 0.0 { run.seconds.unwrap_or(0.0) / longest } else { 0.0 };
            let height = tenth(Self::LOWEST + share * (Self::GROUND - Self::LOWEST));
            let slot = left(vacant + index);
            Bar {
                run: run.id,
                state: run.state,
                slot,
                x: slot + (Self::SLOT - Self::BAR) / 2.0,
                y: tenth(Self::GROUND - height),
                height,
                title: title(run),
            }
        });
        Self { bars: bars.collect(), vacant: (0..vacant).map(left).collect(), label: label(shown) }
    }
}

/// The way of a quantity over the last runs.
pub(super) struct Trend {
    /// The `points` of a polyline, oldest first.
    pub(super) points: String,
    /// The newest point.
    pub(super) last: (f64, f64),
}

impl Trend {
    pub(super) const WIDTH: f64 = 96.0;
    pub(super) const HEIGHT: f64 = 28.0;

    /// `None` when fewer than two runs have a duration.
    pub(super) fn new(newest_first: &[RunDot]) -> Option<Self> {
        const MARGIN: f64 = 3.0;
        let values: Vec<f64> = newest_first.iter().rev().filter_map(|run| run.seconds).collect();
        if values.len() < 2 {
            return None;
        }
        let (low, high) =
            values.iter().fold((f64::MAX, f64::MIN), |(low, high), &value| (low.min(value), high.max(value)));
        // Noise of a few per cent must not look like a mountain range.
        let middle = f64::midpoint(low, high);
        let reach = ((high - low) / 2.0).max(middle * 0.15).max(f64::MIN_POSITIVE);
        let step = (Self::WIDTH - 2.0 * MARGIN) / units(values.len() - 1);
        let place = |(index, value): (usize, &f64)| {
            let y = Self::HEIGHT / 2.0 - (value - middle) / reach * (Self::HEIGHT / 2.0 - MARGIN);
            (tenth(MARGIN + step * units(index)), tenth(y))
        };
        let places: Vec<_> = values.iter().enumerate().map(place).collect();
        let points: Vec<_> = places.iter().map(|(x, y)| format!("{x},{y}")).collect();
        Some(Self { points: points.join(" "), last: *places.last()? })
    }
}

/// A labelled position on an axis.
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// Durations of runs as bars with axes, oldest first.
pub(super) struct DurationPlot {
    pub(super) bars: Vec<Bar>,
    /// Width of a bar and of its slot.
    pub(super) bar: f64,
    pub(super) slot: f64,
    /// Lines across, from the ground up.
    pub(super) levels: Vec<Tick>,
    /// Times below.
    pub(super) times: Vec<Tick>,
    /// The median duration.
    pub(super) median: Option<Tick>,
    /// What the picture shows, in words.
    pub(super) label: String,
}

impl DurationPlot {
    pub(super) const WIDTH: f64 = 1140.0;
    pub(super) const HEIGHT: f64 = 216.0;
    pub(super) const LEFT: f64 = 12.0;
    pub(super) const RIGHT: f64 = 1074.0;
    pub(super) const GROUND: f64 = 172.0;
    const TOP: f64 = 14.0;
    const WIDEST: f64 = 24.0;
    const LOWEST: f64 = 3.0;

    /// `None` when there is no run with a duration.
    pub(super) fn new(newest_first: &[RunDot]) -> Option<Self> {
        let longest = longest(newest_first);
        let median = median(newest_first)?;
        let (step, top) = scale(longest);
        let up = |seconds: f64| tenth(Self::GROUND - seconds / top * (Self::GROUND - Self::TOP));
        let slot = ((Self::RIGHT - Self::LEFT) / units(newest_first.len())).min(Self::WIDEST);
        let bar = tenth(slot * 0.78);
        let bars: Vec<_> = newest_first
            .iter()
            .rev()
            .enumerate()
            .map(|(index, run)| {
                let y = up(run.seconds.unwrap_or(0.0)).min(Self::GROUND - Self::LOWEST);
                let left = tenth(Self::LEFT + slot * units(index));
                Bar {
                    run: run.id,
                    state: run.state,
                    slot: left,
                    x: tenth(left + (slot - bar) / 2.0),
                    y,
                    height: tenth(Self::GROUND - y),
                    title: title(run),
                }
            })
            .collect();
        let levels = (0..)
            .map(|index| step * f64::from(index))
            .take_while(|level| *level <= top * 1.001)
            .map(|level| Tick { at: up(level), label: axis_duration(level, step) })
            .collect();
        let times = times(newest_first, &bars, slot);
        let label = format!("Durations of the last runs: {}", label(newest_first));
        let median = Some(Tick { at: up(median), label: wording::duration(median) });
        Some(Self { bars, bar, slot: tenth(slot), levels, times, median, label })
    }
}

/// The median duration of these runs.
pub(super) fn median(runs: &[RunDot]) -> Option<f64> {
    let mut values: Vec<f64> = runs.iter().filter_map(|run| run.seconds).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// How many of these runs passed.
pub(super) fn passed(runs: &[RunDot]) -> usize {
    runs.iter().filter(|run| run.state == State::Passed).count()
}

fn longest(runs: &[RunDot]) -> f64 {
    runs.iter().filter_map(|run| run.seconds).fold(0.0, f64::max)
}

fn title(run: &RunDot) -> String {
    let mut title = run.state.as_str().replace('-', " ");
    if run.failed > 0 {
        title.push_str(&format!(" · {} failed", wording::count(run.failed, "case")));
    }
    if let Some(seconds) = run.seconds {
        title.push_str(&format!(" · {}", wording::duration(seconds)));
    }
    title.push_str(&format!(" · {}", wording::exact_time(run.at)));
    title
}

fn label(newest_first: &[RunDot]) -> String {
    let mut label = wording::count(newest_first.len() as u64, "run");
    for state in [State::Passed, State::Failed, State::TimedOut, State::Lost] {
        let number = newest_first.iter().filter(|run| run.state == state).count();
        if number > 0 {
            label.push_str(&format!(", {number} {}", state.as_str().replace('-', " ")));
        }
    }
    label
}

/// The step between lines and the top of an axis that holds `longest`: two to five steps of a round size.
fn scale(longest: f64) -> (f64, f64) {
    const ROUND: [f64; 31] = [
        0.001,
        0.002,
        0.005,
        0.01,
        0.02,
        0.05,
        0.1,
        0.2,
        0.5,
        1.0,
        2.0,
        5.0,
        10.0,
        15.0,
        30.0,
        60.0,
        120.0,
        300.0,
        600.0,
        900.0,
        1_800.0,
        3_600.0,
        7_200.0,
        14_400.0,
        21_600.0,
        43_200.0,
        86_400.0,
        172_800.0,
        432_000.0,
        864_000.0,
        8_640_000.0,
    ];
    let step = ROUND.into_iter().find(|step| longest <= step * 4.0).unwrap_or(longest / 4.0);
    (step, step * (longest / step).ceil().max(1.0))
}

fn axis_duration(level: f64, step: f64) -> String {
    match level {
        0.0 => "0".to_owned(),
        _ if step < 1.0 && level < 1.0 => format!("{:.0} ms", level * 1000.0),
        _ if step < 1.0 => format!("{level:.1} s"),
        _ if level < 60.0 => format!("{level:.0} s"),
        _ if level < 3_600.0 && level % 60.0 == 0.0 => format!("{:.0} min", level / 60.0),
        _ if level < 3_600.0 => format!("{:.0}:{:02.0} min", (level / 60.0).floor(), level % 60.0),
        _ if level < 172_800.0 => format!("{:.1} h", level / 3_600.0).replace(".0", ""),
        _ => format!("{:.0} days", level / 86_400.0),
    }
}

/// Up to six times, evenly spread over the bars; the clock within one day, else the date.
fn times(newest_first: &[RunDot], bars: &[Bar], slot: f64) -> Vec<Tick> {
    const MOST: usize = 6;
    let oldest_first: Vec<Timestamp> = newest_first.iter().rev().map(|run| run.at).collect();
    let (Some(first), Some(last)) = (oldest_first.first(), oldest_first.last()) else { return Vec::new() };
    let form = if last.duration_since(*first).as_hours().abs() < 20 { "%H:%M" } else { "%m-%d" };
    // Wide enough that no two labels touch.
    let every = oldest_first.len().div_ceil(MOST).max(least_bars_between(slot));
    let mut ticks: Vec<Tick> = Vec::new();
    for (index, at) in oldest_first.iter().enumerate().step_by(every) {
        let label = at.strftime(form).to_string();
        if ticks.last().is_none_or(|tick| tick.label != label) {
            ticks.push(Tick { at: tenth(bars[index].slot + slot / 2.0), label });
        }
    }
    ticks
}

fn least_bars_between(slot: f64) -> usize {
    const LABEL: f64 = 48.0;
    (1..).find(|bars| units(*bars) * slot >= LABEL).unwrap_or(1)
}

#[expect(clippy::cast_precision_loss, reason = "numbers of bars in a picture")]
fn units(number: usize) -> f64 {
    number as f64
}

/// A tenth of a unit is finer than a pixel, and keeps pages short.
fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: Option<f64>, state: State, minute: i64) -> RunDot {
        RunDot {
            id: RunId(uuid::Uuid::from_u128(u128::try_from(minute).unwrap())),
            state,
            at: Timestamp::from_second(1_800_000_000 + minute * 60).unwrap(),
            seconds,
            failed: u64::from(state == State::Failed),
        }
    }

    fn newest_first(durations: &[f64]) -> Vec<RunDot> {
        let oldest_first = durations.iter().zip(0..).map(|(s, minute)| run(Some(*s), State::Passed, minute));
        let mut runs: Vec<_> = oldest_first.collect();
        runs.reverse();
        runs
    }

    #[test]
    fn the_newest_run_stands_at_the_right_and_the_longest_is_the_highest() {
        let row = RunRow::new(&newest_first(&[1.0, 4.0, 2.0]));
        assert_eq!(row.bars.len() + row.vacant.len(), ROW);
        assert_eq!(row.bars[2].slot, 290.0);
        assert_eq!(row.bars[2].run.0.as_u128(), 2);
        assert_eq!(row.bars[1].height, RunRow::GROUND);
        assert!(row.bars[0].height < row.bars[2].height);
        assert_eq!(row.label, "3 runs, 3 passed");
    }

    #[test]
    fn runs_without_a_duration_and_too_many_runs_are_drawn_too() {
        let row = RunRow::new(&[run(None, State::Lost, 1)]);
        assert_eq!(row.bars[0].height, RunRow::LOWEST);
        let row = RunRow::new(&newest_first(&[0.0; 40]));
        assert_eq!((row.bars.len(), row.vacant.len()), (ROW, 0));
        assert!(RunRow::new(&[]).bars.is_empty());
    }

    #[test]
    fn a_title_says_state_cases_duration_and_time() {
        let title = title(&run(Some(2.5), State::Failed, 0));
        assert_eq!(title, "failed · 1 case failed · 2.50 s · 2027-01-15 08:00:00 UTC");
    }

    #[test]
    fn a_trend_needs_two_durations_and_keeps_noise_flat() {
        assert!(Trend::new(&newest_first(&[1.0])).is_none());
        let flat = Trend::new(&newest_first(&[1.0, 1.0, 1.0])).unwrap();
        assert_eq!(flat.points, "3,14 48,14 93,14");
        let noisy = Trend::new(&newest_first(&[1.0, 1.02])).unwrap();
        assert!(noisy.last.1 > 12.0, "2 % is little: {}", noisy.points);
        let rising = Trend::new(&newest_first(&[1.0, 5.0])).unwrap();
        assert_eq!(rising.last, (93.0, 3.0));
        assert!(Trend::new(&newest_first(&[0.0, 0.0])).is_some());
    }

    #[test]
    fn axes_have_round_steps() {
        for (longest, step, top) in
            [(0.0, 0.001, 0.001), (3.2, 1.0, 4.0), (47.0, 15.0, 60.0), (100.0, 30.0, 120.0)]
        {
            assert_eq!(scale(longest), (step, top), "{longest} s");
        }
        assert_eq!(axis_duration(90.0, 30.0), "1:30 min");
        assert_eq!(axis_duration(0.5, 0.5), "500 ms");
        assert_eq!(axis_duration(5_400.0, 1_800.0), "1.5 h");
    }

    #[test]
    fn a_plot_of_a_hundred_runs_stays_within_its_frame() {
        let plot = DurationPlot::new(&newest_first(&[7.0; 100])).unwrap();
        assert!(plot.bars.iter().all(|bar| bar.x + plot.bar <= DurationPlot::RIGHT + 0.1));
        assert!(plot.times.len() <= 6);
        assert!(plot.times.windows(2).all(|pair| pair[1].at - pair[0].at >= 40.0));
        assert_eq!(plot.median.unwrap().label, "7.00 s");
        assert!(DurationPlot::new(&[run(None, State::Lost, 1)]).is_none());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&newest_first(&[4.0, 1.0, 3.0, 2.0])), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
