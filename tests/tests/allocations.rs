//! A run allocates nothing: what it needs is there when it starts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use bantam_model::Model;
use bantam_model::cpu::{Options, Plan, Runner};
use bantam_tests::cases;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting what the thread asks of it.
struct Counting;

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` is from `alloc`, which is that of `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn running_allocates_nothing() {
    let mut allocating = Vec::new();
    for case in cases().expect("the test data") {
        let model = Model::open(&case.model).unwrap();
        let Ok(plan) = Plan::new(&model, &Options::default()) else {
            continue;
        };
        let mut runner = Runner::new(Arc::new(plan)).unwrap();
        for (index, input) in case.inputs.iter().enumerate() {
            runner.set_input(index, &input.bytes).unwrap();
        }
        runner.run().unwrap();
        let before = COUNT.get();
        runner.run().unwrap();
        let count = COUNT.get() - before;
        if count > 0 {
            allocating.push(format!("{}: {count}", case.name));
        }
    }
    assert!(allocating.is_empty(), "{}", allocating.join("\n"));
}
