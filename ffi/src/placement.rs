//! Where operators run, and why not elsewhere.

use std::ffi::{CString, c_char};

use bantam_delegate::{Placed, Session};

use crate::error::{Failure, bantam_error, bantam_status};
use crate::guard::{as_out, as_ref, guard, guard_or};
use crate::session::bantam_session;
use crate::string::{c_string, one_line};
use crate::struct_size::{self, SizeFirst};

/// See the header.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the header documents them")]
pub struct bantam_placement {
    pub struct_size: usize,
    pub index: usize,
    pub subgraph: usize,
    pub op: *const c_char,
    pub placed: i32,
    pub partition: i32,
    pub rule: *const c_char,
    pub reason: *const c_char,
}

// SAFETY: `repr(C)`, the size comes first, and zero is a value of every field.
unsafe impl SizeFirst for bantam_placement {
    const NAME: &'static str = "bantam_placement";
}

/// The texts of a session's placement, which live as long as it.
pub(crate) struct Placements {
    ops: Vec<Op>,
    pub summary: CString,
}

struct Op {
    index: usize,
    subgraph: usize,
    name: CString,
    placed: Placed,
    rule: Option<CString>,
    reason: Option<CString>,
}

impl Placements {
    pub fn new(session: &Session) -> Self {
        let placement = session.placement();
        let ops = placement.nodes.iter().map(|node| Op {
            index: node.index,
            subgraph: node.subgraph,
            name: c_string(node.op.clone()),
            placed: node.placed,
            rule: node.rule().map(c_string),
            reason: node.reason.clone().map(c_string),
        });
        Self {
            ops: ops.collect(),
            summary: one_line(&placement.to_string()),
        }
    }
}

fn text(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())
}

/// # Safety
///
/// `session` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_op_count(session: *const bantam_session) -> usize {
    guard_or(0, || {
        // SAFETY: the caller vouches for it.
        let claim = unsafe { session.as_ref() }.and_then(|session| session.claim().ok());
        let Some(claim) = claim else { return 0 };
        claim.state().map_or(0, |state| state.placements.ops.len())
    })
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_placement(
    session: *const bantam_session,
    index: usize,
    placement: *mut bantam_placement,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let claim = as_ref(session, "session")?.claim()?;
            let state = claim.state()?;
            let ops = &state.placements.ops;
            let op = ops
                .get(index)
                .ok_or_else(|| Failure::argument(format!("operator {index} of {}", ops.len())))?;
            let (placed, partition) = match op.placed {
                Placed::Cpu => (0, -1),
                Placed::Partition(number) => (1, i32::try_from(number).unwrap_or(i32::MAX)),
                Placed::Constant => (2, -1),
            };
            struct_size::write(
                placement,
                bantam_placement {
                    struct_size: size_of::<bantam_placement>(),
                    index: op.index,
                    subgraph: op.subgraph,
                    op: op.name.as_ptr(),
                    placed,
                    partition,
                    rule: text(&op.rule),
                    reason: text(&op.reason),
                },
            )
        })
    }
}

/// # Safety
///
/// `session` is NULL, or from this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_summary(session: *const bantam_session) -> *const c_char {
    guard_or(c"".as_ptr(), || {
        // SAFETY: the caller vouches for it.
        let claim = unsafe { session.as_ref() }.and_then(|session| session.claim().ok());
        let Some(claim) = claim else {
            return c"".as_ptr();
        };
        claim
            .state()
            .map_or(c"".as_ptr(), |state| state.placements.summary.as_ptr())
    })
}

/// # Safety
///
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bantam_session_report(
    session: *const bantam_session,
    json: *mut *mut c_char,
    error: *mut *mut bantam_error,
) -> bantam_status {
    // SAFETY: the caller vouches for each pointer.
    unsafe {
        guard(error, || {
            let place = as_out(json, "json")?;
            let claim = as_ref(session, "session")?.claim()?;
            let state = claim.state()?;
            let mut object = state.session.report_json();
            object["schema"] = "bantam.session".into();
            object["schema_version"] = 1.into();
            *place = c_string(format!("{object:#}\n")).into_raw();
            Ok(())
        })
    }
}
