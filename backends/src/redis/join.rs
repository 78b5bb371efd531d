//! Waiting for several futures at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Polls all of them until each has ended; their results in their order.
pub(crate) async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    let mut results: Vec<_> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, result) in running.iter_mut().zip(&mut results) {
            let Some(pinned) = future else { continue };
            if let Poll::Ready(output) = Pin::as_mut(pinned).poll(context) {
                (*future, *result) = (None, Some(output));
            }
        }
        if running.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, ready, yield_now};

    use super::*;

    #[test]
    fn results_keep_their_order() {
        let slow = async |turns: u32| {
            for _ in 0..turns {
                yield_now().await;
            }
            turns
        };
        assert_eq!(block_on(join_all([3, 0, 2].map(slow))), [3, 0, 2]);
        assert_eq!(block_on(join_all(Vec::<std::future::Ready<()>>::new())), []);
        assert_eq!(block_on(join_all([ready(1)])), [1]);
    }
}
