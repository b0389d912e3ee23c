//! The text of a statement without what a log must not hold.
//!
//! Three things are hidden: the password of a role, the value of a secret, and every literal given to
//! an option whose name says that it is one (`password`, `secret_access_key`, `token`). The text of
//! other statements is theirs: a password in a `WHERE` cannot be told from a name.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::source::{Source, end_position, is_word, position};
use crate::statement::Statement;

const HIDDEN: &str = "'***'";

/// Hides what must not be logged.
pub(crate) fn redact(text: &str, statement: &Statement) -> String {
    let after: &[&str] = match statement {
        Statement::CreateSecret(_) | Statement::AlterSecret(_) => &["AS"],
        Statement::CreateRole(_) | Statement::AlterRole(_) => &["PASSWORD"],
        Statement::CreateConnection(_)
        | Statement::AlterConnection(_)
        | Statement::CreatePipeline(_)
        | Statement::AlterPipeline(_)
        | Statement::CreateTable(_)
        | Statement::AlterTable(_)
        | Statement::Copy(_)
        | Statement::Set(_) => &[],
        _ => return text.to_owned(),
    };
    let source = Source::new(text);
    match source.tokens() {
        Ok(tokens) => hide(&source, &tokens, after),
        Err(_) => HIDDEN.to_owned(),
    }
}

/// Hides what must not be logged of a query string that is no statement, as far as it can be told:
/// a text that cannot even be split into words is hidden whole.
pub fn redact_unparsed(text: &str) -> String {
    let source = Source::new(text);
    match source.tokens() {
        Ok(tokens) if tokens.iter().any(|token| is_word(token, "SECRET")) => {
            hide(&source, &tokens, &["AS", "PASSWORD"])
        }
        Ok(tokens) => hide(&source, &tokens, &["PASSWORD"]),
        Err(_) => HIDDEN.to_owned(),
    }
}

/// The text with `'***'` for every literal that is hidden.
fn hide(source: &Source, tokens: &[TokenWithSpan], after: &[&str]) -> String {
    let mut redacted = String::new();
    let mut kept_until = 1;
    for (index, token) in tokens.iter().enumerate() {
        if !is_hidden(tokens, index, after) {
            continue;
        }
        redacted.push_str(source.between(kept_until, position(token)));
        redacted.push_str(HIDDEN);
        kept_until = end_position(token);
    }
    redacted.push_str(source.between(kept_until, source.len() + 1));
    redacted
}

/// Whether the token is a literal that stands where a secret does.
fn is_hidden(tokens: &[TokenWithSpan], index: usize, after: &[&str]) -> bool {
    let before = |count: usize| index.checked_sub(count).and_then(|index| tokens.get(index));
    let text = matches!(
        tokens[index].token,
        Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::DollarQuotedString(_)
    );
    if text && before(1).is_some_and(|token| after.iter().any(|word| is_word(token, word))) {
        return true;
    }
    let literal = text || matches!(tokens[index].token, Token::Number(..));
    let name = match before(1) {
        Some(token) if matches!(token.token, Token::Eq | Token::RArrow | Token::Assignment) => {
            before(2)
        }
        token => token,
    };
    literal && name.is_some_and(is_secret_name)
}

fn is_secret_name(token: &TokenWithSpan) -> bool {
    let Token::Word(word) = &token.token else {
        return false;
    };
    let name = word.value.to_ascii_lowercase();
    [
        "password",
        "passphrase",
        "secret",
        "token",
        "private_key",
        "account_key",
        "credential",
    ]
    .iter()
    .any(|part| name.contains(part))
}
