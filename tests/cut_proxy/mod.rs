//! Stands between a client and PostgreSQL, and cuts the wire at a COMMIT.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Where the wire is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// The server gets it, the client no answer.
    AfterCommit,
    /// The server does not get it.
    BeforeCommit,
    /// As the first, and nobody comes through any more.
    AfterCommitForGood,
}

struct State {
    /// Of which transaction the COMMIT is to be cut: the one that carries these bytes.
    next: Mutex<Option<(Cut, Vec<u8>)>>,
    cut: AtomicBool,
    closed: watch::Sender<bool>,
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
        let state = Arc::new(State {
            next: Mutex::new(None),
            cut: AtomicBool::new(false),
            closed: watch::Sender::new(false),
        });
        let seen = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut closed = seen.closed.subscribe();
                let state = Arc::clone(&seen);
                tokio::spawn(async move {
                    tokio::select! {
                        _ = closed.wait_for(|closed| *closed) => {}
                        () = carry(client, server, &state) => {}
                    }
                });
            }
        });
        Self { port, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The next COMMIT of a transaction that carries `marked`: others, as the beat of a replica, go
    /// their way.
    pub(crate) fn cut_next(&self, cut: Cut, marked: &[u8]) {
        self.state.cut.store(false, Ordering::SeqCst);
        *self.state.next.lock().unwrap() = Some((cut, marked.to_vec()));
    }

    pub(crate) fn was_cut(&self) -> bool {
        self.state.cut.load(Ordering::SeqCst)
    }
}

impl State {
    /// What is to be cut, if the transaction that ends here is the marked one.
    fn take(&self, transaction: &[u8]) -> Option<Cut> {
        let mut next = self.next.lock().unwrap();
        let (_, marked) = next.as_ref()?;
        contains(transaction, marked)
            .then(|| next.take())
            .flatten()
            .map(|(cut, _)| cut)
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

async fn carry(mut client: TcpStream, server: u16, state: &State) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    // What the client sent since its last COMMIT, however it came in parts.
    let mut transaction = Vec::new();
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Some(bytes) = read.ok().and_then(|read| asked.get(..read)) else { return };
                if bytes.is_empty() {
                    return;
                }
                transaction.extend_from_slice(bytes);
                let mut cut = None;
                if contains(&transaction, COMMIT) {
                    cut = state.take(&transaction);
                    transaction.clear();
                }
                if !matches!(cut, Some(Cut::BeforeCommit)) && server.write_all(bytes).await.is_err() {
                    return;
                }
                match cut {
                    None => continue,
                    Some(Cut::BeforeCommit) => {}
                    // Until it is done; nobody hears of it.
                    Some(Cut::AfterCommit | Cut::AfterCommitForGood) => {
                        let _ = server.read(&mut answered).await;
                    }
                }
                state.cut.store(true, Ordering::SeqCst);
                if matches!(cut, Some(Cut::AfterCommitForGood)) {
                    state.closed.send_replace(true);
                }
                return;
            }
            read = server.read(&mut answered) => {
                let Some(bytes) = read.ok().and_then(|read| answered.get(..read)) else { return };
                if bytes.is_empty() || client.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}
