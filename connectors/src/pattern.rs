//! Glob patterns over the paths of a connection.
//!
//! Shared by every store, so that a pattern means the same everywhere. A pattern is relative to
//! the root of the connection and cannot climb out of it. Hidden files (a dot at the start of a
//! path part) match only a pattern whose own part starts with the dot: half-written uploads are
//! commonly hidden that way.

use globset::{GlobBuilder, GlobMatcher};

use crate::error::ConnectorError;

/// Some patterns; a path matches when any of them does.
pub struct Patterns {
    patterns: Vec<Pattern>,
}

struct Pattern {
    matcher: GlobMatcher,
    parts: Vec<String>,
}

impl Patterns {
    pub fn new(patterns: &[String]) -> Result<Self, ConnectorError> {
        let patterns = patterns
            .iter()
            .map(|pattern| Pattern::new(pattern))
            .collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    pub fn matches(&self, path: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(path))
    }

    /// Whether a file below the folder `path` (without a trailing `/`, empty for the root) could
    /// match. Lets a store walk only where something can be found.
    pub fn may_match_below(&self, path: &str) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.may_match_below(path))
    }

    /// The longest folder that every match is below; empty for the root.
    pub fn common_folder(&self) -> String {
        let mut folders = self.patterns.iter().map(|pattern| {
            let literal = pattern
                .parts
                .iter()
                .take_while(|part| !has_wildcard(part))
                .count();
            &pattern.parts[..literal.min(pattern.parts.len().saturating_sub(1))]
        });
        let Some(mut common) = folders.next() else {
            return String::new();
        };
        for folder in folders {
            let shared = common
                .iter()
                .zip(folder)
                .take_while(|(a, b)| a == b)
                .count();
            common = &common[..shared];
        }
        common.join("/")
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, ConnectorError> {
        let relative = text.trim_start_matches("./").trim_start_matches('/');
        if relative.is_empty() || relative.split('/').any(|part| part == "..") {
            return Err(
                ConnectorError::option(format!("invalid file pattern \"{text}\""))
                    .hint("a pattern names files below the root of the connection, without \"..\""),
            );
        }
        let matcher = GlobBuilder::new(relative)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| {
                ConnectorError::option(format!("invalid file pattern \"{text}\"")).caused_by(error)
            })?
            .compile_matcher();
        Ok(Self {
            matcher,
            parts: split_parts(relative),
        })
    }

    fn matches(&self, path: &str) -> bool {
        self.matcher.is_match(path)
            && path
                .split('/')
                .filter(|part| part.starts_with('.'))
                .all(|hidden| self.parts.iter().any(|part| names_hidden(part, hidden)))
    }

    fn may_match_below(&self, path: &str) -> bool {
        for (index, part) in path.split('/').filter(|part| !part.is_empty()).enumerate() {
            let Some(pattern) = self.parts.get(index) else {
                return false;
            };
            if pattern == "**" || spans_parts(pattern) {
                return true;
            }
            // The last part of a pattern names files, not folders.
            if index + 1 == self.parts.len() {
                return false;
            }
            let matches = GlobBuilder::new(pattern)
                .backslash_escape(true)
                .build()
                .is_ok_and(|glob| glob.compile_matcher().is_match(part));
            if !matches {
                return false;
            }
        }
        true
    }
}

/// Divides at `/` outside of braces: `{a/b,c}.csv` is one part.
fn split_parts(pattern: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0usize;
    for character in pattern.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if character == '/' && depth == 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts
}

fn has_wildcard(part: &str) -> bool {
    part.contains(['*', '?', '[', '{', '\\'])
}

fn spans_parts(part: &str) -> bool {
    part.contains('/') || part.contains("**")
}

fn names_hidden(part: &str, hidden: &str) -> bool {
    part.starts_with('.') || (part.starts_with('{') && part.contains(&hidden[..1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        Patterns::new(&list.iter().map(|p| p.to_string()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_star_stays_within_a_folder() {
        let patterns = patterns(&["merchants/*/stock*.{xls,xlsx}"]);
        assert!(patterns.matches("merchants/a/stock_1.xlsx"));
        assert!(!patterns.matches("merchants/a/b/stock_1.xlsx"));
        assert!(!patterns.matches("merchants/a/.stock_1.xlsx"));
        assert_eq!(patterns.common_folder(), "merchants");
        assert!(patterns.may_match_below("merchants/x"));
        assert!(!patterns.may_match_below("merchants/x/y"));
        assert!(!patterns.may_match_below("claims"));
    }

    #[test]
    fn two_stars_cross_folders() {
        let patterns = patterns(&["in/**/*.csv", "other/a.csv"]);
        assert!(patterns.matches("in/a.csv"));
        assert!(patterns.matches("in/x/y/a.csv"));
        assert!(!patterns.matches("in/.tmp/a.csv"));
        assert!(patterns.may_match_below("in/x/y"));
        assert_eq!(patterns.common_folder(), "");
    }

    #[test]
    fn a_pattern_cannot_climb_out() {
        let error = Patterns::new(&["../etc/*".to_owned()]).err().unwrap();
        assert_eq!(error.to_string(), "invalid file pattern \"../etc/*\"");
    }
}
