//! Results on the standard output: a reader that goes away, such as `| head`, ends them quietly.

use std::io::{self, BufWriter, ErrorKind, Write};
use tidemill_state::{Error, Result};

/// Results, line by line.
pub(super) struct Output {
    out: BufWriter<io::StdoutLock<'static>>,
    read: bool,
}

impl Output {
    pub(super) fn new() -> Output {
        Output { out: BufWriter::with_capacity(64 << 10, io::stdout().lock()), read: true }
    }

    /// Prints one line. Gives false once nobody reads any more.
    ///
    /// # Errors
    /// Kind TryAgain: it cannot be written.
    pub(super) fn line(&mut self, line: impl std::fmt::Display) -> Result<bool> {
        if self.read {
            let written = writeln!(self.out, "{line}");
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
            Err(why) => Err(Error::try_again(format!("the standard output cannot be written: {why}"))),
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

/// Rows in columns as wide as their widest cell, indented.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
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
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, worth)| bytes >= *worth) {
        Some((unit, worth)) => format!("{:.1} {unit}", bytes as f64 / *worth as f64),
        None => format!("{bytes} B"),
    }
}

/// A type's name without the modules that it lies in.
pub(super) fn short_type(name: &str) -> String {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut short = String::new();
    let mut path = String::new();
    for c in name.chars().chain([' ']) {
        if is_path(c) {
            path.push(c);
        } else {
            short += path.rsplit("::").next().unwrap_or_default();
            path.clear();
            short.push(c);
        }
    }
    short.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sizes_and_types_are_short() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1536, 5 << 40].map(size), ["0 B", "1023 B", "1.5 KiB", "5.0 TiB"]);
        assert_eq!(short_type("compact_str::CompactString"), "CompactString");
        assert_eq!(short_type("(alloc::string::String, core::option::Option<u64>)"), "(String, Option<u64>)");
        assert_eq!(short_type("u64"), "u64");
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows = [["a", "1"], ["long", "22"]].map(|row| row.map(String::from));
        assert_eq!(columns(&rows), "  a     1\n  long  22\n");
    }
}
