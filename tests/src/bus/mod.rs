//! The cases.

mod basics;

use crate::harness::BusHarness;
use crate::suite::{Case, cases};

pub(crate) const CASES: &[Case<dyn BusHarness>] = cases![basics::an_empty_batch_does_nothing,];
