//! What a bot wrote, line by line to somebody on the host: by the code that answers the coordinator, past the reconciler.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::frame::{Answer, OutputStream, Question};
use launchpad_protocol::reason::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::{Response, Stream, line_of};
use crate::answer;
use crate::execute::Eyes;

/// How long the past of a log may take: a slow disk, and a slow terminal behind the socket.
const PAST_WITHIN: Duration = Duration::from_secs(120);

/// Sends the lines, then the end. An error means that nobody is there to tell.
pub(super) async fn send(
    eyes: &Arc<dyn Eyes>,
    question: Question,
    read: &mut OwnedReadHalf,
    write: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let mut told = Ok(());
    let in_time = {
        let (told, write) = (&mut told, &mut *write);
        answer::carry(&**eyes, &question, PAST_WITHIN, |pieces| async move {
            *told = tokio::select! {
                told = pass_on(pieces, write) => told,
                // Whoever follows says nothing more: an end, or anything else, means that he is gone.
                _ = read.read_u8() => Ok(()),
            };
        })
        .await
    };
    if !in_time {
        let reason = Reason::new("log-unread", format!("the log was not read within {PAST_WITHIN:?}"));
        write.write_all(&line_of(&Response::End { reason: Some(reason) })?).await?;
    }
    told
}

async fn pass_on(mut pieces: ReceiverStream<Answer>, write: &mut OwnedWriteHalf) -> io::Result<()> {
    while let Some(piece) = pieces.next().await {
        write.write_all(&line_of(&response(piece))?).await?;
    }
    Ok(())
}

fn response(piece: Answer) -> Response {
    match piece {
        Answer::Line(line) => {
            let stream = match line.stream {
                OutputStream::Stdout => Stream::Stdout,
                OutputStream::Stderr => Stream::Stderr,
            };
            Response::Line { at: line.at, stream, text: line.text }
        }
        Answer::End(reason) => Response::End { reason },
    }
}
