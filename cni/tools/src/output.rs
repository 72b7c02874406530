//! Writing to people. A reader that has gone (`| head`) is no failure.

use std::{
    fmt::Display,
    io::{self, Write},
};

use clap::ValueEnum;
use serde::Serialize;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Prints a value in one of its forms.
///
/// # Errors
/// When it cannot be written.
pub fn print(format: Format, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), String> {
    let text = match format {
        Format::Text => text(),
        Format::Json => serde_json::to_string_pretty(value).map_err(|error| error.to_string())? + "\n",
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}

/// Says a line on standard error.
pub fn complain(text: impl Display) {
    // Where not even this can be written there is nobody left to tell.
    let _ = io::stderr().write_all(format!("fairlead: {text}\n").as_bytes());
}
