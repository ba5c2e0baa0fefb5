//! In a test build: a request whose head and body leave one after the other, with a point to die at
//! behind each.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::{Body, Request};

use crate::fault::crash_point;

/// Long enough for the last byte to leave.
const MOMENT: Duration = Duration::from_millis(1);

/// A body that lets what was written before it leave first.
struct Pieces {
    text: Option<Bytes>,
    turns: u8,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.turns += 1;
        match self.turns {
            // What is in the buffer is sent when nothing more is ready.
            1 | 3 => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            2 => {
                crash_point!("courier.head_sent");
                let text = self.text.as_mut();
                let most = text.map(|text| text.split_to(text.len().saturating_sub(1)));
                Poll::Ready(most.map(|text| Ok(Frame::data(text))))
            }
            _ => {
                let last = self.text.take();
                // Nobody asks again after the last byte.
                if last.is_some() {
                    std::thread::spawn(|| {
                        std::thread::sleep(MOMENT);
                        crash_point!("courier.body_sent");
                    });
                }
                Poll::Ready(last.map(|text| Ok(Frame::data(text))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.text.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
    }
}

pub(super) fn in_pieces(mut request: Request) -> Request {
    let text = request.body().and_then(Body::as_bytes);
    if let Some(text) = text.map(Bytes::copy_from_slice) {
        let pieces = Pieces {
            text: Some(text),
            turns: 0,
        };
        *request.body_mut() = Some(Body::wrap(pieces));
    }
    request
}
