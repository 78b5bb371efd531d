//! Finds the item that can never be accepted, so that only that one is rejected.

use std::future::Future;
use std::pin::Pin;

use crate::{Error, ErrorKind, Result};

/// A boxed future, as a closure over a slice has to return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Calls `call` with the whole batch; where it fails with [`ErrorKind::Invalid`] or
/// [`ErrorKind::Corrupt`], with its halves, down to the culprit. One result per item, in order.
///
/// A culprit costs at most `2 · log2(n)` further calls. Any other error goes to every item of the
/// call that failed. Items of a call that was halved may have been done, and are done
/// again: `call` has to be idempotent.
///
/// ```
/// use expirer_core::flow::bisect;
/// use expirer_core::{Error, ErrorKind};
///
/// # futures_lite::future::block_on(async {
/// let results = bisect(&[1, 2, 3, 4], |items| {
///     Box::pin(async move {
///         match items.contains(&3) {
///             true => Err(Error::new(ErrorKind::Invalid, "example", "store", "no threes")),
///             false => Ok(()),
///         }
///     })
/// })
/// .await;
/// assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true]);
/// # });
/// ```
pub async fn bisect<'a, T, F>(items: &'a [T], call: F) -> Vec<Result<()>>
where
    T: Sync,
    F: Fn(&'a [T]) -> BoxFuture<'a, Result<()>> + Send + Sync,
{
    bisect_each(items, |part| {
        let done = call(part);
        Box::pin(async move { done.await.map(|()| vec![(); part.len()]) })
    })
    .await
}

/// As [`bisect`], where `call` has an answer for every item.
pub(crate) async fn bisect_each<'a, T, R, F>(items: &'a [T], call: F) -> Vec<Result<R>>
where
    T: Sync,
    R: Send,
    F: Fn(&'a [T]) -> BoxFuture<'a, Result<Vec<R>>> + Send + Sync,
{
    let mut results = Vec::with_capacity(items.len());
    // Depth first and left to right, so that items are done in their order.
    let mut open = if items.is_empty() { Vec::new() } else { vec![items] };
    while let Some(part) = open.pop() {
        match call(part).await {
            Ok(answers) if answers.len() == part.len() => {
                results.extend(answers.into_iter().map(Ok));
            }
            Ok(_) => results.extend(part.iter().map(|_| Err(miscounted()))),
            Err(error) if is_of_one_item(&error) && part.len() > 1 => {
                let (left, right) = part.split_at(part.len() / 2);
                open.extend([right, left]);
            }
            Err(error) => results.extend(part.iter().map(|_| Err(error.clone()))),
        }
    }
    results
}

/// Whether one item alone may be to blame: it can never be accepted, or what is stored under its
/// name cannot be read.
fn is_of_one_item(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Corrupt)
}

fn miscounted() -> Error {
    Error::new(ErrorKind::Corrupt, "flow", "batch", "not one answer for each item")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_lite::future::block_on;
    use proptest::prelude::*;

    use super::*;

    /// Which items fail, and the calls that were made.
    fn run(items: &[u32], bad: &[u32], kind: ErrorKind) -> (Vec<bool>, Vec<Vec<u32>>) {
        let calls = Mutex::new(Vec::new());
        let results = block_on(bisect(items, |part| {
            Box::pin(async {
                calls.lock().unwrap().push(part.to_vec());
                match part.iter().any(|item| bad.contains(item)) {
                    true => Err(Error::new(kind, "test", "call", "bad item")),
                    false => Ok(()),
                }
            })
        }));
        (results.iter().map(Result::is_err).collect(), calls.into_inner().unwrap())
    }

    #[test]
    fn one_in_256_rejects_only_itself_in_few_calls() {
        let items: Vec<u32> = (0..256).collect();
        for kind in [ErrorKind::Invalid, ErrorKind::Corrupt] {
            let (failed, calls) = run(&items, &[77], kind);
            assert_eq!(failed.iter().filter(|failed| **failed).count(), 1);
            assert!(failed[77]);
            assert_eq!(calls.len(), 1 + 2 * 8);
        }
    }

    #[test]
    fn another_error_is_not_halved() {
        let (failed, calls) = run(&[1, 2, 3], &[2], ErrorKind::Unavailable);
        assert_eq!((failed, calls.len()), (vec![true; 3], 1));
        assert_eq!(run(&[], &[], ErrorKind::Invalid), (vec![], vec![]));
    }

    proptest! {
        #[test]
        fn exactly_the_bad_ones_fail(
            items in prop::collection::vec(0..50_u32, 0..64),
            bad in prop::collection::vec(0..50_u32, 0..8),
        ) {
            let (failed, calls) = run(&items, &bad, ErrorKind::Invalid);
            let expected: Vec<bool> = items.iter().map(|item| bad.contains(item)).collect();
            prop_assert_eq!(failed, expected);
            let done: Vec<u32> = calls
                .into_iter()
                .filter(|part| !part.iter().any(|item| bad.contains(item)))
                .flatten()
                .collect();
            let good: Vec<u32> = items.into_iter().filter(|item| !bad.contains(item)).collect();
            prop_assert_eq!(done, good);
        }
    }
}
