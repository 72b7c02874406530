//! Container images without a container engine: layers, archives, and the list of what is in them.
//!
//! The same content makes the same bytes: nothing of this machine, of the time, or of the order of files gets in.

pub mod archive;
pub mod layer;
pub mod release;
pub mod sbom;
