//! Stands between a client and PostgreSQL, and cuts the wire at a COMMIT.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Where the wire is cut.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Cut {
    /// The server gets it, the client no answer.
    AfterCommit = 1,
    /// The server does not get it.
    BeforeCommit = 2,
    /// As the first, and nobody comes through any more.
    AfterCommitForGood = 3,
}

#[derive(Default)]
struct State {
    next: AtomicU8,
    cut: AtomicBool,
    closed: AtomicBool,
}

/// The proxy.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

/// What a client sends for COMMIT: a simple query.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let seen = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !seen.closed.load(Ordering::SeqCst) {
                    tokio::spawn(carry(client, server, Arc::clone(&seen)));
                }
            }
        });
        Self { port, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The next COMMIT that comes by.
    pub(crate) fn cut_next(&self, cut: Cut) {
        self.state.cut.store(false, Ordering::SeqCst);
        self.state.next.store(cut as u8, Ordering::SeqCst);
    }

    pub(crate) fn was_cut(&self) -> bool {
        self.state.cut.load(Ordering::SeqCst)
    }
}

async fn carry(mut client: TcpStream, server: u16, state: Arc<State>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Some(bytes) = read.ok().and_then(|read| asked.get(..read)) else { return };
                if bytes.is_empty() {
                    return;
                }
                let cut = if bytes.windows(COMMIT.len()).any(|part| part == COMMIT) {
                    state.next.swap(0, Ordering::SeqCst)
                } else {
                    0
                };
                if cut != Cut::BeforeCommit as u8 && server.write_all(bytes).await.is_err() {
                    return;
                }
                if cut != 0 {
                    state.cut.store(true, Ordering::SeqCst);
                    if cut == Cut::AfterCommitForGood as u8 {
                        state.closed.store(true, Ordering::SeqCst);
                    }
                    if cut != Cut::BeforeCommit as u8 {
                        // Until it is done; nobody hears of it.
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Some(bytes) = read.ok().and_then(|read| answered.get(..read)) else { return };
                if bytes.is_empty() || client.write_all(bytes).await.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                if state.closed.load(Ordering::SeqCst) {
                    return;
                }
            }
        }
    }
}
