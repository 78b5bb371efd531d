//! The one place where the project takes randomness from the machine.

use std::fmt::Write;

/// A seed of this process's own, for jitter, hashes and message ids.
///
/// # Errors
/// The machine has no randomness to give.
pub(crate) fn seed() -> Result<u64, getrandom::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A new id: 24 hexadecimal digits, as long as a `MongoDB` `ObjectId`, which ids store inline.
///
/// # Errors
/// The machine has no randomness to give.
pub(crate) fn id() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 12];
    getrandom::fill(&mut bytes)?;
    let mut id = String::with_capacity(24);
    for byte in bytes {
        // A `String` takes everything that is written to it.
        let _ = write!(id, "{byte:02x}");
    }
    Ok(id)
}
