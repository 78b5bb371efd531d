//! The timer wheel, what it is compared with, and the timers that they hold.

mod contestants;
mod population;

pub use contestants::{Contestant, OurWheel, PlainMap, TokioQueue};
pub use population::{BATCH, HORIZON, Population, SIZES};
