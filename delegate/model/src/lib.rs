//! Bantam.
