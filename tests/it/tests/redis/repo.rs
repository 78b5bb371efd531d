//! What only a repository on Redis has to stand.

use expirer_conformance::Suite;

pub(crate) fn tests(suite: Suite) -> Suite {
    suite
}
