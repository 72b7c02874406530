//! What an operator asks of a node, apart from the executable that every pod pays for. `fairlead` passes these calls on.

pub mod doctor;
pub mod explain_pod;
pub mod finding;
pub mod history;
pub mod migrate;
pub mod output;
pub mod places;
pub mod redact;
pub mod root;
pub mod time;
