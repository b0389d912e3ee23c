//! Type names: `double precision`, `character varying(20)`, `timestamp(3) with time zone`, `int[]`.
//!
//! What a name means is the catalog's table of types; here it is only read.

use boathouse_catalog::types::ColumnType;
use sqlparser::tokenizer::Token;

use crate::error::ParseError;
use crate::input::Input;

pub(crate) fn parse(input: &mut Input) -> Result<ColumnType, ParseError> {
    let start = input.position();
    let (name, modifiers) = name_and_modifiers(input)?;
    let mut column_type = ColumnType::from_name(&name, &modifiers).map_err(|error| ParseError {
        hint: error.hint(),
        ..ParseError::new(error.sqlstate(), error.to_string()).at(start)
    })?;
    let mut dimensions = 0;
    if input.keyword("ARRAY") {
        dimensions += 1;
        bound(input)?;
    }
    while input.peek_symbol(&Token::LBracket) {
        dimensions += 1;
        bound(input)?;
    }
    // PostgreSQL does not tell int[] from int[][].
    if dimensions > 0 {
        column_type = ColumnType::Array(Box::new(column_type));
    }
    Ok(column_type)
}

/// `[]` or `[3]`; the bound means nothing in PostgreSQL.
fn bound(input: &mut Input) -> Result<(), ParseError> {
    if input.symbol(&Token::LBracket) {
        if input.peek_number() {
            input.integer()?;
        }
        input.expect_symbol(&Token::RBracket)?;
    }
    Ok(())
}

fn name_and_modifiers(input: &mut Input) -> Result<(String, Vec<i64>), ParseError> {
    if input.keywords(&["DOUBLE", "PRECISION"]) {
        return Ok(("double precision".to_owned(), Vec::new()));
    }
    if input.keyword("NATIONAL") {
        let word = input.expect_one_of(&["CHARACTER", "CHAR"])?;
        let name = if input.keyword("VARYING") {
            "varchar"
        } else {
            word
        };
        return Ok((name.to_ascii_lowercase(), modifiers(input)?));
    }
    if let Some(word) = input.one_of(&["CHARACTER", "CHAR", "BIT"]) {
        let mut name = word.to_ascii_lowercase();
        if input.keyword("VARYING") {
            name.push_str(" varying");
        }
        return Ok((name, modifiers(input)?));
    }
    if let Some(word) = input.one_of(&["TIMESTAMP", "TIME"]) {
        let modifiers = modifiers(input)?;
        let zone = if input.keywords(&["WITH", "TIME", "ZONE"]) {
            " with time zone"
        } else {
            input.keywords(&["WITHOUT", "TIME", "ZONE"]);
            ""
        };
        return Ok((format!("{}{zone}", word.to_ascii_lowercase()), modifiers));
    }
    if input.keyword("INTERVAL") {
        let fields = ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
        if input.one_of(&fields).is_some() && input.keyword("TO") {
            input.expect_one_of(&fields)?;
        }
        return Ok(("interval".to_owned(), modifiers(input)?));
    }
    let mut name = input.identifier()?;
    if input.symbol(&Token::Period) {
        // pg_catalog.int4: types live nowhere else.
        if name != "pg_catalog" {
            return Err(ParseError::new(
                ParseError::UNDEFINED_OBJECT,
                format!("type \"{name}.{}\" does not exist", input.label()?),
            )
            .at(input.position()));
        }
        name = input.label()?;
    }
    Ok((name, modifiers(input)?))
}

fn modifiers(input: &mut Input) -> Result<Vec<i64>, ParseError> {
    if !input.peek_symbol(&Token::LParen) {
        return Ok(Vec::new());
    }
    input.parenthesized(|input| input.list(Input::integer))
}
