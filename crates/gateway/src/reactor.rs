//! The threads that serve connections.

use std::{io, net::TcpListener, sync::Arc, thread, time::Duration};

use tokio::{
    runtime,
    sync::{Semaphore, mpsc, oneshot},
};

use crate::{
    gateway::{Listening, Shared},
    serve, upstream,
};

/// How often idle connections to instances are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// What a reactor is told.
#[derive(Debug)]
pub(crate) enum Command {
    Serve {
        listener: TcpListener,
        listening: Listening,
        room: Arc<Semaphore>,
    },
    /// Answered between two tasks, hence when no request is being routed.
    Quiesce(oneshot::Sender<()>),
    Stop {
        grace: Duration,
        reply: oneshot::Sender<()>,
    },
}

/// Starts a reactor. It ends when told to, or when nobody is left who could tell it anything.
pub(crate) fn start(
    number: usize,
    shared: Arc<Shared>,
) -> io::Result<mpsc::UnboundedSender<Command>> {
    let (sender, commands) = mpsc::unbounded_channel();
    // Such a runtime stays on the thread it was made on.
    let (started, outcome) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name(format!("gateway-{number}")).spawn(move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(runtime::LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                runtime.block_on(run(shared, commands));
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    })?;
    outcome.recv().map_err(io::Error::other)??;
    Ok(sender)
}

async fn run(shared: Arc<Shared>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Every connection holds a copy, and `recv` ends with the last one.
    let (open, mut closed) = mpsc::channel::<()>(1);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = sweep.tick() => {
                upstream::sweep();
                continue;
            }
        };
        match command {
            None => return,
            Some(Command::Quiesce(reply)) => {
                let _ = reply.send(());
            }
            Some(Command::Serve { listener, listening, room }) => {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        let accepting =
                            accept(shared.clone(), listener, listening, room, open.clone());
                        tokio::task::spawn_local(accepting);
                    }
                    Err(error) => tracing::error!(%error, "cannot listen"),
                }
            }
            Some(Command::Stop { grace, reply }) => {
                drop(open);
                let _ = tokio::time::timeout(grace, closed.recv()).await;
                let _ = reply.send(());
                return;
            }
        }
    }
}

async fn accept(
    shared: Arc<Shared>,
    listener: tokio::net::TcpListener,
    listening: Listening,
    room: Arc<Semaphore>,
    open: mpsc::Sender<()>,
) {
    loop {
        let accepted = async {
            // Beyond the limit connections wait in the kernel's queue.
            let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (tcp, addr) = listener.accept().await?;
            io::Result::Ok((permit, tcp, addr))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = shared.closing.cancelled() => return,
        };
        match accepted {
            Ok((permit, tcp, addr)) => {
                let shared = shared.clone();
                let open = open.clone();
                tokio::task::spawn_local(async move {
                    let _open = open;
                    serve::accepted(shared, tcp, addr, listening, permit).await;
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely; others may free some.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
