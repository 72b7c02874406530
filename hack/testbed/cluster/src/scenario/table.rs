//! Tables for people.

/// Columns as wide as their longest cell, two spaces between them.
pub(super) fn draw(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    std::iter::once(line(&head)).chain(rows.iter().map(|row| line(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::draw;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = [vec!["left".to_owned(), "a".to_owned()], vec!["x".to_owned(), "long cell".to_owned()]];
        assert_eq!(draw(&["POD", "B"], &rows), "  POD   B\n  left  a\n  x     long cell\n");
    }
}
