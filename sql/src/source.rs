//! From a query string to the tokens of each of its statements.
//!
//! Tokens leave here ready for the parsers: white space and comments are gone, unquoted identifiers
//! are folded and cut, every spelling of a string literal is the plain one, and the span of a token
//! is its character position in the query string (line 1, column = position from 1).
//!
//! Depth is judged here too, before anything recursive sees the text: a tree that is built, printed,
//! planned or dropped by recursion must not be deeper than a thread's stack allows.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{
    Location, Span, Token, TokenWithSpan, Tokenizer, TokenizerError, Whitespace,
};

use crate::dialect::{BoathouseDialect, is_foreign};
use crate::error::ParseError;
use crate::name::truncate_identifier;

/// How many operators deep an expression may be: every one is a level of the tree.
const OPERATOR_DEPTH_MAX: usize = 2_000;
/// How many parentheses and brackets may be open at once.
const NESTING_DEPTH_MAX: usize = 200;
/// A set operation is as deep as this many operators: its level of the tree is that much larger.
const SET_OPERATION_DEPTH: usize = 4;

/// What a thread needs to clone, compare, print and drop the deepest statement that is let through,
/// even in a debug build. Parsing itself grows its stack as it goes.
pub const STACK_BYTES_MIN: usize = 16 * 1024 * 1024;

/// A query string, by characters.
pub(crate) struct Source<'a> {
    text: &'a str,
    /// The byte each character starts at and the end of the text; empty when every character is one
    /// byte.
    character_starts: Vec<usize>,
    /// The character each line starts at.
    line_starts: Vec<usize>,
    pub(crate) dialect: BoathouseDialect,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut line_starts = vec![0];
        let mut character_starts = Vec::new();
        let ascii = text.is_ascii();
        for (index, (byte, character)) in text.char_indices().enumerate() {
            if !ascii {
                character_starts.push(byte);
            }
            if character == '\n' {
                line_starts.push(index + 1);
            }
        }
        if !ascii {
            character_starts.push(text.len());
        }
        Self {
            text,
            character_starts,
            line_starts,
            dialect: BoathouseDialect::new(),
        }
    }

    /// The number of characters.
    pub(crate) fn len(&self) -> usize {
        self.character_starts
            .len()
            .checked_sub(1)
            .unwrap_or(self.text.len())
    }

    /// The text between two positions, both from 1, the second exclusive.
    pub(crate) fn between(&self, start: usize, end: usize) -> &'a str {
        let byte = |position: usize| {
            let index = position.saturating_sub(1);
            if self.character_starts.is_empty() {
                index.min(self.text.len())
            } else {
                self.character_starts
                    .get(index)
                    .copied()
                    .unwrap_or(self.text.len())
            }
        };
        self.text.get(byte(start)..byte(end)).unwrap_or_default()
    }

    /// The text a token was read from.
    pub(crate) fn of(&self, token: &TokenWithSpan) -> &'a str {
        self.between(position(token), end_position(token))
    }

    fn position_at(&self, location: Location) -> usize {
        let line = usize::try_from(location.line.saturating_sub(1)).unwrap_or(0);
        let column = usize::try_from(location.column).unwrap_or(1);
        self.line_starts.get(line).copied().unwrap_or(0) + column
    }

    /// All tokens, statements still together.
    pub(crate) fn tokens(&self) -> Result<Vec<TokenWithSpan>, ParseError> {
        let mut tokens = Vec::new();
        if let Err(error) =
            Tokenizer::new(&self.dialect, self.text).tokenize_with_location_into_buf(&mut tokens)
        {
            let start = tokens
                .last()
                .map_or(1, |last| self.position_at(last.span.end));
            return Err(self.unreadable(&error, start));
        }
        self.prepare(tokens)
    }

    /// The words of PostgreSQL's lexer for what sqlparser's cannot read.
    ///
    /// `position` is where the token that cannot be read starts.
    fn unreadable(&self, error: &TokenizerError, position: usize) -> ParseError {
        let rest = self.between(position, self.len() + 1);
        let message = error.message.to_ascii_lowercase();
        let what = if message.contains("unterminated string literal")
            || message.contains("unterminated encoded string literal")
        {
            "unterminated quoted string"
        } else if message.contains("dollar-quoted") || message.contains("unterminated dollar") {
            "unterminated dollar-quoted string"
        } else if message.contains("comment") {
            "unterminated /* comment"
        } else if message.contains("close delimiter") || message.contains("delimited identifier") {
            "unterminated quoted identifier"
        } else {
            "syntax error"
        };
        if rest.is_empty() {
            return ParseError::new(ParseError::SYNTAX_ERROR, format!("{what} at end of input"))
                .at(position);
        }
        ParseError::new(
            ParseError::SYNTAX_ERROR,
            format!("{what} at or near \"{rest}\""),
        )
        .at(position)
    }

    fn prepare(&self, tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, ParseError> {
        let mut prepared: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
        let mut new_line = false;
        let mut white_space = true;
        for TokenWithSpan { token, span } in tokens {
            if let Token::Whitespace(space) = &token {
                white_space = true;
                new_line |= matches!(
                    space,
                    Whitespace::Newline | Whitespace::SingleLineComment { .. }
                );
                continue;
            }
            let start = self.position_at(span.start);
            let end = self.position_at(span.end);
            let token = self.normal(token, start, end)?;
            match (prepared.last_mut(), &token) {
                // 'a' <newline> 'b' is 'ab', as the SQL standard has it.
                (
                    Some(TokenWithSpan {
                        token: Token::SingleQuotedString(text),
                        span,
                    }),
                    Token::SingleQuotedString(more),
                ) if new_line => {
                    text.push_str(more);
                    span.end = at(end);
                }
                (
                    Some(TokenWithSpan {
                        token: Token::Number(..),
                        span,
                    }),
                    Token::Word(_),
                ) if !white_space => {
                    let from = usize::try_from(span.start.column).unwrap_or(1);
                    return Err(ParseError::new(
                        ParseError::SYNTAX_ERROR,
                        format!(
                            "trailing junk after numeric literal at or near \"{}\"",
                            self.between(from, end)
                        ),
                    )
                    .at(from));
                }
                _ => prepared.push(TokenWithSpan::new(token, Span::new(at(start), at(end)))),
            }
            new_line = false;
            white_space = false;
        }
        Ok(without_table(without_only(without_for(without_at(
            prepared,
        )))))
    }

    /// One spelling for each meaning.
    fn normal(&self, token: Token, start: usize, end: usize) -> Result<Token, ParseError> {
        Ok(match token {
            Token::Word(mut word) => {
                match word.quote_style {
                    None => {
                        word.value.make_ascii_lowercase();
                        if is_foreign(word.keyword) {
                            word.keyword = Keyword::NoKeyword;
                        }
                    }
                    Some(_) if word.value.is_empty() => {
                        return Err(ParseError::new(
                            ParseError::SYNTAX_ERROR,
                            format!(
                                "zero-length delimited identifier at or near \"{}\"",
                                self.between(start, end)
                            ),
                        )
                        .at(start));
                    }
                    // sqlparser would not print these back as they were.
                    Some(_) if word.value.contains("\"\"") || word.value.contains("\\\"") => {
                        return Err(ParseError::unsupported(
                            "an identifier with two consecutive quotes, or a quote after a backslash,",
                        )
                        .at(start));
                    }
                    Some(_) => {}
                }
                let kept = truncate_identifier(&word.value).len();
                word.value.truncate(kept);
                Token::Word(word)
            }
            Token::DollarQuotedString(text) => Token::SingleQuotedString(text.value),
            Token::EscapedStringLiteral(text)
            | Token::UnicodeStringLiteral(text)
            | Token::NationalStringLiteral(text) => Token::SingleQuotedString(text),
            other => other,
        })
    }
}

