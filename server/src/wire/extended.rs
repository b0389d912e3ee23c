//! The extended protocol: prepared statements and portals.
//!
//! After an error everything up to Sync is left out. What runs between two Syncs is one implicit
//! transaction, unless it is a single Execute: then it is as good as a simple query, and statements
//! that refuse to run in a transaction do run.

use boathouse_catalog::types::ColumnType;
use boathouse_engine::outcome::Outcome;
use boathouse_engine::session::Prepared;
use datafusion::common::ScalarValue;

use super::connection::{Connection, Failure, watched};
use super::message::frontend::{Bind, Frontend, Target};
use super::message::{Report, backend};
use super::reply::{Cursor, Sent};
use super::rows::{self, RowEncoder};

/// What Parse made.
pub struct PreparedStatement {
    /// `None` of an empty query string.
    prepared: Option<Prepared>,
    /// OIDs as Describe tells them: the client's own where it gave one.
    parameter_oids: Vec<u32>,
}

/// What Bind made.
pub struct Portal {
    prepared: Option<Prepared>,
    parameters: Vec<ScalarValue>,
    formats: Vec<i16>,
    progress: Progress,
}

enum Progress {
    Ready,
    Sending(Cursor),
    /// Every row was sent; asked again, there are none.
    Sent(Cursor),
    /// A command ran; it does not run twice.
    Done,
}

impl Connection {
    pub(super) async fn extended(&mut self, message: Frontend) -> Result<(), Failure> {
        if let Frontend::Sync = message {
            return self.sync().await;
        }
        if self.skipping {
            return Ok(());
        }
        match message {
            Frontend::Parse {
                statement,
                query,
                parameter_types,
            } => self.parse(statement, &query, &parameter_types).await,
            Frontend::Bind(bind) => self.bind(bind),
            Frontend::Describe(Target::Statement, name) => self.describe_statement(&name),
            Frontend::Describe(Target::Portal, name) => self.describe_portal(&name),
            Frontend::Execute { portal, rows_max } => self.execute(&portal, rows_max).await,
            Frontend::Close(target, name) => {
                match target {
                    Target::Statement => drop(self.statements.remove(&name)),
                    Target::Portal => drop(self.portals.remove(&name)),
                }
                backend::close_complete(&mut self.channel.out);
                Ok(())
            }
            Frontend::Flush => Ok(self.channel.flush().await?),
            _ => Ok(()),
        }
    }

