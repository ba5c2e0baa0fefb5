//! Reading a body: bounded in bytes, in time and in what all bodies together may take.

use std::{
    io::{self, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    http::header,
    web::{Bytes, Payload},
};
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use futures_util::StreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::{error::Error, metrics::Metrics};
use crate::fhir::outcome::Issue;

/// Time until the first byte.
const FIRST_BYTE: Duration = Duration::from_secs(5);
/// A body must bring [`SLOWEST`] bytes in every window of this length.
const WINDOW: Duration = Duration::from_secs(10);
const SLOWEST: usize = 10 * 1024;
/// Beyond this size a body may not be more than [`RATIO`] times its compressed size.
const RATIO_FREE: usize = 1 << 20;
const RATIO: usize = 100;
/// A permit stands for this many bytes.
const PERMIT: usize = 1024;

/// The bytes that all bodies together may take.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    permits: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Budget {
    pub(super) fn new(bytes: usize, metrics: Arc<Metrics>) -> Self {
        let permits = (bytes / PERMIT).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(permits)),
            metrics,
        }
    }
}

/// A share of the budget, given back when the request is done.
#[derive(Debug)]
struct Share {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Share {
    fn grow_to(&mut self, bytes: usize) -> Result<(), Error> {
        let held = self
            .permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = bytes.div_ceil(PERMIT);
        if needed > held {
            let more = u32::try_from(needed.saturating_sub(held)).unwrap_or(u32::MAX);
            let more = Arc::clone(&self.budget.permits)
                .try_acquire_many_owned(more)
                .map_err(|_| Error::Overloaded {
                    limit: "max-inflight-bytes",
                    retry_after: 1,
                })?;
            match &mut self.permit {
                Some(permit) => permit.merge(more),
                None => self.permit = Some(more),
            }
        }
        let grown = bytes.saturating_sub(self.bytes);
        self.budget
            .metrics
            .inflight_bytes
            .inc_by(i64::try_from(grown).unwrap_or(i64::MAX));
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget
            .metrics
            .inflight_bytes
            .dec_by(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

/// A whole body. Its share of the budget is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Body {
    /// The bytes, decompressed.
    pub(super) bytes: Vec<u8>,
    _share: Share,
}

/// Limits of one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    /// Size after decompression.
    pub(super) size: usize,
    /// Time for the whole of it.
    pub(super) time: Duration,
}

/// What was left unread of a refused body.
pub(super) struct Unread {
    _payload: Payload,
}

impl Unread {
    /// Ties it to the answer. As long as it lives the framework knows that the rest was not wanted, and
    /// closes the connection when the answer is out; once dropped, it would read and discard whatever
    /// still comes, for as long as it comes.
    pub(super) fn outlive(self, answer: HttpResponse) -> HttpResponse {
        answer.map_body(|_, body| {
            BoxBody::new(Answer {
                body,
                _unread: self,
            })
        })
    }
}

/// The body of an answer, with what it has to outlive.
struct Answer {
    body: BoxBody,
    _unread: Unread,
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_pin_mut().poll_next(cx)
    }
}

/// Reads the body of a request. Of a refused one the rest is kept with the request, as [`Unread`].
pub(super) async fn read(
    req: &HttpRequest,
    mut payload: Payload,
    limits: BodyLimits,
    budget: &Budget,
) -> Result<Body, Error> {
    let body = read_whole(req, &mut payload, limits, budget).await;
    if body.is_err() {
        req.extensions_mut().insert(Unread { _payload: payload });
    }
    body
}

async fn read_whole(
    req: &HttpRequest,
    payload: &mut Payload,
    limits: BodyLimits,
    budget: &Budget,
) -> Result<Body, Error> {
    let mut share = Share {
        budget: budget.clone(),
        permit: None,
        bytes: 0,
    };
    let announced = req
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.size) {
        return Err(too_large());
    }
    // Before a byte is read: what was announced must fit.
    share.grow_to(announced.unwrap_or(0))?;
    let mut decoder = Decoder::new(req, announced.unwrap_or(0), limits.size)?;

