//! Dates, times and moments in ISO style, the style every PostgreSQL driver asks for.

use chrono::{Offset, TimeZone};

/// 2000-01-01, where PostgreSQL's binary dates begin, in days since 1970-01-01.
pub const EPOCH_DAYS: i32 = 10_957;
pub const EPOCH_MICROSECONDS: i64 = EPOCH_DAYS as i64 * DAY;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A session's time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    Utc,
    /// Seconds east of UTC.
    Fixed(i32),
    Named(chrono_tz::Tz),
}

impl Zone {
    /// Reads the setting `TimeZone`. An unknown one, which the session would not have taken, is UTC.
    pub fn from_setting(setting: &str) -> Self {
        if ["utc", "gmt", "etc/utc", "z"].contains(&setting.to_ascii_lowercase().as_str()) {
            return Self::Utc;
        }
        let mut zones = chrono_tz::TZ_VARIANTS.iter();
        if let Some(zone) = zones.find(|zone| zone.name().eq_ignore_ascii_case(setting)) {
            return Self::Named(*zone);
        }
        // `+07`, `-03:30`, and PostgreSQL's own spelling of them, `<+07>-07`.
        let plain = setting
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'));
        match fixed_offset(plain.map_or(setting, |(name, _)| name)) {
            Some(0) | None => Self::Utc,
            Some(seconds) => Self::Fixed(seconds),
        }
    }

    fn offset_seconds(&self, microseconds: i64) -> i32 {
        match self {
            Self::Utc => 0,
            Self::Fixed(seconds) => *seconds,
            Self::Named(zone) => {
                chrono::DateTime::from_timestamp_micros(microseconds).map_or(0, |moment| {
                    zone.offset_from_utc_datetime(&moment.naive_utc())
                        .fix()
                        .local_minus_utc()
                })
            }
        }
    }
}

fn fixed_offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("-", rest) => (-1, rest),
        ("+", rest) => (1, rest),
        _ => (1, text),
    };
    let mut parts = rest.split(':').map(|part| part.parse::<i32>().ok());
    let hours = parts.next()??;
    let minutes = parts.next().unwrap_or(Some(0))?;
    (hours.abs() < 16 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Year, month and day of a day counted from 1970-01-01; the year before 1 is 0.
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

fn append_pair(out: &mut Vec<u8>, value: u32) {
    let place = (value % 100) as usize * 2;
    out.extend_from_slice(&PAIRS[place..place + 2]);
}

/// Gives whether the year is before Christ, which is said at the end of the value.
fn append_day(out: &mut Vec<u8>, days: i64) -> bool {
    let (year, month, day) = civil(days);
    let (shown, before_christ) = if year > 0 {
        (year, false)
    } else {
        (1 - year, true)
    };
    if shown > 9999 {
        super::number::append_integer(out, shown);
    } else {
        append_pair(out, shown as u32 / 100);
        append_pair(out, shown as u32);
    }
    out.push(b'-');
    append_pair(out, month);
    out.push(b'-');
    append_pair(out, day);
    before_christ
}

fn append_bc(out: &mut Vec<u8>, before_christ: bool) {
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

pub fn append_date(out: &mut Vec<u8>, days: i32) {
    let before_christ = append_day(out, i64::from(days));
    append_bc(out, before_christ);
}

/// `04:05:06.789`, of microseconds since midnight (24:00:00 is a time too).
pub fn append_time(out: &mut Vec<u8>, microseconds: i64) {
    let seconds = microseconds / SECOND;
    append_pair(out, (seconds / 3600) as u32);
    out.push(b':');
    append_pair(out, (seconds / 60 % 60) as u32);
    out.push(b':');
    append_pair(out, (seconds % 60) as u32);
    append_fraction(out, (microseconds % SECOND) as u32);
}

/// The microseconds behind the seconds, without closing zeros.
pub fn append_fraction(out: &mut Vec<u8>, microseconds: u32) {
    if microseconds == 0 {
        return;
    }
    out.push(b'.');
    append_pair(out, microseconds / 10_000);
    append_pair(out, microseconds / 100);
    append_pair(out, microseconds);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

pub fn append_timestamp(out: &mut Vec<u8>, microseconds: i64) {
    let before_christ = append_day(out, microseconds.div_euclid(DAY));
    out.push(b' ');
    append_time(out, microseconds.rem_euclid(DAY));
    append_bc(out, before_christ);
}

pub fn append_timestamptz(out: &mut Vec<u8>, microseconds: i64, zone: &Zone) {
    let offset = zone.offset_seconds(microseconds);
    let local = microseconds.saturating_add(i64::from(offset) * SECOND);
    let before_christ = append_day(out, local.div_euclid(DAY));
    out.push(b' ');
    append_time(out, local.rem_euclid(DAY));
    out.push(if offset < 0 { b'-' } else { b'+' });
    let seconds = offset.unsigned_abs();
    append_pair(out, seconds / 3600);
    if !seconds.is_multiple_of(3600) {
        out.push(b':');
        append_pair(out, seconds / 60 % 60);
    }
    if !seconds.is_multiple_of(60) {
        out.push(b':');
        append_pair(out, seconds % 60);
    }
    append_bc(out, before_christ);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(microseconds: i64, zone: &str) -> String {
        let mut out = Vec::new();
        append_timestamptz(&mut out, microseconds, &Zone::from_setting(zone));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn moments_are_shown_in_the_zone_of_the_session() {
        let at = 1_704_164_645_123_000;
        assert_eq!(moment(at, "UTC"), "2024-01-02 03:04:05.123+00");
        assert_eq!(moment(at, "Asia/Jakarta"), "2024-01-02 10:04:05.123+07");
        assert_eq!(moment(at, "asia/kolkata"), "2024-01-02 08:34:05.123+05:30");
        assert_eq!(moment(at, "America/New_York"), "2024-01-01 22:04:05.123-05");
        assert_eq!(
            moment(at, "<-03:30>+03:30"),
            "2024-01-01 23:34:05.123-03:30"
        );
    }

    #[test]
    fn days_far_away() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (-719_162, "0001-01-01"),
            (-719_163, "0001-12-31 BC"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "10000-01-01"),
        ] {
            let mut out = Vec::new();
            append_date(&mut out, days);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn timestamps_drop_closing_zeros() {
        for (microseconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59.999999"),
            (1_500_000, "1970-01-01 00:00:01.5"),
            (10, "1970-01-01 00:00:00.00001"),
        ] {
            let mut out = Vec::new();
            append_timestamp(&mut out, microseconds);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
