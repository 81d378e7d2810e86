//! The registry client. Knows neither containers nor how images are kept: what a pull or a push needs of the store are the
//! traits in [`client::store`].

pub mod client;
