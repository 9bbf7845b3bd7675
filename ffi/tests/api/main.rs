//! The library through its header: every call here goes by `bindings.rs`, which bindgen made of `bantam.h`, so that the two
//! cannot drift apart. What one process has once, the log and the count of its memory, is tested in `log.rs` and `leaks.rs`.

#[allow(
    non_camel_case_types,
    dead_code,
    missing_docs,
    reason = "made from the header, as it is"
)]
mod bindings;
#[macro_use]
mod common;
mod convert;
mod header;
mod models;
mod nulls;
mod sessions;
