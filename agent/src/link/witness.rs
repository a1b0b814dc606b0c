//! Who heard the coordinator say what is wrong with this host's certificate.
//!
//! `connect` wraps each dial in [`witnessed`]. The refusal is a TLS alert on the pipe; the layers above it (HTTP/2
//! most of all) may hand on no more than its text, depending on which of their tasks meets it first. So it is looked
//! for where it arrives, before anybody has translated it. Nothing is decided here.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::FutureExt as _;
use launchpad_pki::pipe::{Dial, Pipe};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::cause::{Refusal, says_refused};

/// The first refusal that was heard on any pipe of one dial.
#[derive(Debug, Clone, Default)]
pub(super) struct Witness(Arc<OnceLock<Refusal>>);

impl Witness {
    /// What was heard, if anything.
    pub(super) fn heard(&self) -> Option<Refusal> {
        self.0.get().copied()
    }

    fn hear<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| {
            if let Some(refusal) = says_refused(error) {
                // The second pipe of a dial says what the first has said.
                let _ = self.0.set(refusal);
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

    async fn heard(alert: AlertDescription) -> Option<Refusal> {
        let dial: Dial = Arc::new(move |_| async move { Ok(Box::new(Alerted(alert)) as Box<dyn Pipe>) }.boxed());
        let witness = Witness::default();
        let mut pipe = witnessed(dial, witness.clone())(Lane::Control).await.unwrap();
        assert_eq!(witness.heard(), None, "nothing was read yet");
        pipe.read_u8().await.unwrap_err();
        witness.heard()
    }

    #[tokio::test]
    async fn a_refusal_is_heard_on_the_pipe_for_what_it_is() {
        assert_eq!(heard(AlertDescription::CertificateRevoked).await, Some(Refusal::Revoked));
        for out_of_date in [AlertDescription::CertificateExpired, AlertDescription::UnknownCA] {
            assert_eq!(heard(out_of_date).await, Some(Refusal::OutOfDate));
        }
        assert_eq!(heard(AlertDescription::HandshakeFailure).await, None);
    }
}
