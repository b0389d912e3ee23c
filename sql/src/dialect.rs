//! PostgreSQL as sqlparser reads it, with time travel and without other systems' keywords.
//!
//! sqlparser knows the words of every dialect at once and lets many of them end an expression or
//! refuse to be an alias. [`is_foreign`] lists those PostgreSQL gives no meaning to in a query; the
//! token list treats them as plain names, so that a column called `sample` or `top` works.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};

const POSTGRESQL: PostgreSqlDialect = PostgreSqlDialect {};

/// The dialect every text is read in, and how much more may be tried in reading it.
///
/// Where sqlparser is not sure it tries one way after another, at every level again: some broken texts
/// would take it time exponential in their depth. So the expressions it begins are counted, and the
/// text is given up as too complex when they are many more than its tokens.
#[derive(Debug)]
pub(crate) struct BoathouseDialect {
    attempts_left: Cell<usize>,
}

/// Expressions begun for a token; a text that is read at all needs a handful.
const ATTEMPTS_PER_TOKEN: usize = 64;
const ATTEMPTS_MIN: usize = 10_000;

impl BoathouseDialect {
    pub(crate) fn new() -> Self {
        Self {
            attempts_left: Cell::new(ATTEMPTS_MIN),
        }
    }

    /// Allows what reading so many tokens may take.
    pub(crate) fn allow(&self, tokens: usize) {
        self.attempts_left
            .set(tokens.saturating_mul(ATTEMPTS_PER_TOKEN).max(ATTEMPTS_MIN));
    }
}

/// Passes a method on to [`POSTGRESQL`].
macro_rules! as_postgresql {
    ($($method:ident),* $(,)?) => {
        $(fn $method(&self) -> bool {
            POSTGRESQL.$method()
        })*
    };
}

impl Dialect for BoathouseDialect {
    /// What sqlparser does for PostgreSQL by name, it does for us.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    /// `SELECT * AS a` is not PostgreSQL.
    fn supports_select_wildcard_with_alias(&self) -> bool {
        false
    }

    /// Comments never change what a statement means.
    fn supports_comment_optimizer_hint(&self) -> bool {
        false
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRESQL.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        POSTGRESQL.is_delimited_identifier_start(character)
    }

    fn is_identifier_start(&self, character: char) -> bool {
        POSTGRESQL.is_identifier_start(character)
    }

    fn is_identifier_part(&self, character: char) -> bool {
        POSTGRESQL.is_identifier_part(character)
    }

    fn is_custom_operator_part(&self, character: char) -> bool {
        POSTGRESQL.is_custom_operator_part(character)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRESQL.is_reserved_for_identifier(keyword)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        POSTGRESQL.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRESQL.prec_value(precedence)
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        match self.attempts_left.get().checked_sub(1) {
            Some(left) => self.attempts_left.set(left),
            None => return Some(Err(ParserError::RecursionLimitExceeded)),
        }
        POSTGRESQL.parse_prefix(parser)
    }

    as_postgresql!(
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_listen_notify,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_colon_operator,
        supports_named_fn_args_with_expr_name,
        supports_empty_projections,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_numeric_literal_underscores,
        supports_array_typedef_with_brackets,
        supports_geometric_types,
        supports_set_names,
        supports_alter_column_type_using,
        supports_notnull_operator,
        supports_interval_options,
        supports_insert_table_alias,
        supports_create_table_like_parenthesized,
        supports_comma_separated_trim,
        supports_xml_expressions,
    );
}

/// Whether the word means something to sqlparser, and nothing to PostgreSQL in a query.
pub(crate) fn is_foreign(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::ANTI
            | Keyword::ASOF
            | Keyword::BEFORE
            | Keyword::CHANGES
            | Keyword::CLUSTER
            | Keyword::CONNECT
            | Keyword::CONVERT
            | Keyword::DISTRIBUTE
            | Keyword::DIV
            | Keyword::EXCLUDE
            | Keyword::FINAL
            | Keyword::FORMAT
            | Keyword::GLOBAL
            | Keyword::INTERPOLATE
            | Keyword::MATCH_RECOGNIZE
            | Keyword::MEASURES
            | Keyword::MINUS
            | Keyword::OPEN
            | Keyword::OPENJSON
            | Keyword::OUTPUT
            | Keyword::PIVOT
            | Keyword::PREWHERE
            | Keyword::PRIOR
            | Keyword::QUALIFY
            | Keyword::REGEXP
            | Keyword::RENAME
            | Keyword::REPLACE
            | Keyword::RLIKE
            | Keyword::SAFE_CAST
            | Keyword::SAMPLE
            | Keyword::SEMANTIC_VIEW
            | Keyword::SEMI
            | Keyword::SETTINGS
            | Keyword::SORT
            | Keyword::STRAIGHT_JOIN
            | Keyword::STRUCT
            | Keyword::TOP
            | Keyword::TRY_CAST
            | Keyword::TRY_CONVERT
            | Keyword::UNPIVOT
            | Keyword::VIEW
            | Keyword::XOR
    )
}
