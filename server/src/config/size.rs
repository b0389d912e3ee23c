//! Sizes as people write them.

use serde::Deserialize;

/// A count of bytes, written `512MiB`, `4GB`, `1073741824`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(usize);

impl Size {
    pub fn bytes(self) -> usize {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let end = text
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len());
        let number: usize = text[..end].parse().ok()?;
        let unit = match text[end..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" => 1_000,
            "m" | "mb" => 1_000_000,
            "g" | "gb" => 1_000_000_000,
            "t" | "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return None,
        };
        number.checked_mul(unit).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let size = match Written::deserialize(deserializer)? {
            Written::Number(bytes) => usize::try_from(bytes).ok().map(Self),
            Written::Text(text) => Self::parse(&text),
        };
        size.ok_or_else(|| serde::de::Error::custom("expected a size such as 512MiB or 4GB"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(Size::parse("512MiB"), Some(Size(512 << 20)));
        assert_eq!(Size::parse("4 gb"), Some(Size(4_000_000_000)));
        assert_eq!(Size::parse("17"), Some(Size(17)));
        assert_eq!(Size::parse("many"), None);
        assert_eq!(Size::parse("99999999999999999999"), None);
    }
}
