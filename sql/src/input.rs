//! The tokens of one statement, taken one by one, with PostgreSQL's words for what does not fit.
//!
//! Every parser here takes an [`Input`] that stands at its first token and leaves it after its last.
//! Queries and expressions are handed to sqlparser, whose errors come back as ours. Words are
//! matched by their text, so that a keyword of ours need not be one of sqlparser's.

use boathouse_catalog::types::ColumnType;
use sqlparser::ast::{Expr, Query};
use sqlparser::parser::{Parser, ParserError, ParserOptions};
use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use crate::error::ParseError;
use crate::name::{QualifiedName, is_reserved};
use crate::source::{Source, end_position, is_word, position, too_complex};
use crate::statement::query::Refused;

/// Levels of sqlparser's own recursion. The stack it needs is grown by the crate `recursive`; the
/// depth of what comes out is limited by [`crate::source`].
const RECURSION_MAX: usize = 1_000;
/// What one such level may take before the stack is looked at again.
const STACK_LEVEL_BYTES_MAX: usize = 512 * 1024;

/// The tokens of one statement.
pub(crate) struct Input<'a> {
    parser: Parser<'a>,
    source: &'a Source<'a>,
    /// The same tokens as the parser's.
    tokens: &'a [TokenWithSpan],
    /// What stands where the tokens end: nothing, or the clause that follows a cut-out query.
    end: &'a TokenWithSpan,
    /// The position just past the last token.
    end_position: usize,
}

const END: &TokenWithSpan = &TokenWithSpan {
    token: Token::EOF,
    span: Span::empty(),
};

impl<'a> Input<'a> {
    pub(crate) fn new(source: &'a Source<'a>, tokens: &'a [TokenWithSpan]) -> Self {
        // Some of sqlparser's ways from one level to the next take more than the usual 128 KiB.
        recursive::set_minimum_stack_size(STACK_LEVEL_BYTES_MAX);
        let end_position = tokens.last().map_or(source.len() + 1, end_position);
        let options = ParserOptions::new().with_unescape(true);
        let parser = Parser::new(&source.dialect)
            .with_options(options)
            .with_recursion_limit(RECURSION_MAX)
            .with_tokens_with_locations(tokens.to_vec());
        Self {
            parser,
            source,
            tokens,
            end: END,
            end_position,
        }
    }

    // What comes next.

