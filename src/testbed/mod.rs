//! A live testbed: its record, and connecting to it.

pub mod record;

pub use record::Record;
