//! The startup parameter `options`: settings as switches of PostgreSQL's own command line.
//!
//! `-c name=value`, `-cname=value` and `--name=value`, divided by white space; a backslash keeps the
//! character after it. `PGOPTIONS`, JDBC's `options` and libpq's send it.

/// The settings it gives, in order; an argument that is none of these comes back as the error.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut settings = Vec::new();
    let mut arguments = split(text).into_iter();
    while let Some(argument) = arguments.next() {
        let assignment = match argument.strip_prefix("--") {
            Some(assignment) => assignment.to_owned(),
            None => match argument.strip_prefix("-c") {
                Some("") => arguments.next().ok_or(argument)?,
                Some(assignment) => assignment.to_owned(),
                None => return Err(argument),
            },
        };
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(assignment);
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split(text: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut current: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => current.get_or_insert_default().extend(characters.next()),
            space if space.is_whitespace() => arguments.extend(current.take()),
            other => current.get_or_insert_default().push(other),
        }
    }
    arguments.extend(current);
    arguments
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn switches_are_settings() {
        let found = parse("-c statement_timeout=5s  --search-path=a,\\ b -cgeqo=off").unwrap();
        let expected = [
            ("statement_timeout", "5s"),
            ("search_path", "a, b"),
            ("geqo", "off"),
        ];
        assert_eq!(
            found,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(parse(""), Ok(Vec::new()));
        for refused in ["-x", "-c", "-c name", "plain"] {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }
}
