//! Private servers for tests: on ports of their own, in temporary folders, gone when dropped, and
//! gone when the tests are killed.

pub(crate) mod certificates;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod redis_cluster;
