//! What the live views of the gateway ask for beside the samples: sessions, and messages wherever they are.

mod messages;
mod search;
mod sessions;

pub(crate) use self::messages::MessageRoutes;
pub(crate) use self::sessions::SessionRoutes;
