//! What a run prints: one line for each target and one sum, on standard output.

use std::io::{self, Write};

use anyhow::Result;

/// The sum of a run. Its last line is `N passed, M failed`.
#[derive(Debug, Default)]
pub struct Summary {
    /// Targets without a finding.
    pub passed: usize,
    /// Targets with one.
    pub failed: usize,
}

impl Summary {
    /// Prints the sum.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print(&self) -> Result<()> {
        line(&format!("{} passed, {} failed", self.passed, self.failed))
    }
}

/// Prints one line.
///
/// # Errors
/// Standard output is closed.
pub fn line(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}
