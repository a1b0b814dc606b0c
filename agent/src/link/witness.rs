//! Who heard the coordinator say that this host is revoked.
//!
//! `connect` wraps each dial in [`witnessed`]. The refusal is a TLS alert on the pipe; the layers above it (HTTP/2
//! most of all) may hand on no more than its text, depending on which of their tasks meets it first. So it is looked
//! for where it arrives, before anybody has translated it. Nothing is decided here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::FutureExt as _;
use launchpad_pki::pipe::{Dial, Pipe};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::cause::says_revoked;

/// Whether a revocation was heard on any pipe of one dial.
#[derive(Debug, Clone, Default)]
pub(super) struct Witness(Arc<AtomicBool>);

impl Witness {
    /// Whether it was.
    pub(super) fn heard_revoked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn hear<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| {
            if says_revoked(error) {
                self.0.store(true, Ordering::Release);
            }
        })
    }

    fn hear_poll<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        done.map(|done| self.hear(done))
    }
}

/// The same dial, with a witness of what its pipes end with.
pub(super) fn witnessed(dial: Dial, witness: Witness) -> Dial {
    Arc::new(move |lane| {
        let (opening, witness) = (dial(lane), witness.clone());
        async move {
            let pipe = witness.hear(opening.await)?;
            Ok(Box::new(Overheard { pipe, witness }) as Box<dyn Pipe>)
        }
        .boxed()
    })
}

/// A pipe that somebody listens to.
struct Overheard {
    pipe: Box<dyn Pipe>,
    witness: Witness,
}

impl AsyncRead for Overheard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.pipe).poll_read(cx, buf);
        self.witness.hear_poll(done)
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.pipe).poll_write(cx, buf);
        self.witness.hear_poll(done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.pipe).poll_flush(cx);
        self.witness.hear_poll(done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.pipe).poll_shutdown(cx);
        self.witness.hear_poll(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use launchpad_pki::pipe::Lane;
    use rustls::{AlertDescription, Error};
    use tokio::io::AsyncReadExt as _;

    /// A pipe whose every read ends with that alert.
    struct Alerted(AlertDescription);

    impl AsyncRead for Alerted {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, Error::AlertReceived(self.0))))
        }
    }

    impl AsyncWrite for Alerted {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn heard(alert: AlertDescription) -> bool {
        let dial: Dial = Arc::new(move |_| async move { Ok(Box::new(Alerted(alert)) as Box<dyn Pipe>) }.boxed());
        let witness = Witness::default();
        let mut pipe = witnessed(dial, witness.clone())(Lane::Control).await.unwrap();
        assert!(!witness.heard_revoked(), "nothing was read yet");
        pipe.read_u8().await.unwrap_err();
        witness.heard_revoked()
    }

    #[tokio::test]
    async fn a_revocation_is_heard_on_the_pipe_and_no_other_alert_is_taken_for_one() {
        assert!(heard(AlertDescription::CertificateRevoked).await);
        assert!(!heard(AlertDescription::CertificateExpired).await);
    }
}