    pub(crate) fn peek(&self) -> &'a TokenWithSpan {
        self.peek_nth(0)
    }

    pub(crate) fn peek_nth(&self, n: usize) -> &'a TokenWithSpan {
        self.tokens.get(self.parser.index() + n).unwrap_or(END)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.peek().token == Token::EOF
    }

    pub(crate) fn peek_keyword(&self, word: &str) -> bool {
        is_word(self.peek(), word)
    }

    pub(crate) fn peek_keywords(&self, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(n, word)| is_word(self.peek_nth(n), word))
    }

    pub(crate) fn peek_symbol(&self, symbol: &Token) -> bool {
        self.peek().token == *symbol
    }

    // Taking.

    pub(crate) fn advance(&mut self) {
        self.parser.advance_token();
    }

    /// The position of the next token, from 1.
    pub(crate) fn position(&self) -> usize {
        let next = if self.is_at_end() {
            self.end
        } else {
            self.peek()
        };
        if next.token == Token::EOF {
            self.end_position
        } else {
            position(next)
        }
    }

    /// Takes the word if it comes next.
    pub(crate) fn keyword(&mut self, word: &str) -> bool {
        let found = self.peek_keyword(word);
        if found {
            self.advance();
        }
        found
    }

    /// Takes the words if all of them come next.
    pub(crate) fn keywords(&mut self, words: &[&str]) -> bool {
        let found = self.peek_keywords(words);
        if found {
            words.iter().for_each(|_| self.advance());
        }
        found
    }

    /// Takes whichever of the words comes next.
    pub(crate) fn one_of(&mut self, words: &[&'static str]) -> Option<&'static str> {
        let found = words.iter().copied().find(|word| self.peek_keyword(word));
        if found.is_some() {
            self.advance();
        }
        found
    }

    pub(crate) fn expect_keyword(&mut self, word: &str) -> Result<(), ParseError> {
        if self.keyword(word) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub(crate) fn expect_keywords(&mut self, words: &[&str]) -> Result<(), ParseError> {
        words.iter().try_for_each(|word| self.expect_keyword(word))
    }

    pub(crate) fn expect_one_of(
        &mut self,
        words: &[&'static str],
    ) -> Result<&'static str, ParseError> {
        self.one_of(words).ok_or_else(|| self.unexpected())
    }

    pub(crate) fn symbol(&mut self, symbol: &Token) -> bool {
        let found = self.peek_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    pub(crate) fn expect_symbol(&mut self, symbol: &Token) -> Result<(), ParseError> {
        if self.symbol(symbol) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub(crate) fn comma(&mut self) -> bool {
        self.symbol(&Token::Comma)
    }

    pub(crate) fn finish(&self) -> Result<(), ParseError> {
        if self.is_at_end() {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    /// `IF EXISTS`.
    pub(crate) fn if_exists(&mut self) -> bool {
        self.keywords(&["IF", "EXISTS"])
    }

    /// `IF NOT EXISTS`.
    pub(crate) fn if_not_exists(&mut self) -> bool {
        self.keywords(&["IF", "NOT", "EXISTS"])
    }

    /// `CASCADE` or `RESTRICT` or neither.
    pub(crate) fn cascade(&mut self) -> bool {
        self.one_of(&["CASCADE", "RESTRICT"]) == Some("CASCADE")
    }

    // Names and literals.

    /// A name of a column, relation or other object: any word PostgreSQL does not reserve.
    pub(crate) fn identifier(&mut self) -> Result<String, ParseError> {
        let name = match &self.peek().token {
            Token::Word(word)
                if word.quote_style.is_some() || !is_reserved(&word.value.to_ascii_uppercase()) =>
            {
                word.value.clone()
            }
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(name)
    }

    /// A word where a reserved one is allowed too: PostgreSQL's `ColLabel`.
    pub(crate) fn label(&mut self) -> Result<String, ParseError> {
        let Token::Word(word) = &self.peek().token else {
            return Err(self.unexpected());
        };
        let label = word.value.clone();
        self.advance();
        Ok(label)
    }

    pub(crate) fn identifiers(&mut self) -> Result<Vec<String>, ParseError> {
        self.list(Self::identifier)
    }

    /// `(a, b)`.
    pub(crate) fn parenthesized_identifiers(&mut self) -> Result<Vec<String>, ParseError> {
        self.parenthesized(Self::identifiers)
    }

    /// `(a, b)` if it comes next, otherwise nothing.
    pub(crate) fn optional_identifiers(&mut self) -> Result<Vec<String>, ParseError> {
        if self.peek_symbol(&Token::LParen) {
            self.parenthesized_identifiers()
        } else {
            Ok(Vec::new())
        }
    }

    /// `name`, `schema.name` or `catalog.schema.name`.
    pub(crate) fn qualified_name(&mut self) -> Result<QualifiedName, ParseError> {
        let first = self.identifier()?;
        if !self.symbol(&Token::Period) {
            return Ok(QualifiedName::bare(first));
        }
        let second = self.label()?;
        if !self.symbol(&Token::Period) {
            return Ok(QualifiedName::in_schema(first, second));
        }
        let name = self.label()?;
        if self.peek_symbol(&Token::Period) {
            return Err(self.improper_name());
        }
        Ok(QualifiedName {
            catalog: Some(first),
            schema: Some(second),
            name,
        })
    }

    fn improper_name(&self) -> ParseError {
        ParseError::new(
            ParseError::SYNTAX_ERROR,
            "improper qualified name (too many dotted names)",
        )
        .at(self.position())
    }

    pub(crate) fn qualified_names(&mut self) -> Result<Vec<QualifiedName>, ParseError> {
        self.list(Self::qualified_name)
    }

    pub(crate) fn string(&mut self) -> Result<String, ParseError> {
        let Token::SingleQuotedString(text) = &self.peek().token else {
            return Err(self.unexpected());
        };
        let text = text.clone();
        self.advance();
        Ok(text)
    }

    pub(crate) fn peek_string(&self) -> bool {
        matches!(self.peek().token, Token::SingleQuotedString(_))
    }

    /// A number with its sign, as it was written.
    pub(crate) fn number(&mut self) -> Result<String, ParseError> {
        let sign_comes = self.peek_symbol(&Token::Minus) || self.peek_symbol(&Token::Plus);
        let next = if sign_comes {
            self.peek_nth(1)
        } else {
            self.peek()
        };
        let Token::Number(digits, _) = &next.token else {
            return Err(self.unexpected());
        };
        let mut number = digits.clone();
        if sign_comes {
            if self.peek_symbol(&Token::Minus) {
                number.insert(0, '-');
            }
            self.advance();
        }
        self.advance();
        Ok(number)
    }

    pub(crate) fn peek_number(&self) -> bool {
        let sign = self.peek_symbol(&Token::Minus) || self.peek_symbol(&Token::Plus);
        matches!(self.peek_nth(usize::from(sign)).token, Token::Number(..))
    }

    /// A whole number with its sign.
    pub(crate) fn integer(&mut self) -> Result<i64, ParseError> {
        let unexpected = self.unexpected();
        let number = self.number()?;
        number.parse().map_err(|_| unexpected)
    }

    // Lists.

    pub(crate) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = vec![item(self)?];
        while self.comma() {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(crate) fn parenthesized<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        self.expect_symbol(&Token::LParen)?;
        let value = inner(self)?;
        self.expect_symbol(&Token::RParen)?;
        Ok(value)
    }

    // What sqlparser reads.

    /// Runs a parser of sqlparser's.
    pub(crate) fn with_parser<T>(
        &mut self,
        parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>,
    ) -> Result<T, ParseError> {
        parse(&mut self.parser).map_err(|error| self.translate(error))
    }

    pub(crate) fn expression(&mut self) -> Result<Expr, ParseError> {
        self.with_parser(Parser::parse_expr)
    }

    /// `(expression)`.
    pub(crate) fn parenthesized_expression(&mut self) -> Result<Expr, ParseError> {
        self.parenthesized(Self::expression)
    }

    pub(crate) fn query(&mut self) -> Result<Box<Query>, ParseError> {
        let query = self.with_parser(Parser::parse_query)?;
        self.check(&query)?;
        Ok(query)
    }

    /// Refuses what sqlparser took for a query, and is none.
    pub(crate) fn check(&self, query: &Query) -> Result<(), ParseError> {
        crate::statement::query::check(query).map_err(|refused| match refused {
            Refused::Error(error) => error,
            Refused::ReservedWord(column) => self
                .token_at(column)
                .map_or_else(|| self.unexpected(), |token| self.error_near(token)),
        })
    }

    fn token_at(&self, column: u64) -> Option<&'a TokenWithSpan> {
        let index = self
            .tokens
            .binary_search_by_key(&column, |token| token.span.start.column);
        index.ok().and_then(|index| self.tokens.get(index))
    }

    /// A query that ends before the first token at its own level for which `ends` holds.
    pub(crate) fn query_until(
        &mut self,
        ends: impl Fn(&Self, usize) -> bool,
    ) -> Result<Box<Query>, ParseError> {
        self.until(ends, Self::query)
    }

    /// An expression that ends before the first token at its own level for which `ends` holds.
    pub(crate) fn expression_until(
        &mut self,
        ends: impl Fn(&Self, usize) -> bool,
    ) -> Result<Expr, ParseError> {
        self.until(ends, Self::expression)
    }

    fn until<T>(
        &mut self,
        ends: impl Fn(&Self, usize) -> bool,
        parse: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        let mut count = 0;
        let mut depth = 0_usize;
        loop {
            match self.peek_nth(count).token {
                Token::EOF => break,
                _ if depth == 0 && ends(self, count) => break,
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            count += 1;
        }
        let start = self.parser.index();
        let tokens = self.tokens.get(start..start + count).unwrap_or_default();
        let mut part = Input::new(self.source, tokens);
        part.end_position = self.end_position;
        part.end = self.tokens.get(start + count).unwrap_or(self.end);
        let value = parse(&mut part)?;
        part.finish()?;
        (0..count).for_each(|_| self.advance());
        Ok(value)
    }

    /// The source text from a position to the last token taken.
    pub(crate) fn text_since(&self, start: usize) -> &'a str {
        let last = self
            .parser
            .index()
            .checked_sub(1)
            .and_then(|last| self.tokens.get(last));
        last.map_or("", |last| self.source.between(start, end_position(last)))
    }

    // Errors.

    /// The next token does not fit.
    pub(crate) fn unexpected(&self) -> ParseError {
        self.error_near(self.peek())
    }

    pub(crate) fn error_near(&self, token: &TokenWithSpan) -> ParseError {
        let token = if token.token == Token::EOF {
            self.end
        } else {
            token
        };
        if token.token == Token::EOF {
            return ParseError::new(ParseError::SYNTAX_ERROR, "syntax error at end of input")
                .at(self.end_position);
        }
        let text = self.source.of(token);
        ParseError::new(
            ParseError::SYNTAX_ERROR,
            format!("syntax error at or near \"{text}\""),
        )
        .at(position(token))
    }

    /// An error in sqlparser's words, which end with the place, in ours.
    fn translate(&self, error: ParserError) -> ParseError {
        let message = match error {
            ParserError::RecursionLimitExceeded => return too_complex().at(self.position()),
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        };
        if message.contains("found: EOF") {
            return self.error_near(END);
        }
        let place = message
            .rsplit_once(" at Line: 1, Column: ")
            .and_then(|(_, column)| column.trim().parse::<u64>().ok());
        let found = place.and_then(|column| self.token_at(column));
        found.map_or_else(|| self.unexpected(), |token| self.error_near(token))
    }

    // Types.

    /// A type name with its modifiers, as PostgreSQL writes it.
    pub(crate) fn column_type(&mut self) -> Result<ColumnType, ParseError> {
        crate::column_type::parse(self)
    }
}
