//! A request's body on its way to a backend of HTTP/2, which shares its connection with those of others.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::FIELD_BYTES_MAX;
use crate::{
    body::{Broken, RequestBody, Upload},
    limits::http2_size,
};

/// The body, without what would end the connection.
pub(super) struct Outgoing {
    body: RequestBody,
    /// `None` if there is no body.
    upload: Option<Rc<Upload>>,
}

impl Outgoing {
    pub(super) fn new(body: RequestBody) -> Self {
        let upload = body.upload();
        Self { body, upload }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self { body, upload } = self.get_mut();
        let next = ready!(Pin::new(body).poll_frame(context));
        if let (Some(Ok(frame)), Some(upload)) = (&next, upload)
            && frame.trailers_ref().is_some_and(|fields| http2_size(fields) > FIELD_BYTES_MAX)
        {
            // They cannot have a connection of their own any more.
            return Poll::Ready(Some(Err(upload.refuse_trailers())));
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
