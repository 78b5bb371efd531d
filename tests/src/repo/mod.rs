//! The cases.

mod basics;

use crate::harness::RepoHarness;
use crate::suite::{Case, cases};

pub(crate) const CASES: &[Case<dyn RepoHarness>] = cases![basics::an_empty_batch_does_nothing,];
