//! A topic of a test's own with a server that may read it, and a schema registry that both know.

use tokio_postgres::Client;

use crate::kafka::{Broker, Sent};
use crate::schema_registry::SchemaRegistry;
use crate::{Failure, Server, lake_folder, rows};

/// A topic of one partition. Its server has the connection `events`.
pub struct Topic {
    pub registry: SchemaRegistry,
    pub name: String,
    pub client: Client,
    broker: Broker,
    _folder: tempfile::TempDir,
    _server: Server,
}

impl Topic {
    pub async fn create() -> Result<Self, Failure> {
        let broker = Broker::shared()?;
        let registry = SchemaRegistry::start().await?;
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        broker.create_topic(&name, 1, &[]).await?;
        let (folder, lake) = lake_folder()?;
        let server = Server::start(&lake).await?;
        let client = server.connect().await?;
        let connection = format!(
            "CREATE CONNECTION events TO KAFKA WITH (brokers = '{}', schema_registry = '{}', \
             schema_registry_user = 'reader', schema_registry_password = 'secret')",
            broker.address(),
            registry.url()
        );
        rows(&client, &connection).await?;
        Ok(Self {
            registry,
            name,
            client,
            broker,
            _folder: folder,
            _server: server,
        })
    }

    /// Writes messages without keys.
    pub fn produce<M: AsRef<[u8]>>(&self, messages: &[M]) -> Result<(), Failure> {
        let sent = messages.iter().map(|message| Sent::new(message.as_ref()));
        self.broker.produce(&self.name, sent)
    }

    /// Writes messages with keys; one without a payload says that its key goes.
    pub fn produce_keyed(&self, messages: &[(&[u8], Option<&[u8]>)]) -> Result<(), Failure> {
        let sent = messages.iter().map(|(key, payload)| Sent {
            payload: *payload,
            ..Sent::new(&[]).keyed(key)
        });
        self.broker.produce(&self.name, sent)
    }

    /// Makes the pipeline `p` of `FORMAT ... INTO t ...` and runs it.
    pub async fn run(&self, format_and_target: &str) -> Result<(), Failure> {
        let create = format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{}') FORMAT {format_and_target} SCHEDULE ON DEMAND",
            self.name
        );
        rows(&self.client, &create).await?;
        rows(&self.client, "RUN PIPELINE p").await?;
        Ok(())
    }
}
