//! Versions of packs and their bounds: one to four numbers, as in `1.33.9`, `18.04.4` or `7.7.1908`, perhaps with more
//! behind a dash.

/// A version. Missing numbers are 0.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Version {
    numbers: [u64; 4],
    /// Before the release, itself, or a revision of its pack: `1.0.0-rc.1` < `1.0.0` < `1.0.0-rev2`.
    rank: u8,
    suffix: Vec<Part>,
}

/// Semantic versions, item 11.4: numbers are less than words.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Part {
    Number(u64),
    Word(String),
}

impl Version {
    pub(crate) fn parse(text: &str) -> Option<Version> {
        // What is behind a plus sign says who built it, not what.
        let text = text.split('+').next()?;
        let (main, suffix) = text.split_once('-').map_or((text, None), |(main, suffix)| (main, Some(suffix)));
        let mut numbers = [0; 4];
        for (n, number) in main.strip_prefix('v').unwrap_or(main).split('.').enumerate() {
            *numbers.get_mut(n)? =
                number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
        }
        let Some(suffix) = suffix else { return Some(Version { numbers, rank: 1, suffix: Vec::new() }) };
        let revision = suffix.strip_prefix("rev").filter(|n| n.starts_with(|c: char| c.is_ascii_digit()));
        let (rank, suffix) = revision.map_or((0, suffix), |revision| (2, revision));
        let part = |part: &str| part.parse().map_or_else(|_| Part::Word(part.to_string()), Part::Number);
        Some(Version { numbers, rank, suffix: suffix.split('.').map(part).collect() })
    }
}

/// From a lowest to a highest version, both inclusive; a bound such as `1.33.x` has all that begin with it.
#[derive(Clone, Debug)]
pub(crate) struct Range<'a> {
    pub(crate) min: Option<&'a str>,
    pub(crate) max: Option<&'a str>,
}

impl Range<'_> {
    /// Whether a version is in the range, or else the text that is no version.
    pub(crate) fn contains(&self, version: &str) -> Result<bool, String> {
        if self.min.is_none() && self.max.is_none() {
            return Ok(true);
        }
        let parse = |text: &str| Version::parse(text).ok_or_else(|| text.to_string());
        let version = parse(version)?;
        let above = match self.min {
            None => true,
            Some(min) => version >= parse(min.strip_suffix(".x").unwrap_or(min))?,
        };
        let below = match self.max {
            None => true,
            Some(max) => match max.strip_suffix(".x") {
                None => version <= parse(max)?,
                Some(line) => {
                    let count = line.split('.').count();
                    version.numbers[..count.min(4)] <= parse(line)?.numbers[..count.min(4)]
                }
            },
        };
        Ok(above && below)
    }
}

impl std::fmt::Display for Range<'_> {
    /// ` from A to B`, with the space, or nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.min, self.max) {
            (None, None) => Ok(()),
            (Some(min), None) => write!(f, " from {min} on"),
            (None, Some(max)) => write!(f, " up to {max}"),
            (Some(min), Some(max)) if min == max => write!(f, " {min}"),
            (Some(min), Some(max)) => write!(f, " from {min} to {max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered() {
        let order = [
            "0.9",
            "1",
            "1.2.0-alpha",
            "1.2.0-rc.2",
            "1.2.0-rc.10",
            "1.2.0-review",
            "1.2.0",
            "1.2.0-rev1",
            "1.2.0-rev10",
            "1.2.1",
            "1.10.0",
            "7.7.1908",
            "18.04.4",
            "18.04.4.1",
        ];
        for pair in order.windows(2) {
            assert!(Version::parse(pair[0]).unwrap() < Version::parse(pair[1]).unwrap(), "{pair:?}");
        }
        for (a, b) in [("v1.2", "1.2.0.0"), ("1.0.0+a", "1.0.0+b")] {
            assert_eq!(Version::parse(a), Version::parse(b));
        }
        for text in ["", "1.", "a", "1.2.3.4.5", "1.x", "+1", "1.33.x", "99999999999999999999"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_are_inclusive() {
        let cases = [
            ("", "", "anything", true),
            ("1.17.0", "1.18.6", "1.17.0", true),
            ("1.17.0", "1.18.6", "1.18.6", true),
            ("1.17.0", "1.18.6", "1.18.7", false),
            ("1.17.0", "", "1.16.9", false),
            ("1.33.x", "", "1.33.0", true),
            ("", "1.33.x", "1.33.9", true),
            ("", "1.33.x", "1.34.0", false),
            ("", "1.x", "1.99.9", true),
            ("", "1.33", "1.33.1", false),
        ];
        for (min, max, version, expected) in cases {
            let bound = |text: &'static str| (!text.is_empty()).then_some(text);
            let range = Range { min: bound(min), max: bound(max) };
            assert_eq!(range.contains(version), Ok(expected), "{version}{range}");
        }
        let range = Range { min: Some("jammy"), max: None };
        assert_eq!(range.contains("1.0"), Err("jammy".to_string()));
        assert_eq!(range.contains("noble"), Err("noble".to_string()));
    }
}
