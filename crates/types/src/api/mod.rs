//! Wire models of the Engine API.
