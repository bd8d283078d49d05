//! Tables for people: columns as wide as what is in them.

/// Lines under a head; a cell that is empty is shown as `-`. The last column is not padded.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let shown = |cell: &str| if cell.is_empty() { "-".to_owned() } else { cell.to_owned() };
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| row.clone().map(|cell| shown(&cell))));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_is_a_dash() {
        let rows = [["a", "long one", ""], ["bb", "", "x"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(["C", "NAME", "Z"], &rows), "C   NAME      Z\na   long one  -\nbb  -         x\n");
    }
}
