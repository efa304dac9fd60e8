//! What an operator asks of the queue.

/// A request with the way back for its answer.
pub(crate) struct Request;
impl crate::shared::Shared {
    pub(crate) fn answer(&self, _request: Request) {}
}
