//! What people are told beside the answer: standard error, which runtimes log.

use std::{fmt::Display, io::Write};

/// Says a line. Nobody may be listening any more; work goes on then, which must not end halfway.
pub fn say(text: impl Display) {
    let _ = std::io::stderr().write_all(format!("fairlead: {text}\n").as_bytes());
}
