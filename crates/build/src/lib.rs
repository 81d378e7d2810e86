//! Building images: the Dockerfile language, the graph of steps made from it, and the solver that runs them.

pub mod dockerfile;
