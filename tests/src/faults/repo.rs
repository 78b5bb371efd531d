//! An order repository with faults. It loses nothing: a repository must not.

use std::sync::Arc;

use async_trait::async_trait;
use expirer_core::{
    Change, OrderId, OrderRepo, Outcome, OverdueOptions, Record, RepoCapabilities, Result,
};

use super::{Faults, Service};

#[derive(Debug)]
pub(super) struct FaultyRepo {
    pub(super) faults: Faults,
    pub(super) inner: Arc<dyn OrderRepo>,
}

#[async_trait]
impl OrderRepo for FaultyRepo {
    async fn load(&self, ids: &[OrderId]) -> Result<Vec<Option<Record>>> {
        self.faults.around(Service::Repo, self.inner.load(ids)).await
    }

    async fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        self.faults.around(Service::Repo, self.inner.commit(changes)).await
    }

    async fn overdue(&self, options: OverdueOptions) -> Result<Vec<Record>> {
        self.faults.around(Service::Repo, self.inner.overdue(options)).await
    }

    fn capabilities(&self) -> RepoCapabilities {
        self.inner.capabilities()
    }
}
