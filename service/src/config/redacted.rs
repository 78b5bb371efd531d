//! URLs as people may see them.

use std::fmt;

/// A URL without its secrets: the scheme and `host[:port]`, nothing of what may hold a password.
#[derive(Clone, Copy)]
pub(crate) struct Redacted<'a>(pub(crate) &'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once(':').filter(|(scheme, _)| is_scheme(scheme))
        else {
            return f.write_str("***");
        };
        let (slashes, rest) = rest.strip_prefix("//").map_or(("", rest), |rest| ("//", rest));
        // Up to the last `@`: a password may hold any character.
        let (secret, rest) =
            rest.rsplit_once('@').map_or((None, rest), |(secret, rest)| (Some(secret), rest));
        let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // An `@` after a `?` may itself be a part of the password.
        let hidden = secret.is_some_and(|secret| secret.contains(['?', '#']));
        match (hidden || !place.split(',').all(is_place), secret) {
            (true, _) => write!(f, "{scheme}:{slashes}***"),
            (false, Some(_)) => write!(f, "{scheme}:{slashes}***@{place}"),
            (false, None) => write!(f, "{scheme}:{slashes}{place}"),
        }
    }
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether it is what RFC 3986 calls a scheme: a part of a password before a colon mostly is not.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Whether it is `host[:port]`, and not `user:password`.
fn is_place(text: &str) -> bool {
    let after_bracket = text.rsplit_once(']').map_or(text, |(_, after)| after);
    let port = after_bracket.split_once(':').map_or("", |(_, port)| port);
    port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_and_place_are_shown_and_nothing_secret() {
        for (url, shown) in [
            ("memory:", "memory:"),
            ("redis://h", "redis://h"),
            ("redis://h:6379/0", "redis://h:6379"),
            ("redis://[::1]:6379", "redis://[::1]:6379"),
            ("nats://a:1,b:2", "nats://a:1,b:2"),
            ("redis://user:secretpw@h:6379/0", "redis://***@h:6379"),
            ("redis://user:secret@pw/secret@h:6379", "redis://***@h:6379"),
            ("redis:user:secretpw@h", "redis:***@h"),
            ("redis:user:secretpw", "redis:***"),
            ("redis://user:secretpw", "redis://***"),
            ("redis://h:6379?password=secretpw", "redis://h:6379"),
            ("redis://h#secretpw", "redis://h"),
            ("redis://h?password=secret@pw", "redis://***"),
            ("redis://user:secret?pw@h", "redis://***"),
            ("secretpw@h:6379", "***"),
            ("secretpw", "***"),
        ] {
            assert_eq!(Redacted(url).to_string(), shown, "{url}");
            assert_eq!(format!("{:?}", Redacted(url)), shown, "{url}");
        }
    }
}
