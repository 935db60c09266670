//! `%START_TIME%`: the calendar is worked out once per second, the fraction patched in per line.
//! Times are UTC.

use std::time::Duration;

use crate::decimal::{push_padded, push_u64};

/// The calendar of the last seconds seen. One per worker.
#[derive(Debug, Clone)]
pub struct TimeCache {
    /// Two, because lines carry the start of requests that ended out of order.
    seconds: [Second; 2],
}

#[derive(Debug, Clone)]
struct Second {
    unix: u64,
    calendar: jiff::civil::DateTime,
    /// `2019-03-06T09:31:27.`
    iso: [u8; 20],
}

impl Default for TimeCache {
    fn default() -> TimeCache {
        TimeCache { seconds: [Second::of(0), Second::of(1)] }
    }
}

impl TimeCache {
    fn second(&mut self, unix: u64) -> &Second {
        let [even, odd] = &mut self.seconds;
        let slot = if unix.is_multiple_of(2) { even } else { odd };
        if slot.unix != unix {
            *slot = Second::of(unix);
        }
        slot
    }
}

impl Second {
    fn of(unix: u64) -> Second {
        // Past the calendar's end (year 9999) the last second stands for all later ones.
        let timestamp = i64::try_from(unix)
            .ok()
            .and_then(|unix| jiff::Timestamp::from_second(unix).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        let calendar = jiff::tz::Offset::UTC.to_datetime(timestamp);
        let mut iso = *b"0000-00-00T00:00:00.";
        for (at, width, value) in [
            (0, 4, i64::from(calendar.year())),
            (5, 2, i64::from(calendar.month())),
            (8, 2, i64::from(calendar.day())),
            (11, 2, i64::from(calendar.hour())),
            (14, 2, i64::from(calendar.minute())),
            (17, 2, i64::from(calendar.second())),
        ] {
            let mut rest = value.unsigned_abs();
            for digit in iso.iter_mut().skip(at).take(width).rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        Second { unix, calendar, iso }
    }
}

/// A compiled time format.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct TimeFormat(Vec<TimeOp>);

#[derive(Debug, Clone, PartialEq)]
enum TimeOp {
    Literal(String),
    Number {
        part: Part,
        width: usize,
    },
    SpacePaddedDay,
    MonthName {
        short: bool,
    },
    WeekdayName {
        short: bool,
    },
    HalfDay,
    Unix,
    /// This many digits of the fraction of the second.
    Fraction(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Year,
    YearOfCentury,
    Month,
    Day,
    DayOfYear,
    /// Monday is 1.
    Weekday,
    /// Sunday is 0.
    WeekdayFromSunday,
    Hour,
    Hour12,
    Minute,
    Second,
}

impl TimeFormat {
    /// strftime's conversions with Envoy's (`%3f`, `%f`) and Abseil's (`%E3S`) fractions.
    pub(super) fn compile(format: &str) -> Result<TimeFormat, String> {
        let mut ops = Vec::new();
        compile_into(format, &mut ops)?;
        Ok(TimeFormat(ops))
    }

    /// The default format is the empty list: `2019-03-06T09:31:27.360Z`.
    pub(super) fn render(&self, since_epoch: Duration, cache: &mut TimeCache, out: &mut Vec<u8>) {
        let second = cache.second(since_epoch.as_secs());
        if self.0.is_empty() {
            out.extend_from_slice(&second.iso);
            push_padded(out, u64::from(since_epoch.subsec_millis()), 3);
            out.push(b'Z');
            return;
        }
        for op in &self.0 {
            push(op, second, since_epoch, out);
        }
    }
}

fn compile_into(format: &str, ops: &mut Vec<TimeOp>) -> Result<(), String> {
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        let (before, at) = rest.split_at(percent);
        literal(ops, before);
        let length = conversion(at, ops)?;
        rest = at.get(length..).unwrap_or_default();
    }
    literal(ops, rest);
    Ok(())
}

/// Compiles the conversion at the start of `text`, answers its length.
fn conversion(text: &str, ops: &mut Vec<TimeOp>) -> Result<usize, String> {
    let mut characters = text.chars();
    characters.next();
    let Some(kind) = characters.next() else { return Err("ends in a lone '%' in its time format".into()) };
    let number = |part, width| TimeOp::Number { part, width };
    let op = match kind {
        'Y' => number(Part::Year, 4),
        'y' => number(Part::YearOfCentury, 2),
        'm' => number(Part::Month, 2),
        'd' => number(Part::Day, 2),
        'e' => TimeOp::SpacePaddedDay,
        'j' => number(Part::DayOfYear, 3),
        'u' => number(Part::Weekday, 1),
        'w' => number(Part::WeekdayFromSunday, 1),
        'H' => number(Part::Hour, 2),
        'I' => number(Part::Hour12, 2),
        'M' => number(Part::Minute, 2),
        'S' => number(Part::Second, 2),
        'b' | 'h' => TimeOp::MonthName { short: true },
        'B' => TimeOp::MonthName { short: false },
        'a' => TimeOp::WeekdayName { short: true },
        'A' => TimeOp::WeekdayName { short: false },
        'p' => TimeOp::HalfDay,
        's' => TimeOp::Unix,
        'f' => TimeOp::Fraction(9),
        'Z' => TimeOp::Literal("UTC".into()),
        'z' => TimeOp::Literal("+0000".into()),
        'n' => TimeOp::Literal("\n".into()),
        't' => TimeOp::Literal("\t".into()),
        '%' => TimeOp::Literal("%".into()),
        'T' => return compile_into("%H:%M:%S", ops).map(|()| 2),
        'R' => return compile_into("%H:%M", ops).map(|()| 2),
        'F' => return compile_into("%Y-%m-%d", ops).map(|()| 2),
        'D' => return compile_into("%m/%d/%y", ops).map(|()| 2),
        '1'..='9' if characters.next() == Some('f') => {
            ops.push(TimeOp::Fraction(kind.to_digit(10).map_or(9, |digits| digits as usize)));
            return Ok(3);
        }
        'E' => return extended(text, ops),
        other => return Err(format!("has the unknown time conversion \"%{other}\"")),
    };
    match op {
        TimeOp::Literal(text) => literal(ops, &text),
        op => ops.push(op),
    }
    Ok(2)
}

/// Abseil's `%E3S` (seconds with their fraction), `%E3f` (the fraction alone) and `%Ez` (`+00:00`).
fn extended(text: &str, ops: &mut Vec<TimeOp>) -> Result<usize, String> {
    let bytes = text.as_bytes();
    match (bytes.get(2), bytes.get(3)) {
        (Some(b'z'), _) => {
            literal(ops, "+00:00");
            Ok(3)
        }
        (Some(digit @ b'1'..=b'9'), Some(kind @ (b'S' | b'f'))) => {
            if *kind == b'S' {
                ops.push(TimeOp::Number { part: Part::Second, width: 2 });
                literal(ops, ".");
            }
            ops.push(TimeOp::Fraction(usize::from(digit - b'0')));
            Ok(4)
        }
        _ => {
            let shown: String = text.chars().take(4).collect();
            Err(format!("has the unknown time conversion {shown:?}"))
        }
    }
}

fn literal(ops: &mut Vec<TimeOp>, text: &str) {
    if text.is_empty() {
        return;
    }
    match ops.last_mut() {
        Some(TimeOp::Literal(last)) => last.push_str(text),
        _ => ops.push(TimeOp::Literal(text.to_owned())),
    }
}

fn push(op: &TimeOp, second: &Second, since_epoch: Duration, out: &mut Vec<u8>) {
    let calendar = &second.calendar;
    let name = |names: &'static [&'static str], index: i8, short: bool| -> &'static str {
        let name = usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("");
        if short { name.get(..3).unwrap_or(name) } else { name }
    };
    match op {
        TimeOp::Literal(text) => out.extend_from_slice(text.as_bytes()),
        TimeOp::Number { part, width } => push_padded(out, part.of(calendar), *width),
        TimeOp::SpacePaddedDay => {
            let day = calendar.day().unsigned_abs();
            if day < 10 {
                out.push(b' ');
            }
            push_u64(out, u64::from(day));
        }
        TimeOp::MonthName { short } => {
            out.extend_from_slice(name(&MONTHS, calendar.month() - 1, *short).as_bytes());
        }
        TimeOp::WeekdayName { short } => {
            let weekday = calendar.weekday().to_sunday_zero_offset();
            out.extend_from_slice(name(&WEEKDAYS, weekday, *short).as_bytes());
        }
        TimeOp::HalfDay => out.extend_from_slice(if calendar.hour() < 12 { b"AM" } else { b"PM" }),
        TimeOp::Unix => push_u64(out, since_epoch.as_secs()),
        TimeOp::Fraction(digits) => {
            let unit = (*digits..9).fold(1, |unit, _| unit * 10);
            push_padded(out, u64::from(since_epoch.subsec_nanos() / unit), *digits);
        }
    }
}

impl Part {
    fn of(self, calendar: &jiff::civil::DateTime) -> u64 {
        let value = match self {
            Part::Year => i64::from(calendar.year()),
            Part::YearOfCentury => i64::from(calendar.year() % 100),
            Part::Month => i64::from(calendar.month()),
            Part::Day => i64::from(calendar.day()),
            Part::DayOfYear => i64::from(calendar.day_of_year()),
            Part::Weekday => i64::from(calendar.weekday().to_monday_one_offset()),
            Part::WeekdayFromSunday => i64::from(calendar.weekday().to_sunday_zero_offset()),
            Part::Hour => i64::from(calendar.hour()),
            Part::Hour12 => i64::from((calendar.hour() + 11) % 12 + 1),
            Part::Minute => i64::from(calendar.minute()),
            Part::Second => i64::from(calendar.second()),
        };
        value.unsigned_abs()
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
