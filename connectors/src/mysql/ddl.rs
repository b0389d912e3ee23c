//! Statements that change tables, as far as columns tell: what was renamed, added, dropped.
//!
//! What columns a table has afterwards is told by the rows that follow and by the server. A statement tells what
//! these cannot: that a column with a new name is an old one, and what an added column has in rows that were
//! there. So it is read as tokens, clause by clause; a clause that is not understood makes the table one that
//! has to be read anew, never a guess.

use sqlparser::dialect::MySqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::schema::TableName;

/// What a statement does to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaChange {
    /// A table is made; it may have columns and rows of another.
    Create(TableName),
    Drop(TableName),
    Truncate(TableName),
    Rename {
        from: TableName,
        to: TableName,
    },
    Alter {
        table: TableName,
        changes: Vec<ColumnChange>,
    },
    DropDatabase(String),
}

/// What a clause of ALTER TABLE does to columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnChange {
    /// Rows that were there have this value.
    Add {
        name: String,
        value: AddedValue,
    },
    Drop {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// The type may be another.
    Modify {
        name: String,
    },
    /// What the rows have afterwards cannot be told from the statement.
    Unclear,
}

/// The value of an added column in rows that were there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddedValue {
    Null,
    /// A literal: a number, or the text of a string.
    Literal(String),
    /// NOT NULL without a default: zero, the empty text, or what the type has in its place.
    Zero,
    /// Computed by the server.
    Computed,
}

impl SchemaChange {
    /// Its names as a server has them that keeps names in small letters.
    pub(crate) fn lower(&mut self) {
        match self {
            Self::Create(table) | Self::Drop(table) | Self::Truncate(table) => table.lower(),
            Self::Alter { table, .. } => table.lower(),
            Self::Rename { from, to } => {
                from.lower();
                to.lower();
            }
            Self::DropDatabase(database) => *database = database.to_lowercase(),
        }
    }

    /// The table it is about, where it is one.
    pub fn table(&self) -> Option<&TableName> {
        match self {
            Self::Create(table) | Self::Drop(table) | Self::Truncate(table) => Some(table),
            Self::Alter { table, .. } => Some(table),
            Self::Rename { from, .. } => Some(from),
            Self::DropDatabase(_) => None,
        }
    }
}

/// The word a statement begins with, or the two that tell it apart, in capitals.
pub(crate) fn first_words(text: &str) -> String {
    let tokens = Tokens::of(text);
    let first = tokens.word(0).unwrap_or_default();
    match first.as_str() {
        "XA" | "ROLLBACK" | "RELEASE" | "START" => match tokens.word(1) {
            Some(second) if second != "WORK" => format!("{first} {second}"),
            _ => first,
        },
        _ => first,
    }
}

/// What follows the two words that a statement begins with, without white space around it: the name of a
/// transaction in two phases.
pub(crate) fn after_words(text: &str) -> String {
    let mut rest = text.trim();
    for _ in 0..2 {
        rest = rest
            .split_once(char::is_whitespace)
            .map_or("", |(_, rest)| rest.trim_start());
    }
    let rest = rest.trim_end_matches(';').trim_end();
    let rest = rest.strip_suffix("ONE PHASE").unwrap_or(rest);
    rest.trim_end().to_ascii_uppercase()
}

/// The tables whose rows a statement changes, when it is one that changes rows; none of them when they cannot
/// be told. Such statements are met in the binlog when it is not written row by row.
pub(crate) fn changed_rows_of(database: &str, text: &str) -> Option<Vec<TableName>> {
    let mut tokens = Tokens::of(text);
    let word = tokens.word(0)?;
    match word.as_str() {
        "INSERT" | "REPLACE" | "UPDATE" | "DELETE" => tokens.at = 1,
        "LOAD" => {
            while tokens.peek().is_some() {
                if tokens.takes_all(&["INTO", "TABLE"]) {
                    return Some(tokens.table(database).into_iter().collect());
                }
                tokens.at += 1;
            }
            return Some(Vec::new());
        }
        "CALL" | "WITH" => return Some(Vec::new()),
        _ => return None,
    }
    while [
        "LOW_PRIORITY",
        "HIGH_PRIORITY",
        "DELAYED",
        "QUICK",
        "IGNORE",
        "INTO",
        "FROM",
    ]
    .iter()
    .any(|word| tokens.takes(word))
    {}
    let table = tokens.table(database);
    // Whatever is not of the simplest form may be about several tables.
    let simple = match tokens.peek() {
        None | Some(Token::LParen) => true,
        Some(_) => {
            let next = tokens.word(tokens.at).unwrap_or_default();
            let words = [
                "SET", "VALUES", "VALUE", "SELECT", "WHERE", "ORDER", "LIMIT",
            ];
            words.contains(&next.as_str())
        }
    };
    Some(table.filter(|_| simple).into_iter().collect())
}

