//! Two connections joined into one.

use std::{
    cell::Cell,
    io,
    time::{Duration, Instant},
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const BUFFER: usize = 16 * 1024;

/// Joins the two sides of a WebSocket and cuts them when neither has sent anything for `idle`
/// (learn.microsoft.com/troubleshoot/azure/app-service/web-apps-performance-faqs: 230 s).
pub(crate) async fn upgraded(client: Upgraded, server: Upgraded, idle: Duration) {
    join(TokioIo::new(client), TokioIo::new(server), Some(idle)).await;
}

/// Copies both ways until both have ended, one has failed, or neither has sent anything for `idle`.
pub(crate) async fn join<A, B>(a: A, b: B, idle: Option<Duration>)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let last = Cell::new(Instant::now());
    let (from_a, to_a) = tokio::io::split(a);
    let (from_b, to_b) = tokio::io::split(b);
    let both = async { tokio::try_join!(pump(from_a, to_b, &last), pump(from_b, to_a, &last)) };
    let silence = async {
        let Some(idle) = idle else { return std::future::pending().await };
        while last.get().elapsed() < idle {
            tokio::time::sleep_until((last.get() + idle).into()).await;
        }
    };
    tokio::select! {
        ended = both => if let Err(error) = ended {
            tracing::debug!(%error, "a joined connection failed");
        },
        () = silence => tracing::debug!("a joined connection was idle for too long"),
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    last: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        last.set(Instant::now());
        to.write_all(&buffer[..n]).await?;
        to.flush().await?;
    }
}
