//! Integration tests of the runtime, one binary.

mod monitor;
