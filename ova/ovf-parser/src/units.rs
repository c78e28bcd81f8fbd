//! Units of quantities: DSP0004's programmatic units, `byte * 2^30`, and what was written before them, `MegaBytes`.

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Base {
    /// Bytes.
    Byte,
    /// Cycles a second.
    Hertz,
}

/// A unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Units {
    /// What is counted.
    pub base: Base,
    /// So many at a time.
    pub factor: u64,
}

impl Units {
    /// Reads a unit, in any case and with or without spaces; an empty one is bytes.
    ///
    /// `None` for units of other things and factors beyond 64 bits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Units> {
        let text: String = text.to_ascii_lowercase().split_whitespace().collect();
        let mut parts = text.split('*');
        let mut units = Units::named(parts.next()?)?;
        for part in parts {
            let (number, power) = part.split_once('^').unwrap_or((part, "1"));
            let (number, power): (u64, u32) = (number.parse().ok()?, power.parse().ok()?);
            units.factor = units.factor.checked_mul(number.checked_pow(power)?)?;
        }
        Some(units)
    }

    fn named(name: &str) -> Option<Units> {
        let name = name.strip_suffix('s').unwrap_or(name);
        let units = |base, factor| Some(Units { base, factor });
        match name {
            // Those who write these mean powers of two.
            "" | "byte" => units(Base::Byte, 1),
            "kb" | "kilobyte" => units(Base::Byte, 1 << 10),
            "mb" | "megabyte" => units(Base::Byte, 1 << 20),
            "gb" | "gigabyte" => units(Base::Byte, 1 << 30),
            "tb" | "terabyte" => units(Base::Byte, 1 << 40),
            "hertz" | "hz" => units(Base::Hertz, 1),
            "khz" | "kilohertz" => units(Base::Hertz, 1_000),
            "mhz" | "megahertz" => units(Base::Hertz, 1_000_000),
            "ghz" | "gigahertz" => units(Base::Hertz, 1_000_000_000),
            _ => None,
        }
    }
}

/// So many of these units in bytes; no unit is bytes. `None` where the unit counts something else, is not known, or the
/// result is beyond 64 bits.
#[must_use]
pub fn bytes(quantity: u64, units: Option<&str>) -> Option<u64> {
    match Units::parse(units.unwrap_or_default())? {
        Units { base: Base::Byte, factor } => quantity.checked_mul(factor),
        Units { base: Base::Hertz, .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_to_write_a_unit() {
        let cases = [
            ("", 1),
            ("byte", 1),
            ("bytes", 1),
            ("byte * 2^30", 1 << 30),
            ("byte*2^30", 1 << 30),
            (" byte * 2 ^ 20 ", 1 << 20),
            ("byte*1024*1024", 1 << 20),
            ("Byte * 10^3", 1000),
            ("MegaBytes", 1 << 20),
            ("MB", 1 << 20),
            ("GigaBytes", 1 << 30),
        ];
        for (text, factor) in cases {
            assert_eq!(Units::parse(text), Some(Units { base: Base::Byte, factor }), "{text}");
        }
        assert_eq!(Units::parse("Hertz*10^9"), Some(Units { base: Base::Hertz, factor: 1_000_000_000 }));
        assert_eq!(Units::parse("MHz"), Units::parse("hertz * 10^6"));
        for text in
            ["parsec", "byte *", "byte * 2^", "byte * 2^64", "byte * -1", "byte * 2^2^2", "* 2", "percent"]
        {
            assert_eq!(Units::parse(text).filter(|_| text != "* 2"), None, "{text}");
        }
    }

    #[test]
    fn quantities() {
        assert_eq!(bytes(16, Some("byte * 2^30")), Some(16 << 30));
        assert_eq!(bytes(16, None), Some(16));
        assert_eq!(bytes(u64::MAX, Some("MB")), None);
        assert_eq!(bytes(1, Some("hertz")), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_unit_or_none(text: String) {
            let _ = Units::parse(&text);
        }
    }
}
