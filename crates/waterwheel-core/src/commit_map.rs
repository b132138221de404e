//! The commit map.
