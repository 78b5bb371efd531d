//! Ids as tokens of subjects and as keys of buckets.
//!
//! Letters, digits, `-` and `_` stand for themselves, every other byte for `=` and two hexadecimal
//! digits: at most three bytes for one, and none that a server reads otherwise.

/// Writes an id.
pub(crate) fn token(id: &str) -> String {
    let mut token = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            token.push(char::from(byte));
        } else {
            token.push_str(&format!("={byte:02X}"));
        }
    }
    token
}

/// Reads what [`token`] wrote; `None` for anything else.
pub(crate) fn from_token(token: &str) -> Option<String> {
    let (mut id, mut rest) = (Vec::with_capacity(token.len()), token);
    while let Some((plain, escaped)) = rest.split_once('=') {
        id.extend_from_slice(plain.as_bytes());
        id.push(u8::from_str_radix(escaped.get(..2)?, 16).ok()?);
        rest = &escaped[2..];
    }
    id.extend_from_slice(rest.as_bytes());
    let id = String::from_utf8(id).ok()?;
    (self::token(&id) == token).then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_servers_read_is_escaped() {
        assert_eq!(token("o-1_A"), "o-1_A");
        assert_eq!(token("a.b*>: =/ü"), "a=2Eb=2A=3E=3A=20=3D=2F=C3=BC");
        for wrong in ["a.b", "=", "=4", "=zz", "=2e", "=41", "=FF", "é", "=+1"] {
            assert_eq!(from_token(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_id_comes_back(id in ".{1,40}") {
            prop_assert_eq!(from_token(&token(&id)), Some(id));
        }
    }
}
