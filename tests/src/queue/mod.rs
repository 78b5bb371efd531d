//! The cases.

mod basics;

use crate::harness::QueueHarness;
use crate::suite::{Case, cases};

pub(crate) const CASES: &[Case<dyn QueueHarness>] = cases![basics::an_empty_batch_does_nothing,];
