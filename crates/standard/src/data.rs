//! The standard, as data.
