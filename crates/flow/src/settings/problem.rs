//! A mistake in a configuration, with all an operator needs to mend it.

use super::section::Span;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Probably not what was meant; the start goes on.
    Warning,
    /// The start is refused.
    Error,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands, if it stands anywhere.
    pub span: Option<Span>,
    /// The full key, such as `a1.sources.r1.port`.
    pub key: String,
    /// The value as written; never of a secret.
    pub value: Option<String>,
    /// What is wrong, a lower-case sentence without full stop.
    pub message: String,
    /// What is allowed there.
    pub allowed: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// Whether the component works as if the key were not there; so Flume takes unknown keys.
    pub ignorable: bool,
}

impl Problem {
    /// A problem with a key as a whole.
    pub fn new(severity: Severity, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity,
            span: None,
            key: key.into(),
            value: None,
            message: message.into(),
            allowed: None,
            help: None,
            ignorable: false,
        }
    }

    /// With the place.
    #[must_use]
    pub fn at(mut self, span: Option<Span>) -> Self {
        self.span = span;
        self
    }

    /// With the value as written.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// With what is allowed.
    #[must_use]
    pub fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }

    /// As one that can be ignored.
    #[must_use]
    pub fn ignorable(mut self) -> Self {
        self.ignorable = true;
        self
    }

    /// With what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All problems found so far.
#[derive(Debug, Clone, Default)]
pub struct Report {
    problems: Vec<Problem>,
}

impl Report {
    /// An empty report.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a problem; the same one twice counts once.
    pub fn push(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The problems in the order in which they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The problems; the report is empty afterwards.
    pub fn take(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    /// Whether the start has to be refused.
    pub fn has_errors(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }
}
