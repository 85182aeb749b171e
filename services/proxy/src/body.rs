//! Bodies on their way through, frame by frame, with what has to happen when they end.

mod request;
mod response;

pub(crate) use self::{
    request::{Broken, ClientBody, RequestBody, Upload},
    response::{Arriving, Cut, Ending, ResponseBody},
};