    let end = Instant::now() + limits.time;
    let mut window_end = Instant::now() + WINDOW;
    let mut window_bytes = 0_usize;
    let mut next = timeout(FIRST_BYTE.min(limits.time), payload.next()).await;
    loop {
        match next {
            Err(_) if window_bytes < SLOWEST || Instant::now() >= end => {
                return Err(Error::SlowBody);
            }
            // The window is over and brought enough: on to the next one.
            Err(_) => {
                window_end += WINDOW;
                window_bytes = 0;
            }
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(Error::Malformed(vec![broken(
                    "the body ended before it was complete",
                )]));
            }
            Ok(Some(Ok(chunk))) => {
                window_bytes = window_bytes.saturating_add(chunk.len());
                decoder.push(&chunk)?;
                share.grow_to(decoder.len())?;
            }
        }
        next = timeout_at(end.min(window_end), payload.next()).await;
    }
    Ok(Body {
        bytes: decoder.finish()?,
        _share: share,
    })
}

/// Takes the transfer form apart; every form ends in the same bounded sink.
enum Decoder {
    Plain(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
    Deflate(Box<ZlibDecoder<Sink>>),
}

impl Decoder {
    fn new(req: &HttpRequest, announced: usize, limit: usize) -> Result<Self, Error> {
        let mut codings = req.headers().get_all(header::CONTENT_ENCODING);
        let coding = codings
            .next()
            .map(|coding| coding.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        let unsupported = || {
            Error::MediaType(Issue::error(
                "not-supported",
                "the Content-Encoding must be gzip, deflate or none, and only one",
            ))
        };
        if codings.next().is_some() {
            return Err(unsupported());
        }
        let sink = Sink {
            bytes: Vec::with_capacity(announced.min(limit)),
            limit,
            received: 0,
        };
        match coding.as_deref() {
            None | Some("" | "identity") => Ok(Self::Plain(sink)),
            Some("gzip" | "x-gzip") => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(sink)))),
            Some("deflate") => Ok(Self::Deflate(Box::new(ZlibDecoder::new(sink)))),
            Some(_) => Err(unsupported()),
        }
    }

    fn sink(&mut self) -> &mut Sink {
        match self {
            Self::Plain(sink) => sink,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
        }
    }

    fn len(&mut self) -> usize {
        self.sink().bytes.len()
    }

    fn push(&mut self, chunk: &Bytes) -> Result<(), Error> {
        let sink = self.sink();
        sink.received = sink.received.saturating_add(chunk.len());
        match self {
            // Nothing to unpack: the ratio is one.
            Self::Plain(sink) => sink.write_all(chunk),
            Self::Gzip(decoder) => decoder.write_all(chunk),
            Self::Deflate(decoder) => decoder.write_all(chunk),
        }
        .map_err(|error| refusal(&error))
    }

    fn finish(self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(decoder) => decoder.finish(),
            Self::Deflate(decoder) => decoder.finish(),
        }
        .map(|sink| sink.bytes)
        .map_err(|error| refusal(&error))
    }
}

/// Grows up to its limit and not a byte further, whatever a compressed body claims.
struct Sink {
    bytes: Vec<u8>,
    limit: usize,
    received: usize,
}

impl Write for Sink {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        let size = self.bytes.len().saturating_add(chunk.len());
        if size > self.limit || (size > RATIO_FREE && size / RATIO > self.received) {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "body over its limit",
            ));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn refusal(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::FileTooLarge {
        too_large()
    } else {
        Error::Malformed(vec![broken("the compressed body cannot be unpacked")])
    }
}

fn too_large() -> Error {
    Error::TooLarge(vec![Issue::fatal(
        "too-long",
        "the body is larger than the limit",
    )])
}

fn broken(text: &str) -> Issue {
    Issue::fatal("broken-text", text)
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn unpack(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
        let sink = Sink {
            bytes: Vec::new(),
            limit,
            received: 0,
        };
        let mut decoder = Decoder::Gzip(Box::new(MultiGzDecoder::new(sink)));
        for chunk in bytes.chunks(4096) {
            decoder.push(&Bytes::copy_from_slice(chunk))?;
        }
        decoder.finish()
    }

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = pack(&vec![b' '; 64 << 20]);
        assert!(matches!(unpack(&bomb, 8 << 20), Err(Error::TooLarge(_))));
    }

    #[test]
    fn a_packed_body_comes_out_whole_or_not_at_all() {
        let packed = pack(b"{\"resourceType\":\"Bundle\"}");
        assert_eq!(
            unpack(&packed, 100).unwrap(),
            b"{\"resourceType\":\"Bundle\"}"
        );
        let cut = packed.get(..packed.len() - 9).unwrap();
        assert!(matches!(unpack(cut, 100), Err(Error::Malformed(_))));
    }
}
