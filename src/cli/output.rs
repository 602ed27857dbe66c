//! Results on the standard output: a reader that goes away, such as `| head`, ends them quietly.

use std::io::{self, BufWriter, ErrorKind, Write};
use tidemill_state::{Error, Result, printable};

/// Results, line by line.
pub(super) struct Output {
    out: BufWriter<io::StdoutLock<'static>>,
    read: bool,
}

impl Output {
    pub(super) fn new() -> Output {
        Output { out: BufWriter::with_capacity(64 << 10, io::stdout().lock()), read: true }
    }

    /// Prints one line, which is JSON or has no control characters. Gives false once nobody reads
    /// any more.
    ///
    /// # Errors
    /// Kind TryAgain: it cannot be written.
    pub(super) fn line(&mut self, line: impl std::fmt::Display) -> Result<bool> {
        if self.read {
            // The same JSON, with nothing in it that a terminal would obey.
            let written = writeln!(self.out, "{}", printable::json(&line.to_string()));
            self.check(written)?;
        }
        Ok(self.read)
    }

    /// Ends the output.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(super) fn end(mut self) -> Result<()> {
        let flushed = self.out.flush();
        self.check(flushed)
    }

    fn check(&mut self, written: io::Result<()>) -> Result<()> {
        match written {
            Ok(()) => Ok(()),
            Err(why) if why.kind() == ErrorKind::BrokenPipe => {
                self.read = false;
                Ok(())
            }
            Err(why) => {
                Err(Error::try_again(format!("the standard output cannot be written: {why}")))
            }
        }
    }
}

/// Prints a text that may have many lines.
///
/// # Errors
/// As [`Output::line`].
pub(super) fn print(text: &str) -> Result<()> {
    let mut output = Output::new();
    output.line(text.trim_end_matches('\n'))?;
    output.end()
}

/// JSON as a person reads it.
pub(super) fn pretty(json: &serde_json::Value) -> String {
    format!("{json:#}")
}

/// Rows in columns as wide as their widest cell, indented. What is in them may come from outside:
/// names of files, errors.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| std::array::from_fn(|column| printable::line(&row[column]).into_owned()))
        .collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += &format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

/// A number with a comma between thousands.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in the unit that suits it.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, worth)| bytes >= *worth) {
        Some((unit, worth)) => format!("{:.1} {unit}", bytes as f64 / *worth as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_short() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1536, 5 << 40].map(size), ["0 B", "1023 B", "1.5 KiB", "5.0 TiB"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows = [["a", "1"], ["long", "22"]].map(|row| row.map(String::from));
        assert_eq!(columns(&rows), "  a     1\n  long  22\n");
        let rows = [["a\u{1b}[2J\nerror: none", "1"]].map(|row| row.map(String::from));
        assert_eq!(columns(&rows), "  a\\u{1b}[2J\\nerror: none  1\n");
    }
}
