//! Tables for people.

/// Lays rows out in columns as wide as their widest cell; the last column is not padded, and one that is empty left out.
#[must_use]
pub fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
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
