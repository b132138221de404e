//! The examples run to their ends against a cluster of their own.
