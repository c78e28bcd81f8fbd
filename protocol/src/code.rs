//! The pairing code: twelve digits, `4821 7739 0515`.
//!
//! Four locate the pending pairing and are public, seven are the secret, the last checks the others, so that a slip is
//! found before any network is used.

use std::fmt;

use crate::secret::Secret;

/// Digits of the locator.
pub const LOCATOR: usize = 4;
/// Digits of the secret.
pub const SECRET: usize = 7;

/// A code whose check digit is right.
#[derive(Clone, Eq, PartialEq)]
pub struct Code {
    digits: Secret,
}

/// Why some text is no code.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoCode {
    /// Letters are never part of it.
    #[error("it has a letter")]
    Letter,
    /// Neither is anything but digits, white space and dashes.
    #[error("it has something that is no digit")]
    Other,
    /// Fewer or more than twelve.
    #[error("it has not twelve digits")]
    Length,
    /// The last digit does not check the others.
    #[error("a digit is mistyped (the last one checks the others)")]
    Check,
}

impl Code {
    /// Reads what a person typed or copied from a page: white space and dashes do not matter.
    ///
    /// # Errors
    /// With the reason why it is none.
    pub fn parse(text: &str) -> Result<Code, NoCode> {
        let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        if let Some(other) = digits.chars().find(|c| !c.is_ascii_digit()) {
            return Err(if other.is_alphabetic() { NoCode::Letter } else { NoCode::Other });
        }
        if digits.len() != LOCATOR + SECRET + 1 {
            return Err(NoCode::Length);
        }
        if damm(&digits) != 0 {
            return Err(NoCode::Check);
        }
        Ok(Code { digits: Secret::new(digits) })
    }

    /// The code of a locator and a secret, with its check digit; `None` unless they are four and seven digits.
    #[must_use]
    pub fn new(locator: &str, secret: &str) -> Option<Code> {
        let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(locator, LOCATOR) || !digits(secret, SECRET) {
            return None;
        }
        let body = format!("{locator}{secret}");
        // The quasigroup's diagonal is zero: the digit that ends in 0 is the state itself.
        let check = damm(&body);
        Some(Code { digits: Secret::new(format!("{body}{check}")) })
    }

    /// The public part.
    #[must_use]
    pub fn locator(&self) -> &str {
        &self.digits.expose()[..LOCATOR]
    }

    /// The secret part: what SPAKE2 takes as password.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.digits.expose()[LOCATOR..LOCATOR + SECRET]
    }

    /// The whole, as it is shown to the one who asked for it: three groups of four.
    #[must_use]
    pub fn expose(&self) -> Secret {
        let digits = self.digits.expose();
        Secret::new(format!("{} {} {}", &digits[..4], &digits[4..8], &digits[8..]))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} …)", self.locator())
    }
}

