//! Writing to people. A reader that has gone (`| head`) is no failure.

use std::io::{self, Write};

pub(crate) use fairlead_resource_config::columns;

/// Writes to standard output.
pub(crate) fn write(text: &str) -> io::Result<()> {
    write_on(text).map(drop)
}

/// Writes to standard output; whether there is still a reader.
pub(crate) fn write_on(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes each line of a message to standard error, with this program's name.
pub(crate) fn complain(message: &str) {
    let text: String = message.lines().map(|line| format!("fairlead-config: {line}\n")).collect();
    // Where not even this can be written there is nobody left to tell.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
