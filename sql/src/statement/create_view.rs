//! `CREATE [OR REPLACE] VIEW name [(columns)] AS query`.

use std::fmt;

use crate::ast;
use crate::display::{optional_identifiers, text, when, with_options};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::QualifiedName;
use crate::option::{SqlOption, parse_with_options};
use crate::source::is_word;

/// Makes a view.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub name: QualifiedName,
    /// Names for the query's columns; empty when not given.
    pub columns: Vec<String>,
    /// `WITH (security_barrier, ...)`.
    pub options: Vec<SqlOption>,
    pub query: Box<ast::Query>,
}

impl CreateView {
    /// Stands after `VIEW` in `CREATE [OR REPLACE] VIEW`.
    pub(crate) fn parse(input: &mut Input, or_replace: bool) -> Result<Self, ParseError> {
        let if_not_exists = input.if_not_exists();
        let name = input.qualified_name()?;
        let columns = input.optional_identifiers()?;
        let options = parse_with_options(input)?;
        input.expect_keyword("AS")?;
        let query = input.query_until(|input, index| {
            is_word(input.peek_nth(index), "WITH")
                && ["CHECK", "LOCAL", "CASCADED"]
                    .iter()
                    .any(|word| is_word(input.peek_nth(index + 1), word))
        })?;
        if input.peek_keyword("WITH") {
            return Err(ParseError::unsupported("WITH CHECK OPTION").at(input.position()));
        }
        Ok(Self {
            or_replace,
            if_not_exists,
            name,
            columns,
            options,
            query,
        })
    }
}

impl fmt::Display for CreateView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "CREATE {}VIEW {}{}{}{} AS {}",
            when(self.or_replace, "OR REPLACE "),
            when(self.if_not_exists, "IF NOT EXISTS "),
            self.name,
            optional_identifiers(&self.columns),
            with_options(&self.options),
            text(self.query.as_ref())
        )
    }
}
