//! Places where a test can end the process, as a power cut would.
//!
//! `BOATHOUSE_FAILPOINT=before_commit` aborts at the first pass, `before_commit:3` at the third. The
//! variable is read once; without it a pass costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Armed {
    name: String,
    passes_left: AtomicU64,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Ends the process here when the test asked for it.
pub(crate) fn hit(name: &str) {
    let armed = ARMED.get_or_init(|| std::env::var("BOATHOUSE_FAILPOINT").ok().and_then(parse));
    if let Some(armed) = armed
        && armed.name == name
        && armed.passes_left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        eprintln!("failpoint \"{name}\" reached, aborting");
        std::process::abort();
    }
}

fn parse(text: String) -> Option<Armed> {
    let (name, nth) = match text.split_once(':') {
        Some((name, nth)) => (name.to_owned(), nth.parse().ok()?),
        None => (text, 1),
    };
    (!name.is_empty()).then(|| Armed {
        name,
        passes_left: AtomicU64::new(nth),
    })
}
