//! Many cases of one test, several at a time, all of them tried, each named when it fails.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::figures::say;
use crate::run::{Kind, slot};

/// Tries every case, each with a slot of its own for a container. `name` says which one it is.
///
/// # Panics
/// At the end, with everything that went wrong.
pub fn for_each<T: Send>(
    test: &str,
    cases: Vec<T>,
    name: impl Fn(&T) -> String + Sync,
    try_one: impl Fn(T) -> Result<()> + Sync,
) {
    let count = cases.len();
    let workers = thread::available_parallelism().map_or(2, std::num::NonZero::get) + 1;
    let queue = Mutex::new(VecDeque::from(cases));
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers.min(count) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(case) = next else { break };
                    let name = name(&case);
                    let slot = slot(Kind::Container);
                    let start = Instant::now();
                    let result = catch_unwind(AssertUnwindSafe(|| slot.and_then(|_slot| try_one(case))));
                    let failure = match result {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) => Some(format!("{error:#}")),
                        Err(panic) => Some(words_of(&*panic).to_owned()),
                    };
                    let seconds = start.elapsed().as_secs_f64();
                    let verdict = if failure.is_some() { "FAILED" } else { "ok" };
                    say(&format!("  {test}: {name} ... {verdict} ({seconds:.1} s)"));
                    if let Some(failure) = failure {
                        failures
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(format!("* {name}: {failure}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failures.is_empty(), "{} of {count} cases failed\n{}", failures.len(), failures.join("\n\n"));
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
}
