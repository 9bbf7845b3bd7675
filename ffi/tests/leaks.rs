//! A thousand rounds leave the memory as it was. Alone in its process, whose memory is counted.

#[allow(
    non_camel_case_types,
    dead_code,
    missing_docs,
    reason = "made from the header, as it is"
)]
#[path = "api/bindings.rs"]
mod bindings;
#[path = "api/common.rs"]
#[macro_use]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use bindings::*;
use common::{Model, Session, convert_options, digits, dims, integer_digits, refused, reshape};

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// The system's allocator, counting what lives.
struct Counting;

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: `pointer` is from `alloc`, which is that of `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes that `rounds` of `round` leave, but for those of the first.
fn left(rounds: usize, round: impl Fn()) -> isize {
    round();
    let before = LIVE.load(Ordering::Relaxed);
    (0..rounds).for_each(|_| round());
    LIVE.load(Ordering::Relaxed) - before
}

#[test]
fn nothing_is_left_of_what_was_freed() {
    let (x, shape) = ([0u8; 24], dims([3, 2]));
    let left_of_runs = left(1000, || {
        let model = reshape();
        let session = model.session();
        session.run(&[&x, &shape]).unwrap();
        refused(session.run(&[&x, &dims([7, 7])]), "BANTAM_RUN", "");
        session.report();
        refused(Model::of(&[1; 100]), "BANTAM_INVALID_MODEL", "");
    });
    assert_eq!(left_of_runs, 0);

    let left_of_waits = left(100, || {
        let session = reshape().session();
        let mut y = [vec![0u8; 24]];
        let (given, taken) = (common::buffers(&[&x, &shape]), common::room(&mut y));
        call!(bantam_session_run_async(
            session.0,
            given.as_ptr(),
            2,
            taken.as_ptr(),
            1,
            None,
            std::ptr::null_mut()
        ))
        .unwrap();
        call!(bantam_session_wait(session.0)).unwrap();
    });
    assert_eq!(left_of_waits, 0);

    let model = integer_digits();
    let pixels = [0u8; 64 * 4];
    let left_of_drivers = left(100, || {
        let session = Session::on(&model, "virtual?fault=fail&times=1").unwrap();
        session.run(&[&pixels]).unwrap();
    });
    assert_eq!(left_of_drivers, 0);

    let float = Model::open(digits().to_str().unwrap()).unwrap();
    let left_of_conversions = left(10, || {
        let options = bantam_convert_options {
            mode: c"dynamic-range".as_ptr(),
            ..convert_options()
        };
        let mut made = std::ptr::null_mut();
        let done = call!(bantam_convert(
            float.0,
            &options,
            None,
            std::ptr::null_mut(),
            &mut made,
            std::ptr::null_mut()
        ));
        Model::made(made, done).unwrap();
    });
    assert_eq!(left_of_conversions, 0);
}