/// The character position of a token, from 1.
pub(crate) fn position(token: &TokenWithSpan) -> usize {
    usize::try_from(token.span.start.column).unwrap_or(1)
}

/// The character position just past a token.
pub(crate) fn end_position(token: &TokenWithSpan) -> usize {
    usize::try_from(token.span.end.column).unwrap_or(1)
}

fn at(position: usize) -> Location {
    Location::new(1, u64::try_from(position).unwrap_or(u64::MAX))
}

/// Whether the token is this unquoted word. `word` is upper case.
pub(crate) fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(found)
        if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// `AT` is a keyword before `TIME ZONE` only; sqlparser takes it for time travel after a table.
fn without_at(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    for index in 0..tokens.len() {
        let before_time = tokens
            .get(index + 1)
            .is_some_and(|next| is_word(next, "TIME"));
        if let Token::Word(word) = &mut tokens[index].token
            && word.keyword == Keyword::AT
            && !before_time
        {
            word.keyword = Keyword::NoKeyword;
        }
    }
    tokens
}

/// `FOR VERSION AS OF` and `FOR TIMESTAMP AS OF` without the `FOR`, as sqlparser reads them.
fn without_for(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let travels = |index: usize| {
        let word = |offset: usize, word: &str| {
            tokens
                .get(index + offset)
                .is_some_and(|token| is_word(token, word))
        };
        word(0, "FOR")
            && (word(1, "VERSION") || word(1, "TIMESTAMP"))
            && word(2, "AS")
            && word(3, "OF")
    };
    let kept: Vec<bool> = (0..tokens.len()).map(|index| !travels(index)).collect();
    let mut kept = kept.into_iter();
    let mut tokens = tokens;
    tokens.retain(|_| kept.next().unwrap_or(true));
    tokens
}

