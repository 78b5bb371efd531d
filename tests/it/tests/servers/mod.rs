//! Private servers for tests: on free ports, in temporary folders, gone when dropped.

pub(crate) mod certificates;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod redis_cluster;
