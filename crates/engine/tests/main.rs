//! The engine over fake rooms and a fake monitor: a thread that speaks the protocol on the launch socket.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod attach;
mod creation;
mod fakes;
mod lifecycle;
mod reconcile;
mod rootview;
