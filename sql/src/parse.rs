//! From text to statements.

use sqlparser::tokenizer::Token;

use crate::ast;
use crate::error::ParseError;
use crate::input::Input;
use crate::redact::redact;
use crate::source::{self, Source};
use crate::statement::Statement;

/// One statement of a query string.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedStatement {
    /// The source of this statement only, from its first word to its last.
    pub text: String,
    /// Characters of the query string before `text`.
    pub start: usize,
    pub statement: Statement,
}

/// Splits and parses a query string. An empty string, comments and lone `;` give no statement.
///
/// One statement that does not parse fails them all, as in PostgreSQL: nothing of a query string
/// that cannot be read is run.
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>, ParseError> {
    let source = Source::new(sql);
    let tokens = source.tokens()?;
    let mut statements = Vec::new();
    for tokens in source::statements(&tokens) {
        source::check_depth(tokens)?;
        source.dialect.allow(tokens.len());
        let mut input = Input::new(&source, tokens);
        let start = input.position();
        let statement = Statement::parse(&mut input)?;
        input.finish()?;
        let text = input.text_since(start).to_owned();
        statements.push(ParsedStatement {
            text,
            start: start - 1,
            statement,
        });
    }
    Ok(statements)
}

/// Parses one expression, such as a stored `DEFAULT` or `CHECK`.
pub fn parse_expression(text: &str) -> Result<ast::Expr, ParseError> {
    parse_whole(text, |input| input.expression())
}

/// Parses one query, such as a view's.
pub fn parse_query(text: &str) -> Result<Box<ast::Query>, ParseError> {
    parse_whole(text, |input| input.query())
}

/// The words of a text, names and keywords alike, as they are after folding. Empty when it has no tokens.
pub fn words(text: &str) -> Vec<String> {
    let tokens = Source::new(text).tokens().unwrap_or_default();
    tokens
        .into_iter()
        .filter_map(|token| match token.token {
            Token::Word(word) => Some(word.value),
            _ => None,
        })
        .collect()
}

/// Reads the whole text as one thing.
fn parse_whole<T>(
    text: &str,
    parse: impl FnOnce(&mut Input) -> Result<T, ParseError>,
) -> Result<T, ParseError> {
    let source = Source::new(text);
    let tokens = source.tokens()?;
    source::check_depth(&tokens)?;
    source.dialect.allow(tokens.len());
    let mut input = Input::new(&source, &tokens);
    let value = parse(&mut input)?;
    input.finish()?;
    Ok(value)
}

impl ParsedStatement {
    /// The text with passwords and secret values replaced by `'***'`, for logs.
    pub fn redacted(&self) -> String {
        redact(&self.text, &self.statement)
    }
}
