//! The CNI protocol as a plugin speaks it: environment, errors, results, versions (CNI specification 0.1.0 to 1.1.0).

pub mod env;
pub mod error;
pub mod gc;
pub mod result;
pub mod version;