/// The check digit of Damm's code, which finds every wrong digit and every swap of neighbours; 0 over digits that end
/// with theirs. H. M. Damm, "Total anti-symmetrische Quasigruppen", 2004: the quasigroup of order 10.
fn damm(digits: &str) -> u8 {
    const TABLE: [[u8; 10]; 10] = [
        [0, 3, 1, 7, 5, 9, 8, 6, 4, 2],
        [7, 0, 9, 2, 1, 5, 4, 8, 6, 3],
        [4, 2, 0, 6, 8, 7, 1, 3, 5, 9],
        [1, 7, 5, 0, 9, 8, 3, 4, 2, 6],
        [6, 1, 2, 3, 0, 4, 5, 9, 7, 8],
        [3, 6, 7, 4, 2, 0, 9, 5, 8, 1],
        [5, 8, 6, 9, 7, 2, 0, 1, 3, 4],
        [8, 9, 4, 5, 3, 6, 2, 0, 1, 7],
        [9, 4, 3, 8, 6, 1, 7, 2, 0, 5],
        [2, 5, 8, 1, 4, 3, 6, 7, 9, 0],
    ];
    digits
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0, |state, digit| TABLE[state as usize][(digit - b'0') as usize])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_type() {
        for (text, expected) in [
            ("4821 7739 0515", Ok(("4821", "7739051"))),
            ("482177390515", Ok(("4821", "7739051"))),
            (" 4821-7739-0515 ", Ok(("4821", "7739051"))),
            ("0000 0000 0000", Ok(("0000", "0000000"))),
            ("4821 7739 0516", Err(NoCode::Check)),
            ("4812 7739 0515", Err(NoCode::Check)),
            ("4821 7739 051", Err(NoCode::Length)),
            ("4821 7739 05155", Err(NoCode::Length)),
            ("", Err(NoCode::Length)),
            ("4821 7739 O515", Err(NoCode::Letter)),
            ("４８２１ 7739 0515", Err(NoCode::Other)),
            ("4821.7739.0515", Err(NoCode::Other)),
            ("4821\t7739 0515", Ok(("4821", "7739051"))),
            ("4821\u{a0}7739\u{a0}0515", Ok(("4821", "7739051"))),
        ] {
            let read = Code::parse(text);
            let parts = read.as_ref().map(|code| (code.locator(), code.secret())).map_err(|error| *error);
            assert_eq!(parts, expected, "{text:?}");
        }
    }

    #[test]
    fn every_slip_of_one_digit_and_every_swap_of_neighbours_is_found() {
        let codes = [
            ("4821", "7739051"),
            ("0000", "0000000"),
            ("9999", "9999999"),
            ("0123", "4567890"),
            ("1100", "2299338"),
        ];
        let (mut slips, mut swaps) = (0, 0);
        for (locator, secret) in codes {
            let right = Code::new(locator, secret).unwrap().digits.expose().as_bytes().to_vec();
            let is_found =
                |digits: Vec<u8>| Code::parse(&String::from_utf8(digits).unwrap()) == Err(NoCode::Check);
            for at in 0..right.len() {
                for digit in (b'0'..=b'9').filter(|digit| *digit != right[at]) {
                    let mut wrong = right.clone();
                    wrong[at] = digit;
                    assert!(is_found(wrong), "{locator} {secret}: digit {at} as {}", digit as char);
                    slips += 1;
                }
                if at > 0 && right[at] != right[at - 1] {
                    let mut wrong = right.clone();
                    wrong.swap(at - 1, at);
                    assert!(is_found(wrong), "{locator} {secret}: digits {at} and the one before swapped");
                    swaps += 1;
                }
            }
        }
        assert_eq!(slips, codes.len() * 12 * 9);
        assert!(swaps > 20, "{swaps} swaps");
    }

    #[test]
    fn test_vectors() {
        let vectors: Vec<_> = [
            ("4821", "7739051"),
            ("0000", "0000000"),
            ("9999", "9999999"),
            ("0123", "4567890"),
            ("9081", "3000000"),
        ]
        .into_iter()
        .map(|(locator, secret)| {
            let code = Code::new(locator, secret).unwrap();
            serde_json::json!({ "locator": locator, "secret": secret, "code": code.expose().expose() })
        })
        .collect();
        crate::testdata::assert_file("codes.json", &vectors.into());
    }

    #[test]
    fn neither_secret_nor_check_digit_is_shown() {
        let code = Code::new("4821", "7739051").unwrap();
        assert_eq!(format!("{code:?}"), "Code(4821 …)");
        assert_eq!(code.expose().expose(), "4821 7739 0515");
        assert_eq!(Code::new("482", "17739051"), None);
        assert_eq!(Code::new("4821", "77390 1"), None);
    }

    proptest! {
        #[test]
        fn a_new_code_reads_back(locator in "[0-9]{4}", secret in "[0-9]{7}") {
            let code = Code::new(&locator, &secret).unwrap();
            let read = Code::parse(code.expose().expose()).unwrap();
            prop_assert_eq!((read.locator(), read.secret()), (locator.as_str(), secret.as_str()));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Code::parse(&text);
        }
    }
}
