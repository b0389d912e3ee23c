//! What the environment says, taken as it was written.
//!
//! figment reads every variable as if it stood in a file, so that a password of digits becomes a
//! number. Here only the keys that are no text are read that way.

use figment::providers::Env;
use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};

/// The keys of [`super::Config`] that are numbers or booleans.
const NOT_TEXT: [&str; 6] = [
    "require_tls",
    "connections_max",
    "shutdown_grace",
    "schedules",
    "maintenance",
    "s3_allow_http",
];

/// The variables that `0` lets pass.
pub struct Environment(pub Env);

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        self.0.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let values = self.0.iter().map(|(key, written)| {
            let key = key.into_string();
            let value = read(&key, written);
            (key, value)
        });
        Ok(Profile::Default.collect(values.collect()))
    }
}

fn read(key: &str, written: String) -> Value {
    if NOT_TEXT.contains(&key)
        && let Ok(value) = written.parse()
    {
        return value;
    }
    Value::from(written)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_secret_of_digits_stays_text() {
        let secret = read("s3_secret_access_key", "012345678".to_owned());
        assert_eq!(secret.as_str(), Some("012345678"));
        let place = read("lake", "[1]".to_owned());
        assert_eq!(place.as_str(), Some("[1]"));
        assert_eq!(read("require_tls", "true".to_owned()).to_bool(), Some(true));
        assert_eq!(read("connections_max", "7".to_owned()).to_u128(), Some(7));
    }
}