/// What a statement does to tables; nothing when it is about something else.
pub(crate) fn read(database: &str, text: &str) -> Vec<SchemaChange> {
    let mut tokens = Tokens::of(text);
    let first = tokens.word(0).unwrap_or_default();
    tokens.at = 1;
    match first.as_str() {
        "CREATE" => {
            let replaces = tokens.takes_all(&["OR", "REPLACE"]);
            if tokens.takes("TEMPORARY") || !tokens.takes("TABLE") {
                return Vec::new();
            }
            tokens.takes_all(&["IF", "NOT", "EXISTS"]);
            let Some(table) = tokens.table(database) else {
                return Vec::new();
            };
            let created = SchemaChange::Create(table.clone());
            match replaces {
                true => vec![SchemaChange::Drop(table), created],
                false => vec![created],
            }
        }
        "DROP" => {
            // The rows of a table may be told apart otherwise without an index.
            if tokens.takes("INDEX") {
                tokens.takes_all(&["IF", "EXISTS"]);
                tokens.name();
                tokens.takes("ON");
                let table = tokens.table(database).map(|table| SchemaChange::Alter {
                    table,
                    changes: Vec::new(),
                });
                return table.into_iter().collect();
            }
            if tokens.takes("DATABASE") || tokens.takes("SCHEMA") {
                tokens.takes_all(&["IF", "EXISTS"]);
                return tokens
                    .name()
                    .map(SchemaChange::DropDatabase)
                    .into_iter()
                    .collect();
            }
            // A temporary table hides one that stays.
            if tokens.takes("TEMPORARY") || !tokens.takes("TABLE") {
                return Vec::new();
            }
            tokens.takes_all(&["IF", "EXISTS"]);
            let mut dropped = Vec::new();
            while let Some(table) = tokens.table(database) {
                dropped.push(SchemaChange::Drop(table));
                if !tokens.takes_symbol(&Token::Comma) {
                    break;
                }
            }
            dropped
        }
        "TRUNCATE" => {
            tokens.takes("TABLE");
            tokens
                .table(database)
                .map(SchemaChange::Truncate)
                .into_iter()
                .collect()
        }
        "RENAME" => {
            if !tokens.takes("TABLE") && !tokens.takes("TABLES") {
                return Vec::new();
            }
            tokens.takes_all(&["IF", "EXISTS"]);
            let mut renamed = Vec::new();
            while let Some(from) = tokens.table(database) {
                while tokens.at < tokens.tokens.len() && !tokens.takes("TO") {
                    tokens.at += 1;
                }
                let Some(to) = tokens.table(database) else {
                    break;
                };
                renamed.push(SchemaChange::Rename { from, to });
                if !tokens.takes_symbol(&Token::Comma) {
                    break;
                }
            }
            renamed
        }
        "ALTER" => {
            tokens.takes("ONLINE");
            // Rows that a new key does not let be go without a word.
            let ignores = tokens.takes("IGNORE");
            if !tokens.takes("TABLE") {
                return Vec::new();
            }
            tokens.takes_all(&["IF", "EXISTS"]);
            let Some(table) = tokens.table(database) else {
                return Vec::new();
            };
            tokens.alter(database, table, ignores)
        }
        _ => Vec::new(),
    }
}

/// The tokens of a statement, without white space and comments.
struct Tokens {
    tokens: Vec<Token>,
    at: usize,
    /// The statement could be read to its end.
    whole: bool,
}

