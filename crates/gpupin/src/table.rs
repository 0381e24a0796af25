//! Tables for people: columns as wide as their longest cell, the first row as a heading.

use annotate_snippets::renderer::Style;

/// The lines of a table.
pub(crate) fn table(rows: &[Vec<String>], heading: Style) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|it| it.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let line = line.trim_end();
        let line = match index {
            0 => format!("{heading}{line}{heading:#}"),
            _ => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// An amount of memory for people: `3.2 GiB`.
pub(crate) fn memory(bytes: u64) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10 / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match (tenths / 10, tenths % 10) {
        (0, 0) if bytes == 0 => "0".to_owned(),
        (whole, tenth) if whole < 100 && tenth > 0 => format!("{whole}.{tenth} {}", UNITS[unit]),
        (whole, _) => format!("{whole} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use annotate_snippets::renderer::Style;

    use super::{memory, table};

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["A", "B"], ["long", "x"], ["", "yy"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows, Style::new()), "A     B\nlong  x\n      yy\n");
    }

    #[test]
    fn memory_keeps_its_first_digits() {
        for (bytes, expected) in [
            (0, "0"),
            (512, "0.5 KiB"),
            (1 << 20, "1 MiB"),
            (3_435_973_837, "3.2 GiB"),
            (24 << 30, "24 GiB"),
            (16_311 << 20, "15.9 GiB"),
            (314 << 20, "314 MiB"),
        ] {
            assert_eq!(memory(bytes), expected, "{bytes}");
        }
    }
}
