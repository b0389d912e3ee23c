//! A schema registry that speaks Confluent's protocol: `GET /schemas/ids/<id>`, and what a schema refers to.
//!
//! A schema never changes once it has an id, so each is asked for once. A registry that cannot be reached is a fault that
//! passes; an id it does not know is the fault of the message that names it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::options::Options;

const TIMEOUT: Duration = Duration::from_secs(15);

/// References of references, at most.
const DEPTH_MAX: usize = 16;

/// A registry.
pub struct SchemaRegistry {
    url: String,
    user: Option<(String, String)>,
    known: Mutex<HashMap<u32, Arc<RegisteredSchema>>>,
}

/// A schema as it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// `AVRO`, `PROTOBUF` or `JSON`.
    pub kind: String,
    pub text: String,
    /// What it refers to, each after what it refers to itself.
    pub references: Vec<ReferencedSchema>,
}

/// A schema that another one refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencedSchema {
    /// What it is called there: the name of a type, or of a file that is imported.
    pub name: String,
    pub text: String,
}

#[derive(Deserialize)]
struct Answer {
    schema: String,
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(default)]
    name: String,
    subject: String,
    version: i64,
}

impl SchemaRegistry {
    /// Options `schema_registry` (its URL), `schema_registry_user` and `schema_registry_password`.
    pub fn take(options: &mut Options) -> Result<Option<Arc<Self>>, ConnectorError> {
        let url = options.take_text("schema_registry")?;
        let user = options.take_text("schema_registry_user")?;
        let password = options.take_text("schema_registry_password")?;
        let Some(url) = url else {
            return match user.or(password) {
                None => Ok(None),
                Some(_) => Err(ConnectorError::option(
                    "\"schema_registry_user\" and \"schema_registry_password\" go with \"schema_registry\"",
                )),
            };
        };
        let parsed = url::Url::parse(&url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if parsed.is_none_or(|url| url.password().is_some()) {
            return Err(ConnectorError::option(
                "option \"schema_registry\" is not the URL of a registry",
            )
            .hint("schema_registry = 'https://registry.example.com', with the user and the password in options of their own"));
        }
        let user = match (user, password) {
            (None, None) => None,
            (Some(user), Some(password)) => Some((user, password)),
            _ => {
                return Err(ConnectorError::option(
                    "\"schema_registry_user\" and \"schema_registry_password\" go together",
                ));
            }
        };
        Ok(Some(Arc::new(Self {
            url: url.trim_end_matches('/').to_owned(),
            user,
            known: Mutex::default(),
        })))
    }

    /// The schema of an id; `None` when the registry has none. Waits for the registry: for threads that may.
    pub fn schema(&self, id: u32) -> Result<Option<Arc<RegisteredSchema>>, FormatError> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&id).cloned()
        };
        if known.is_some() {
            return Ok(known);
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            FormatError::new(
                sqlstate::INTERNAL_ERROR,
                "there is no runtime to ask the registry with",
            )
            .caused_by(error)
        })?;
        let Some(found) = runtime.block_on(self.fetch(id))? else {
            return Ok(None);
        };
        let found = Arc::new(found);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, Arc::clone(&found));
        Ok(Some(found))
    }

    async fn fetch(&self, id: u32) -> Result<Option<RegisteredSchema>, FormatError> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| self.unreachable(error))?;
        let Some(answer) = self.get(&client, &format!("/schemas/ids/{id}")).await? else {
            return Ok(None);
        };
        let mut references: Vec<ReferencedSchema> = Vec::new();
        // Those that are asked for last are referred to by the others.
        let mut asked = answer.references;
        for _ in 0..DEPTH_MAX {
            let mut next = Vec::new();
            for reference in asked {
                let subject: String =
                    url::form_urlencoded::byte_serialize(reference.subject.as_bytes()).collect();
                let path = format!("/subjects/{subject}/versions/{}", reference.version);
                if let Some(referred) = self.get(&client, &path).await? {
                    let found = ReferencedSchema {
                        name: reference.name,
                        text: referred.schema,
                    };
                    if !references.contains(&found) {
                        references.push(found);
                        next.extend(referred.references);
                    }
                }
            }
            asked = next;
            if asked.is_empty() {
                break;
            }
        }
        references.reverse();
        Ok(Some(RegisteredSchema {
            kind: answer.kind.unwrap_or_else(|| "AVRO".to_owned()),
            text: answer.schema,
            references,
        }))
    }

    async fn get(
        &self,
        client: &reqwest::Client,
        path: &str,
    ) -> Result<Option<Answer>, FormatError> {
        let mut request = client.get(format!("{}{path}", self.url)).header(
            "Accept",
            "application/vnd.schemaregistry.v1+json, application/json",
        );
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, Some(password));
        }
        let answer = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            401 | 403 => {
                return Err(FormatError::new(
                    sqlstate::INVALID_AUTHORIZATION,
                    format!("the schema registry at {} does not let in", self.url),
                )
                .hint(
                    "look at schema_registry_user and schema_registry_password of the connection",
                ));
            }
            status => {
                return Err(FormatError::new(
                    sqlstate::CONNECTION_FAILURE,
                    format!("the schema registry at {} answers {status}", self.url),
                )
                .retryable());
            }
        }
        let text = answer
            .bytes()
            .await
            .map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            FormatError::new(
                sqlstate::CONNECTION_FAILURE,
                format!(
                    "the schema registry at {} answers what is no schema",
                    self.url
                ),
            )
            .caused_by(error)
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> FormatError {
        FormatError::new(
            sqlstate::CONNECTION_REFUSED,
            format!("the schema registry at {} cannot be reached", self.url),
        )
        .caused_by(error.without_url())
        .retryable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: &[(&str, &str)]) -> String {
        let mut options = Options::new("test", options.iter().copied());
        match SchemaRegistry::take(&mut options) {
            Ok(found) => format!("{}", found.is_some()),
            Err(error) => error.message,
        }
    }

    #[test]
    fn a_registry_is_a_url_without_a_password_in_it() {
        assert_eq!(refused(&[]), "false");
        assert_eq!(refused(&[("schema_registry", "http://a:8081/")]), "true");
        let wrong = "option \"schema_registry\" is not the URL of a registry";
        assert_eq!(refused(&[("schema_registry", "a:8081")]), wrong);
        assert_eq!(refused(&[("schema_registry", "http://u:p@a:8081")]), wrong);
    }
}
