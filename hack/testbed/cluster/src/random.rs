//! Disorder that can be repeated.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

/// Randomness from one seed, shared by all parts of a stand-in.
#[derive(Debug, Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Puts things in random order.
    pub fn shuffle<T>(&self, things: &mut [T]) {
        things.shuffle(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