/// `FROM ONLY t` as `FROM t`: no table has tables that inherit from it.
fn without_only(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let after_from = kept
            .last()
            .is_some_and(|last| is_word(last, "FROM") || is_word(last, "JOIN"));
        if !(after_from && is_word(&token, "ONLY")) {
            kept.push(token);
        }
    }
    kept
}

/// `TABLE t` as `SELECT * FROM t` where a query may begin, which is how PostgreSQL defines it.
fn without_table(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut rewritten: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let begins = match rewritten.last() {
            None => true,
            Some(last) => {
                matches!(last.token, Token::SemiColon | Token::LParen)
                    || ["UNION", "EXCEPT", "INTERSECT", "EXPLAIN", "AS"]
                        .iter()
                        .any(|word| is_word(last, word))
            }
        };
        if begins && is_word(&token, "TABLE") {
            let span = token.span;
            for token in [
                Token::make_keyword("SELECT"),
                Token::Mul,
                Token::make_keyword("FROM"),
            ] {
                rewritten.push(TokenWithSpan::new(token, span));
            }
        } else {
            rewritten.push(token);
        }
    }
    rewritten
}

/// The tokens of each statement that has any.
pub(crate) fn statements(tokens: &[TokenWithSpan]) -> impl Iterator<Item = &[TokenWithSpan]> {
    tokens
        .split(|token| token.token == Token::SemiColon)
        .filter(|tokens| !tokens.is_empty())
}

/// Refuses what would make too deep a tree.
pub(crate) fn check_depth(tokens: &[TokenWithSpan]) -> Result<(), ParseError> {
    // Operators seen at each open level since the last comma, and set operations and joins, which
    // commas do not end.
    let mut levels: Vec<(usize, usize)> = vec![(0, 0)];
    let mut depth = 0;
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => levels.push((0, 0)),
            Token::RParen | Token::RBracket | Token::RBrace => {
                if levels.len() > 1
                    && let Some((operators, sets)) = levels.pop()
                {
                    depth -= operators + sets;
                }
                // A chain of calls and subscripts is deep as well: f(1)(2), a[1][2].
                depth += 1;
                if let Some(level) = levels.last_mut() {
                    level.0 += 1;
                }
            }
            Token::Comma => {
                if let Some(level) = levels.last_mut() {
                    depth -= level.0;
                    level.0 = 0;
                }
            }
            Token::Word(word) => match word.keyword {
                // The branches of a CASE lie side by side, as the items of a list do.
                Keyword::CASE if word.quote_style.is_none() => {
                    depth += 1;
                    levels.push((1, 0));
                }
                Keyword::END if word.quote_style.is_none() && levels.len() > 1 => {
                    if let Some((operators, sets)) = levels.pop() {
                        depth -= operators + sets;
                    }
                }
                Keyword::WHEN | Keyword::THEN | Keyword::ELSE
                    if word.quote_style.is_none() && levels.len() > 1 =>
                {
                    if let Some(level) = levels.last_mut() {
                        depth -= level.0;
                        level.0 = 0;
                    }
                }
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::JOIN
                    if word.quote_style.is_none() =>
                {
                    depth += SET_OPERATION_DEPTH;
                    if let Some(level) = levels.last_mut() {
                        level.1 += SET_OPERATION_DEPTH;
                    }
                }
                Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::NOTNULL
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
                    if word.quote_style.is_none() =>
                {
                    depth += 1;
                    if let Some(level) = levels.last_mut() {
                        level.0 += 1;
                    }
                }
                _ => {}
            },
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => {}
            Token::Period => {}
            _ => {
                depth += 1;
                if let Some(level) = levels.last_mut() {
                    level.0 += 1;
                }
            }
        }
        if depth > OPERATOR_DEPTH_MAX || levels.len() > NESTING_DEPTH_MAX {
            return Err(too_complex().at(position(token)));
        }
    }
    Ok(())
}

/// PostgreSQL's answer to a statement nested too deeply.
pub(crate) fn too_complex() -> ParseError {
    ParseError::new(
        ParseError::STATEMENT_TOO_COMPLEX,
        "stack depth limit exceeded",
    )
    .hint("split the statement, or write long lists with IN (...) or VALUES")
}
