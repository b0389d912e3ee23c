//! Which topics are wanted.

use regex::Regex;

use crate::error::ConnectorError;

/// Names and regular expressions of topics.
#[derive(Debug, Clone)]
pub struct TopicPatterns {
    wanted: Vec<Pattern>,
    unwanted: Vec<Pattern>,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// A text that could be a topic's name is one.
    Name(String),
    /// Matches whole names.
    Expression(Regex),
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, ConnectorError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !text.is_empty() && text.bytes().all(is_name) {
            return Ok(Self::Name(text.to_owned()));
        }
        let expression = match text {
            "" => Err(ConnectorError::option("the pattern of topics is empty")),
            text => Regex::new(&format!("^(?:{text})$")).map_err(|error| {
                ConnectorError::option(format!("the pattern of topics '{text}' cannot be used"))
                    .caused_by(error)
            }),
        };
        expression.map(Self::Expression).map_err(|error| {
            error.hint(
                "a pattern is the name of a topic, or a regular expression for whole names: 'orders', 'order-.*'",
            )
        })
    }

    fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => name == topic,
            Self::Expression(expression) => expression.is_match(topic),
        }
    }
}

impl TopicPatterns {
    pub fn parse(wanted: &[String], unwanted: &[String]) -> Result<Self, ConnectorError> {
        let all = |texts: &[String]| -> Result<Vec<Pattern>, ConnectorError> {
            texts.iter().map(|text| Pattern::parse(text)).collect()
        };
        Ok(Self {
            wanted: all(wanted)?,
            unwanted: all(unwanted)?,
        })
    }

    /// Whether a topic is to be read. Those that brokers keep for themselves are only by their own names.
    pub fn matches(&self, topic: &str) -> bool {
        let by = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(topic));
        let named = || self.names().any(|name| name == topic);
        by(&self.wanted) && !by(&self.unwanted) && (!topic.starts_with("__") || named())
    }

    /// The topics that are wanted by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().filter_map(|pattern| match pattern {
            Pattern::Name(name) => Some(name.as_str()),
            Pattern::Expression(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(wanted: &[&str], unwanted: &[&str], topic: &str) -> bool {
        let texts = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        TopicPatterns::parse(&texts(wanted), &texts(unwanted))
            .unwrap()
            .matches(topic)
    }

    #[test]
    fn a_name_is_a_name_and_an_expression_matches_whole_names() {
        assert!(matches(&["shop.orders"], &[], "shop.orders"));
        assert!(!matches(&["shop.orders"], &[], "shop-orders"));
        assert!(matches(&["order-.*"], &[], "order-paid"));
        assert!(!matches(&["order-.*"], &[], "reorder-paid"));
        assert!(!matches(&["a|b"], &[], "ab"));
        assert!(!matches(&["order-.*"], &["order-test.*"], "order-test1"));
    }

    #[test]
    fn what_brokers_keep_for_themselves_is_read_only_by_name() {
        assert!(!matches(&[".*"], &[], "__consumer_offsets"));
        assert!(matches(&["__consumer_offsets"], &[], "__consumer_offsets"));
    }

    #[test]
    fn a_pattern_that_cannot_be_used_is_an_error() {
        let error = TopicPatterns::parse(&["order-(".to_owned()], &[]).unwrap_err();
        assert_eq!(
            error.message,
            "the pattern of topics 'order-(' cannot be used"
        );
    }
}
