//! Times in the words of people. The script counts on in the same words (`assets/console.js`).

use jiff::{SignedDuration, Timestamp};

/// How long ago, as in `2 min ago`; what is ahead of us by a clock that is off is `just now`.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    match now.duration_since(then).as_secs() {
        ..5 => "just now".into(),
        seconds @ 5..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h ago", seconds / 3600),
        seconds @ 86_400..172_800 => format!("{} day ago", seconds / 86_400),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// How long until then, as in `23 h 59 min 12 s`.
pub(super) fn left(until: Timestamp, now: Timestamp) -> String {
    units(until.duration_since(now).max(SignedDuration::ZERO).as_secs().unsigned_abs(), 4)
}

/// How long, by its two largest units, as in `3 d 4 h`.
pub(super) fn long(seconds: u64) -> String {
    units(seconds, 2)
}

fn units(mut seconds: u64, most: usize) -> String {
    let mut parts = Vec::new();
    for (name, size) in [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)] {
        let count = seconds / size;
        seconds %= size;
        if count > 0 || !parts.is_empty() || name == "s" {
            parts.push(format!("{count} {name}"));
        }
    }
    parts.truncate(most);
    parts.join(" ")
}

/// When, in UTC, as in `21 Nov 2026, 17:31`.
pub(super) fn moment(time: Timestamp) -> String {
    time.strftime("%-d %b %Y, %H:%M").to_string()
}

/// To the second.
pub(super) fn exact(time: Timestamp) -> String {
    time.strftime("%-d %b %Y, %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let before = |seconds: i64| ago(Timestamp::from_second(1_000_000_000 - seconds).unwrap(), now);
        assert_eq!(before(-90), "just now");
        assert_eq!(before(4), "just now");
        assert_eq!(before(59), "59 s ago");
        assert_eq!(before(119), "1 min ago");
        assert_eq!(before(7200), "2 h ago");
        assert_eq!(before(86_400), "1 day ago");
        assert_eq!(before(200_000), "2 days ago");
        let ahead = |seconds: i64| left(Timestamp::from_second(1_000_000_000 + seconds).unwrap(), now);
        assert_eq!(ahead(-1), "0 s");
        assert_eq!(ahead(61), "1 min 1 s");
        assert_eq!(ahead(86_400), "1 d 0 h 0 min 0 s");
        assert_eq!(ahead(86_399), "23 h 59 min 59 s");
        assert_eq!(long(93_784), "1 d 2 h");
        assert_eq!(moment(now), "9 Sep 2001, 01:46");
    }
}
