//! One client's socket, plain or TLS, with what was read ahead and what is still to be sent.
//!
//! Answers gather in [`Channel::out`] and leave when the connection is about to wait, or when the
//! buffer has grown to [`FLUSH_BYTES`]: back-pressure is the socket's own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::interrupt::Interrupt;
use super::message::ProtocolError;
use super::message::frontend::{self, Frontend};

/// When the answers so far are sent without waiting for more.
pub const FLUSH_BYTES: usize = 128 << 10;
/// How much of a pipelining client is read ahead while a statement runs.
const READ_AHEAD_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 16 << 10;

/// A socket, encrypted or not.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Given away; reads as ended.
    Closed,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Closed => Poll::Ready(Ok(0)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

/// Why nothing more can be said on a channel.
#[derive(Debug)]
pub enum ChannelError {
    /// The client is gone, or the network is.
    Gone,
    /// What came was no message.
    Protocol(ProtocolError),
}

impl From<io::Error> for ChannelError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<ProtocolError> for ChannelError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

pub struct Channel {
    pub stream: Stream,
    pub inbound: BytesMut,
    pub out: Vec<u8>,
    /// How much of `out` is with the client already.
    sent: usize,
    pub bytes_sent: u64,
    /// The longest message taken; raised once the client has proved who it is.
    pub message_bytes_max: usize,
}

impl Channel {
    pub fn new(stream: Stream, inbound: BytesMut) -> Self {
        Self {
            stream,
            inbound,
            out: Vec::new(),
            sent: 0,
            bytes_sent: 0,
            message_bytes_max: frontend::STRANGER_MESSAGE_BYTES_MAX,
        }
    }

    /// The socket of a connection that is about to be encrypted; the channel is useless afterwards.
    pub fn take_plain(&mut self) -> Option<(TcpStream, BytesMut)> {
        let stream = std::mem::replace(&mut self.stream, Stream::Closed);
        match stream {
            Stream::Plain(socket) => Some((socket, std::mem::take(&mut self.inbound))),
            Stream::Tls(_) | Stream::Closed => None,
        }
    }

    /// The next message; answers so far are sent before waiting for it. Dropping the future loses
    /// nothing that was received.
    pub async fn next(&mut self) -> Result<Frontend, ChannelError> {
        loop {
            if let Some(message) = Frontend::take(&mut self.inbound, self.message_bytes_max)? {
                return Ok(message);
            }
            self.flush().await?;
            self.read_more().await?;
        }
    }

    /// Reads whatever has come, at least one byte.
    pub async fn read_more(&mut self) -> Result<(), ChannelError> {
        self.inbound.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.inbound).await? {
            0 => Err(ChannelError::Gone),
            _ => Ok(()),
        }
    }

    /// Sends what has gathered. After its future is dropped, the next call goes on where it was.
    pub async fn flush(&mut self) -> Result<(), ChannelError> {
        while self.sent < self.out.len() {
            let count = self.stream.write(&self.out[self.sent..]).await?;
            if count == 0 {
                return Err(ChannelError::Gone);
            }
            self.sent += count;
            self.bytes_sent += count as u64;
        }
        if self.sent > 0 {
            self.stream.flush().await?;
            self.sent = 0;
            self.out.clear();
            self.out.shrink_to(4 * FLUSH_BYTES);
        }
        Ok(())
    }

    /// Sends what has gathered once there is much of it. A client that does not read holds back
    /// only this connection, and the server's shutdown does not wait for it.
    pub async fn flush_when_full(&mut self, interrupt: &Interrupt) -> Result<(), ChannelError> {
        if self.out.len() < FLUSH_BYTES {
            return Ok(());
        }
        tokio::select! {
            biased;
            flushed = self.flush() => flushed,
            () = interrupt.until_terminated() => Err(ChannelError::Gone),
        }
    }

    /// Ends only when the client has gone; what it sends meanwhile is kept for later.
    pub async fn until_gone(&mut self) {
        loop {
            if self.inbound.len() >= READ_AHEAD_BYTES_MAX {
                return std::future::pending().await;
            }
            if self.read_more().await.is_err() {
                return;
            }
        }
    }
}
