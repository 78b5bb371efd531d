//! The bus: the suite, and what servers and strangers do to it.

use expirer_conformance::Suite;

use crate::cluster::ClusterPlace;
use crate::place::Place;
use crate::programs;

pub(crate) fn tests(mut suite: Suite) -> Suite {
    for (name, program) in programs() {
        let (one, three, secured) = (program.clone(), program.clone(), program);
        suite = suite
            .bus(name, move || Place::plain(&one))
            .bus(&format!("{name}-tls"), move || Place::secured(&secured))
            .bus(&format!("{name}-cluster"), move || ClusterPlace::new(&three));
    }
    suite
}
