//! In a test build: an answer that leaves in two halves, with a point to die at between them.

use std::{convert::Infallible, time::Duration};

use actix_web::{
    HttpResponse,
    body::{BoxBody, MessageBody, SizedStream},
};
use futures_util::stream::{self, StreamExt as _};

use crate::fault::crash_point;

/// Long enough for the first half to be on its way.
const BETWEEN: Duration = Duration::from_millis(20);

pub(super) fn in_halves(answer: HttpResponse) -> HttpResponse {
    answer.map_body(|_, body| match body.try_into_bytes() {
        Ok(mut first) => {
            let length = first.len();
            let second = first.split_off(length / 2);
            let halves = stream::iter([(false, first), (true, second)]);
            let halves = halves.then(|(last, half)| async move {
                if last {
                    tokio::time::sleep(BETWEEN).await;
                    crash_point!("door.answer_half_written");
                }
                Ok::<_, Infallible>(half)
            });
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            BoxBody::new(SizedStream::new(length, Box::pin(halves)))
        }
        Err(body) => body,
    })
}
