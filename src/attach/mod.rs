//! Clusters that exist already.

pub mod rights;
