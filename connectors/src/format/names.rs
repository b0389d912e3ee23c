//! Column names out of header cells.
//!
//! Every column gets a name, no two get the same but for the case of letters, and none gets the name of a column that this
//! crate adds. The same header always gives the same names.

use std::collections::HashSet;

use super::METADATA_COLUMNS;

/// How header cells become names: option `column_names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum NameStyle {
    /// Lower case, words joined by `_`: can be written in SQL without quotes.
    Snake,
    /// As in the header, without blanks around it.
    Original,
}

/// `_1`, `_2`, ... after a repeated name, also one that differs in case; `column_3` for a third column without one.
pub fn unique_names<S: AsRef<str>>(header: &[S], style: NameStyle) -> Vec<String> {
    let mut taken: HashSet<String> = METADATA_COLUMNS.iter().map(|&n| n.to_owned()).collect();
    header
        .iter()
        .enumerate()
        .map(|(index, cell)| {
            let mut name = match style {
                NameStyle::Snake => snake(cell.as_ref()),
                NameStyle::Original => cell.as_ref().trim().to_owned(),
            };
            if name.is_empty() {
                name = format!("column_{}", index + 1);
            }
            let mut unique = name.clone();
            let mut number = 1;
            while !taken.insert(unique.to_lowercase()) {
                unique = format!("{name}_{number}");
                number += 1;
            }
            unique
        })
        .collect()
}

/// A text as a name that can be written in SQL without quotes: lower case, words joined by `_`. Empty when it has neither
/// a letter nor a digit.
pub fn plain_name(text: &str) -> String {
    snake(text)
}

fn snake(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for character in text.trim().chars() {
        if character.is_alphanumeric() {
            name.extend(character.to_lowercase());
        } else if character == '_' || !(name.is_empty() || name.ends_with('_')) {
            name.push('_');
        }
    }
    while name.ends_with('_') && !text.trim().ends_with('_') {
        name.pop();
    }
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_become_names_that_need_no_quotes() {
        let header = [
            "SKU",
            "Unit Price (IDR)",
            "Qty",
            "qty",
            "",
            "_row",
            "2024",
            "Größe",
            " a  b ",
        ];
        assert_eq!(
            unique_names(&header, NameStyle::Snake),
            [
                "sku",
                "unit_price_idr",
                "qty",
                "qty_1",
                "column_5",
                "_row_1",
                "_2024",
                "größe",
                "a_b"
            ]
        );
    }

    #[test]
    fn original_names_are_kept_but_unique() {
        assert_eq!(
            unique_names(&["Unit Price ", "unit price", ""], NameStyle::Original),
            ["Unit Price", "unit price_1", "column_3"]
        );
    }
}
