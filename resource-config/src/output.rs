//! Writing to people. A reader that has gone (`| head`) is no failure.

use std::io::{self, Write};

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

/// Lays rows out in columns as wide as their widest cell; the last column is not padded, and one that is empty left out.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).filter(|(_, width)| *width > 0);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "b", "c"], ["└─ ä", "", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), ["a     b  c", "└─ ä     d"]);
        let rows = [["a", "", "c"], ["aa", "", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), ["a   c", "aa  d"]);
    }
}