    async fn sync(&mut self) -> Result<(), Failure> {
        let succeeded = !std::mem::take(&mut self.skipping);
        // A single Execute has no transaction around it, but one that was stopped in its middle has
        // left its own open.
        if std::mem::take(&mut self.implicit) || !succeeded {
            let _running = self.begin_statement();
            let ended = watched(
                &mut self.channel,
                &self.interrupt,
                self.session.end_implicit(succeeded),
            );
            let ended = match ended.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.into()),
                Err(failure) => Err(failure),
            };
            match ended {
                Err(Failure::Statement(report)) => self.fail(&report),
                ended => ended?,
            }
        }
        self.ready_for_query();
        Ok(())
    }

    async fn parse(&mut self, name: String, query: &str, oids: &[u32]) -> Result<(), Failure> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(Failure::Statement(Report::error(
                "42P05",
                format!("prepared statement \"{name}\" already exists"),
            )));
        }
        let _running = self.begin_statement();
        let mut statements = self.session.parse(query)?;
        if statements.len() > 1 {
            return Err(Failure::Statement(Report::error(
                "42601",
                "cannot insert multiple commands into a prepared statement",
            )));
        }
        let prepared = match statements.pop() {
            Some(statement) => {
                let start = statement.start;
                let types: Vec<Option<ColumnType>> =
                    oids.iter().map(|oid| given_type(*oid)).collect();
                let prepared = self.session.prepare(statement, &types);
                let prepared = watched(&mut self.channel, &self.interrupt, prepared).await?;
                Some(prepared.map_err(|mut error| {
                    error.position = error.position.map(|position| position + start);
                    error
                })?)
            }
            None => None,
        };
        let inferred = prepared
            .as_ref()
            .map_or(&[][..], |one| &one.description.parameters);
        let parameter_oids = inferred
            .iter()
            .enumerate()
            .map(|(index, inferred)| match oids.get(index) {
                Some(given) if given_type(*given).is_some() => *given,
                _ => inferred.oid(),
            })
            .collect();
        self.statements.insert(
            name,
            PreparedStatement {
                prepared,
                parameter_oids,
            },
        );
        backend::parse_complete(&mut self.channel.out);
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<&PreparedStatement, Failure> {
        self.statements.get(name).ok_or_else(|| {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            Failure::Statement(Report::error("26000", message))
        })
    }

    fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let statement = self.statement(&bind.statement)?;
        let types = statement
            .prepared
            .as_ref()
            .map_or(&[][..], |one| &one.description.parameters);
        if bind.parameters.len() != types.len() {
            return Err(Failure::Statement(Report::error(
                "08P01",
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                    bind.parameters.len(),
                    bind.statement,
                    types.len()
                ),
            )));
        }
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(Failure::Statement(Report::error(
                "42P03",
                format!("cursor \"{}\" already exists", bind.portal),
            )));
        }
        let time_zone = if types.is_empty() {
            None
        } else {
            self.session.setting("TimeZone")
        };
        let parameters = super::parameter::decode_all(
            types,
            &bind.parameter_formats,
            &bind.parameters,
            time_zone.as_deref().unwrap_or("UTC"),
        )?;
        let portal = Portal {
            prepared: statement.prepared.clone(),
            parameters,
            formats: bind.result_formats,
            progress: Progress::Ready,
        };
        self.portals.insert(bind.portal, portal);
        backend::bind_complete(&mut self.channel.out);
        Ok(())
    }

    fn describe_statement(&mut self, name: &str) -> Result<(), Failure> {
        let statement = self.statement(name)?;
        let oids = statement.parameter_oids.clone();
        let fields = statement
            .prepared
            .as_ref()
            .and_then(|prepared| prepared.description.fields.clone());
        backend::parameter_description(&mut self.channel.out, &oids);
        match fields {
            Some(fields) => rows::describe(&fields, &[], &mut self.channel.out)?,
            None => backend::no_data(&mut self.channel.out),
        }
        Ok(())
    }

    fn describe_portal(&mut self, name: &str) -> Result<(), Failure> {
        let cursor_fields;
        let (fields, formats) = match self.portals.get(name) {
            Some(portal) => {
                let prepared = portal.prepared.as_ref();
                let fields = prepared.and_then(|prepared| prepared.description.fields.as_ref());
                (fields, portal.formats.as_slice())
            }
            // To PostgreSQL a cursor is a portal, and clients describe it.
            None => {
                cursor_fields = self.session.cursor_fields(name);
                (
                    Some(cursor_fields.as_ref().ok_or_else(|| no_portal(name))?),
                    &[][..],
                )
            }
        };
        match fields {
            Some(fields) => rows::describe(fields, formats, &mut self.channel.out)?,
            None => backend::no_data(&mut self.channel.out),
        }
        Ok(())
    }

    async fn execute(&mut self, name: &str, rows_max: usize) -> Result<(), Failure> {
        let rows_max = if rows_max == 0 { usize::MAX } else { rows_max };
        // Taken out so that the session can be used beside it; put back unless it failed.
        let Some(mut portal) = self.portals.remove(name) else {
            return Err(no_portal(name));
        };
        let tag = match self.execute_portal(&mut portal, rows_max).await {
            Ok(tag) => tag,
            Err(failure) => return Err(failure),
        };
        self.portals.insert(name.to_owned(), portal);
        self.send_notices();
        match tag {
            Executed::Complete(tag) => backend::command_complete(&mut self.channel.out, &tag),
            Executed::Suspended => backend::portal_suspended(&mut self.channel.out),
            Executed::Empty => backend::empty_query_response(&mut self.channel.out),
        }
        Ok(())
    }

    async fn execute_portal(
        &mut self,
        portal: &mut Portal,
        rows_max: usize,
    ) -> Result<Executed, Failure> {
        let Some(prepared) = &portal.prepared else {
            return Ok(Executed::Empty);
        };
        let _running = self.begin_statement();
        match std::mem::replace(&mut portal.progress, Progress::Done) {
            Progress::Ready => {}
            Progress::Sending(cursor) => {
                return self.continue_portal(portal, cursor, rows_max).await;
            }
            Progress::Sent(cursor) => {
                let tag = cursor.tag(0);
                portal.progress = Progress::Sent(cursor);
                return Ok(Executed::Complete(tag));
            }
            Progress::Done => {
                return Err(Failure::Statement(Report::error(
                    "55000",
                    "portal cannot be run any more",
                )));
            }
        }
        if !self.implicit && !self.sync_is_next() {
            self.session.begin_implicit();
            self.implicit = true;
        }
        if let Some(statement) = &prepared.statement
            && let Some(tag) = self.forget_statements(&statement.statement)
        {
            return Ok(Executed::Complete(tag));
        }
        let executed = self.session.execute(prepared, &portal.parameters);
        let outcome = watched(&mut self.channel, &self.interrupt, executed).await??;
        match outcome {
            Outcome::Rows {
                fields,
                stream,
                tag,
            } => {
                let encoder = RowEncoder::new(&fields, &portal.formats, self.style(&fields))?;
                self.continue_portal(portal, Cursor::new(stream, encoder, tag), rows_max)
                    .await
            }
            other => Ok(match self.answer(other).await? {
                Some(tag) => Executed::Complete(tag),
                None => Executed::Empty,
            }),
        }
    }

    async fn continue_portal(
        &mut self,
        portal: &mut Portal,
        mut cursor: Cursor,
        rows_max: usize,
    ) -> Result<Executed, Failure> {
        match self.send_rows(&mut cursor, rows_max).await? {
            Sent::All(count) => {
                let tag = cursor.tag(count);
                portal.progress = Progress::Sent(cursor);
                Ok(Executed::Complete(tag))
            }
            Sent::Part => {
                portal.progress = Progress::Sending(cursor);
                Ok(Executed::Suspended)
            }
        }
    }

    /// Whether the client has already said that nothing else belongs to this transaction.
    fn sync_is_next(&self) -> bool {
        self.channel.inbound.first() == Some(&b'S')
    }
}

enum Executed {
    Complete(String),
    Suspended,
    Empty,
}

/// The type a client gives a parameter; 0 and `unknown` leave it to us.
fn given_type(oid: u32) -> Option<ColumnType> {
    const UNKNOWN: u32 = 705;
    if oid == UNKNOWN {
        None
    } else {
        ColumnType::from_oid(oid)
    }
}

fn no_portal(name: &str) -> Failure {
    Failure::Statement(Report::error(
        "34000",
        format!("portal \"{name}\" does not exist"),
    ))
}