impl Tokens {
    fn of(text: &str) -> Self {
        let mut tokens = Vec::new();
        let whole = Tokenizer::new(&MySqlDialect {}, text)
            .tokenize_with_location_into_buf(&mut tokens)
            .is_ok();
        let tokens = tokens
            .into_iter()
            .map(|token| token.token)
            .filter(|token| !matches!(token, Token::Whitespace(_)))
            .collect();
        Self {
            tokens,
            at: 0,
            whole,
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    /// The bare word at a place, in capitals.
    fn word(&self, index: usize) -> Option<String> {
        match self.tokens.get(index)? {
            Token::Word(word) if word.quote_style.is_none() => {
                Some(word.value.to_ascii_uppercase())
            }
            _ => None,
        }
    }

    fn takes(&mut self, word: &str) -> bool {
        let found = self.word(self.at).is_some_and(|found| found == word);
        if found {
            self.at += 1;
        }
        found
    }

    fn takes_all(&mut self, words: &[&str]) -> bool {
        let begun = self.at;
        let found = words.iter().all(|word| self.takes(word));
        if !found {
            self.at = begun;
        }
        found
    }

    fn takes_symbol(&mut self, symbol: &Token) -> bool {
        let found = self.peek() == Some(symbol);
        if found {
            self.at += 1;
        }
        found
    }

    fn name(&mut self) -> Option<String> {
        let name = match self.peek()? {
            Token::Word(word) => word.value.clone(),
            Token::DoubleQuotedString(text) => text.clone(),
            _ => return None,
        };
        self.at += 1;
        Some(name)
    }

    fn table(&mut self, database: &str) -> Option<TableName> {
        let first = self.name()?;
        if self.takes_symbol(&Token::Period) {
            return Some(TableName::new(first, self.name()?));
        }
        Some(TableName::new(database, first))
    }

    /// What stands up to the next comma outside parentheses.
    fn clause(&mut self) -> Vec<Token> {
        let mut depth = 0usize;
        let mut clause = Vec::new();
        while let Some(token) = self.peek() {
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Comma if depth == 0 => break,
                Token::SemiColon if depth == 0 => break,
                _ => {}
            }
            clause.push(token.clone());
            self.at += 1;
        }
        clause
    }

    fn alter(&mut self, database: &str, table: TableName, ignores: bool) -> Vec<SchemaChange> {
        let mut changes = Vec::new();
        let mut renamed = None;
        let mut exchanged = None;
        loop {
            let mut clause = Tokens {
                tokens: self.clause(),
                at: 0,
                whole: true,
            };
            if clause.word(0).is_some_and(|word| word == "EXCHANGE") {
                exchanged = clause.exchanged(database);
            }
            changes.extend(clause.alter_clause(database, &mut renamed));
            if !self.takes_symbol(&Token::Comma) {
                break;
            }
        }
        if !self.whole || ignores {
            changes.push(ColumnChange::Unclear);
        }
        let mut all = vec![SchemaChange::Alter {
            table: table.clone(),
            changes,
        }];
        if let Some(table) = exchanged {
            let changes = vec![ColumnChange::Unclear];
            all.push(SchemaChange::Alter { table, changes });
        }
        if let Some(to) = renamed {
            all.push(SchemaChange::Rename { from: table, to });
        }
        all
    }

    /// The table that a partition is exchanged with.
    fn exchanged(&self, database: &str) -> Option<TableName> {
        let mut clause = Tokens {
            tokens: self.tokens.clone(),
            at: 0,
            whole: true,
        };
        while clause.at < clause.tokens.len() {
            if clause.takes_all(&["WITH", "TABLE"]) {
                return clause.table(database);
            }
            clause.at += 1;
        }
        None
    }

    fn alter_clause(
        &mut self,
        database: &str,
        renamed: &mut Option<TableName>,
    ) -> Vec<ColumnChange> {
        let Some(verb) = self.word(0) else {
            return Vec::new();
        };
        self.at = 1;
        match verb.as_str() {
            "ADD" => self.add_clause(),
            "DROP" => {
                let other = [
                    "INDEX",
                    "KEY",
                    "PRIMARY",
                    "FOREIGN",
                    "CONSTRAINT",
                    "CHECK",
                    "PARTITION",
                    "SYSTEM",
                    "PERIOD",
                ];
                let word = self.word(1).unwrap_or_default();
                if word == "PARTITION" {
                    return vec![ColumnChange::Unclear];
                }
                if word == "PRIMARY" {
                    return vec![ColumnChange::Unclear];
                }
                if other.contains(&word.as_str()) {
                    return Vec::new();
                }
                self.takes("COLUMN");
                self.takes_all(&["IF", "EXISTS"]);
                let name = self.name();
                name.map(|name| ColumnChange::Drop { name })
                    .into_iter()
                    .collect()
            }
            "CHANGE" => {
                self.takes("COLUMN");
                self.takes_all(&["IF", "EXISTS"]);
                match (self.name(), self.name()) {
                    (Some(from), Some(to)) if from == to => {
                        vec![ColumnChange::Modify { name: to }]
                    }
                    (Some(from), Some(to)) => vec![
                        ColumnChange::Rename {
                            from,
                            to: to.clone(),
                        },
                        ColumnChange::Modify { name: to },
                    ],
                    _ => vec![ColumnChange::Unclear],
                }
            }
            "MODIFY" => {
                self.takes("COLUMN");
                self.takes_all(&["IF", "EXISTS"]);
                match self.name() {
                    Some(name) => vec![ColumnChange::Modify { name }],
                    None => vec![ColumnChange::Unclear],
                }
            }
            "RENAME" => {
                if self.takes("COLUMN") {
                    self.takes_all(&["IF", "EXISTS"]);
                    let from = self.name();
                    self.takes("TO");
                    return match (from, self.name()) {
                        (Some(from), Some(to)) => vec![ColumnChange::Rename { from, to }],
                        _ => vec![ColumnChange::Unclear],
                    };
                }
                if self.takes("INDEX") || self.takes("KEY") {
                    return Vec::new();
                }
                if !self.takes("TO") {
                    self.takes("AS");
                }
                self.takes_symbol(&Token::Eq);
                *renamed = self.table(database);
                Vec::new()
            }
            // Texts are written anew in another character set, which may change what they say.
            "CONVERT" => vec![ColumnChange::Unclear],
            "TRUNCATE" | "EXCHANGE" | "DISCARD" | "IMPORT" => vec![ColumnChange::Unclear],
            _ => Vec::new(),
        }
    }

    fn add_clause(&mut self) -> Vec<ColumnChange> {
        let other = [
            "INDEX",
            "KEY",
            "UNIQUE",
            "FULLTEXT",
            "SPATIAL",
            "FOREIGN",
            "CONSTRAINT",
            "CHECK",
            "PARTITION",
            "SYSTEM",
            "PERIOD",
            "VECTOR",
        ];
        let word = self.word(1).unwrap_or_default();
        if word == "PRIMARY" {
            // Rows are told apart otherwise from now on.
            return vec![ColumnChange::Unclear];
        }
        if other.contains(&word.as_str()) {
            return Vec::new();
        }
        self.takes("COLUMN");
        self.takes_all(&["IF", "NOT", "EXISTS"]);
        if !self.takes_symbol(&Token::LParen) {
            return self.added_column();
        }
        let mut added = Vec::new();
        // Up to the closing parenthesis, column by column.
        if self.tokens.last() == Some(&Token::RParen) {
            self.tokens.pop();
        }
        loop {
            let mut column = Tokens {
                tokens: self.clause(),
                at: 0,
                whole: true,
            };
            added.extend(column.added_column());
            if !self.takes_symbol(&Token::Comma) {
                return added;
            }
        }
    }

    fn added_column(&mut self) -> Vec<ColumnChange> {
        let Some(name) = self.name() else {
            return vec![ColumnChange::Unclear];
        };
        let mut not_null = false;
        let mut value = None;
        while self.at < self.tokens.len() {
            if self.takes_all(&["NOT", "NULL"]) {
                not_null = true;
            } else if self.takes("DEFAULT") {
                value = Some(self.default_value());
            } else if self.takes("AS")
                || self.takes("GENERATED")
                || self.takes("AUTO_INCREMENT")
                || self.takes("SERIAL")
            {
                value = Some(AddedValue::Computed);
            } else {
                self.at += 1;
            }
        }
        let value = value.unwrap_or(match not_null {
            true => AddedValue::Zero,
            false => AddedValue::Null,
        });
        vec![ColumnChange::Add { name, value }]
    }

    fn default_value(&mut self) -> AddedValue {
        let negative = self.takes_symbol(&Token::Minus);
        let token = self.peek().cloned();
        self.at += 1;
        match token {
            Some(Token::Number(number, _)) => AddedValue::Literal(match negative {
                true => format!("-{number}"),
                false => number,
            }),
            Some(Token::SingleQuotedString(text) | Token::DoubleQuotedString(text)) => {
                AddedValue::Literal(text)
            }
            Some(Token::Word(word)) => match word.value.to_ascii_uppercase().as_str() {
                "NULL" => AddedValue::Null,
                "TRUE" => AddedValue::Literal("1".into()),
                "FALSE" => AddedValue::Literal("0".into()),
                _ => AddedValue::Computed,
            },
            _ => AddedValue::Computed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName::new("shop", name)
    }

    fn changes(text: &str) -> Vec<ColumnChange> {
        match read("shop", text).into_iter().next() {
            Some(SchemaChange::Alter { changes, .. }) => changes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn clauses_of_one_statement_are_read_one_by_one() {
        let text = "ALTER TABLE `t` ADD COLUMN `a,b` decimal(10,2) NOT NULL DEFAULT -1.50 AFTER id, \
                    CHANGE old new varchar(20) /* longer */, DROP c, ADD (d int, e text not null), \
                    ADD INDEX (d), MODIFY f bigint, RENAME COLUMN g TO h, ALGORITHM=INPLACE";
        assert_eq!(
            changes(text),
            [
                ColumnChange::Add {
                    name: "a,b".into(),
                    value: AddedValue::Literal("-1.50".into())
                },
                ColumnChange::Rename {
                    from: "old".into(),
                    to: "new".into()
                },
                ColumnChange::Modify { name: "new".into() },
                ColumnChange::Drop { name: "c".into() },
                ColumnChange::Add {
                    name: "d".into(),
                    value: AddedValue::Null
                },
                ColumnChange::Add {
                    name: "e".into(),
                    value: AddedValue::Zero
                },
                ColumnChange::Modify { name: "f".into() },
                ColumnChange::Rename {
                    from: "g".into(),
                    to: "h".into()
                },
            ]
        );
    }

    #[test]
    fn what_the_server_computes_is_not_guessed() {
        for text in [
            "ALTER TABLE t ADD at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP",
            "ALTER TABLE t ADD b int GENERATED ALWAYS AS (a + 1) STORED",
            "ALTER TABLE t ADD c char(36) DEFAULT (uuid())",
        ] {
            assert!(
                matches!(
                    changes(text).as_slice(),
                    [ColumnChange::Add {
                        value: AddedValue::Computed,
                        ..
                    }]
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn tables_are_renamed_in_one_statement() {
        let rename = |from, to| SchemaChange::Rename {
            from: table(from),
            to: table(to),
        };
        assert_eq!(
            read("shop", "rename table `t` to `_t_del`, shop.`_t_gho` to `t`"),
            [rename("t", "_t_del"), rename("_t_gho", "t")]
        );
        let altered = SchemaChange::Alter {
            table: table("a"),
            changes: Vec::new(),
        };
        assert_eq!(
            read("shop", "ALTER TABLE a RENAME TO b"),
            [altered.clone(), rename("a", "b")]
        );
        assert_eq!(read("shop", "DROP INDEX `k` ON a"), [altered]);
        assert_eq!(
            read("shop", "CREATE OR REPLACE TABLE a (b int)"),
            [
                SchemaChange::Drop(table("a")),
                SchemaChange::Create(table("a"))
            ]
        );
        assert_eq!(
            read(
                "shop",
                "DROP TABLE IF EXISTS `a`,`b` /* generated by server */"
            ),
            [
                SchemaChange::Drop(table("a")),
                SchemaChange::Drop(table("b"))
            ]
        );
    }

    #[test]
    fn rows_changed_by_a_statement_are_noticed() {
        assert_eq!(
            changed_rows_of("shop", "insert ignore into `t` values (1)"),
            Some(vec![table("t")])
        );
        let several = "update low_priority t, u set t.a = u.a";
        assert_eq!(changed_rows_of("shop", several), Some(Vec::new()));
        let load = "LOAD DATA INFILE '/tmp/SQL_LOAD-1-2.data' IGNORE INTO TABLE `t` FIELDS TERMINATED BY ',' (a)";
        assert_eq!(changed_rows_of("shop", load), Some(vec![table("t")]));
        assert_eq!(changed_rows_of("shop", "CREATE TABLE t (a int)"), None);
        assert_eq!(first_words("ROLLBACK TO `a`"), "ROLLBACK TO");
        assert_eq!(first_words("XA END X'61',X'',1"), "XA END");
    }
}
