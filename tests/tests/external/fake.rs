//! A runtime of one ADD on int32, which does what no runtime should.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard};

use bantam::{tflite_plugin_create_delegate as create, tflite_plugin_destroy_delegate as destroy};
use bantam_delegate::driver::tflite::abi::{
    self, Context, Delegate, DelegateParams, IntArray, Node, Registration, Status, Tensor,
    allocation,
};
use bantam_delegate::driver::tflite::array::{Ints, ints};
use bantam_delegate::driver::tflite::overhear;

const ADD: i32 = 0;
const INT32: c_int = 2;

/// A tensor as far apart from the next as in a runtime.
#[repr(C)]
struct Slot {
    tensor: Tensor,
    dims_signature: *const IntArray,
}

/// A node, what computes it, and its arrays.
pub struct FakeNode {
    pub node: Node,
    pub registration: Registration,
    _arrays: [Ints; 3],
}

#[repr(C)]
pub struct Fake {
    /// First, so that a pointer to it is one to all.
    context: Context,
    slots: Vec<Slot>,
    memory: Vec<Vec<i32>>,
    /// The arrays that tensors had at first or were given.
    dims: Vec<Ints>,
    nodes: Vec<FakeNode>,
    kernels: Vec<FakeNode>,
    plan: Ints,
    pub refuses_resize: bool,
    pub loses_plan: bool,
    pub init_without_params: bool,
    delegate: *mut Delegate,
    _turn: MutexGuard<'static, ()>,
}

/// Messages go to one place for the whole program, so there is one fake at a time.
static TURN: Mutex<()> = Mutex::new(());
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

unsafe extern "C" fn keep(_: *mut Context, message: *const c_char) {
    // SAFETY: a message is a string.
    let message = unsafe { CStr::from_ptr(message) };
    SAID.lock()
        .unwrap()
        .push(message.to_str().unwrap().to_owned());
}

fn node(inputs: &[c_int], outputs: &[c_int], registration: Registration) -> FakeNode {
    let list = |values: &[c_int]| Ints::new(values.iter().copied());
    let arrays = [list(inputs), list(outputs), list(&[])];
    FakeNode {
        node: Node {
            inputs: arrays[0].as_ptr(),
            outputs: arrays[1].as_ptr(),
            intermediates: arrays[2].as_ptr(),
            temporaries: arrays[2].as_ptr(),
            user_data: ptr::null_mut(),
            builtin_data: ptr::null_mut(),
            custom_initial_data: ptr::null(),
            custom_initial_data_size: 0,
            delegate: ptr::null_mut(),
            might_have_side_effect: false,
        },
        registration,
        _arrays: arrays,
    }
}

impl Fake {
    /// Tensor 2 is the sum of tensors 0 and 1, of two elements each; and a delegate with our kernels.
    pub fn new() -> Box<Self> {
        let turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
        SAID.lock().unwrap().clear();
        let nothing = ptr::null();
        let add = Registration {
            init: None,
            free: None,
            prepare: None,
            invoke: None,
            profiling_string: nothing,
            builtin_code: ADD,
            custom_name: ptr::null(),
            version: 1,
        };
        // An activation and a flag, both 0.
        static ATTRIBUTES: [u64; 4] = [0; 4];
        let mut sum = node(&[0, 1], &[2], add);
        sum.node.builtin_data = ATTRIBUTES.as_ptr().cast::<c_void>().cast_mut();
        let mut fake = Box::new(Self {
            context: Context {
                tensors_size: 3,
                get_execution_plan,
                tensors: ptr::null_mut(),
                impl_: ptr::null_mut(),
                resize_tensor,
                report_error: overhear(keep),
                add_tensors,
                get_node_and_registration,
                replace_node_subsets: replace_node_subsets as *const c_void,
                recommended_num_threads: -1,
                get_external_context,
                set_external_context,
                allow_fp32_relax_to_fp16: false,
                profiler: ptr::null_mut(),
                allocate_persistent_buffer: nothing,
                allocate_buffer_for_eval: nothing,
                request_scratch_buffer_in_arena: nothing,
                get_scratch_buffer: nothing,
                resize_tensor_explicit: nothing,
                preview_delegate_partitioning: None,
                get_tensor: nothing,
                get_eval_tensor: nothing,
            },
            slots: Vec::new(),
            memory: vec![vec![1, 2], vec![30, 40], vec![0, 0]],
            dims: Vec::new(),
            nodes: vec![sum],
            kernels: Vec::new(),
            plan: Ints::new([0]),
            refuses_resize: false,
            loses_plan: false,
            init_without_params: false,
            // SAFETY: no options.
            delegate: unsafe { create(ptr::null_mut(), ptr::null_mut(), 0, None) },
            _turn: turn,
        });
        for index in 0..3 {
            let dims = Ints::new([2]);
            let data = fake.memory[index].as_mut_ptr().cast();
            fake.slots.push(Slot {
                tensor: Tensor {
                    dtype: INT32,
                    data,
                    dims: dims.as_ptr(),
                    allocation_type: allocation::ARENA_RW,
                    bytes: 8,
                    buffer_handle: -1,
                    // SAFETY: zero is a value of every field.
                    ..unsafe { std::mem::zeroed() }
                },
                dims_signature: ptr::null(),
            });
            fake.dims.push(dims);
        }
        fake.context.tensors = fake.slots.as_mut_ptr().cast();
        fake
    }

    pub fn tensor(&mut self, index: usize) -> &mut Tensor {
        &mut self.slots[index].tensor
    }

    pub fn node(&mut self) -> &mut FakeNode {
        &mut self.nodes[0]
    }

    /// Has a plan of a node that is not there.
    pub fn forget_node(&mut self) {
        self.nodes.clear();
    }

    /// Gives the node other tensors.
    pub fn rewire(&mut self, inputs: &[c_int], outputs: &[c_int]) {
        let old = &self.nodes[0];
        let mut new = node(inputs, outputs, old.registration);
        new.node.builtin_data = old.node.builtin_data;
        self.nodes[0] = new;
    }

    pub fn set_shape(&mut self, index: usize, shape: &[c_int]) {
        let dims = Ints::new(shape.iter().copied());
        self.tensor(index).dims = dims.as_ptr();
        self.dims.push(dims);
    }

    /// The context as words.
    pub fn context_words(&mut self) -> &mut [usize] {
        let words = (&raw mut self.context).cast::<usize>();
        // SAFETY: the struct has this many words, all of them pointers or numbers.
        unsafe { std::slice::from_raw_parts_mut(words, size_of::<Context>() / 8) }
    }

    /// Has the delegate look at the graph.
    pub fn offer(&mut self) -> Status {
        let delegate = self.delegate;
        // SAFETY: the entry point made it.
        let prepare = unsafe { (*delegate).prepare }.unwrap();
        // SAFETY: the context is the fake's.
        unsafe { prepare((&raw mut *self).cast(), delegate) }
    }

    pub fn kernels(&self) -> usize {
        self.kernels.len()
    }

    fn call(&mut self, which: impl FnOnce(&Registration) -> Option<abi::KernelCall>) -> Status {
        let kernel = self.kernels.last_mut().expect("a kernel");
        let call = which(&kernel.registration).unwrap();
        let node = &raw mut kernel.node;
        // SAFETY: the delegate's function, its node and the fake's context.
        unsafe { call((&raw mut *self).cast(), node) }
    }

    pub fn prepare(&mut self) -> Status {
        self.call(|registration| registration.prepare)
    }

    pub fn invoke(&mut self) -> Status {
        self.call(|registration| registration.invoke)
    }

    /// What tensor 2 holds.
    pub fn sum(&self) -> &[i32] {
        &self.memory[2]
    }

    /// What was reported until now, in one line.
    pub fn said(&self) -> String {
        std::mem::take(&mut *SAID.lock().unwrap()).join("; ")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let context = (&raw mut *self).cast();
        for kernel in &self.kernels {
            let free = kernel.registration.free.unwrap();
            // SAFETY: the delegate's function, for what its `init` gave.
            unsafe { free(context, kernel.node.user_data) };
        }
        // SAFETY: made by the entry point, and freed once.
        unsafe { destroy(self.delegate) };
    }
}

fn fake<'a>(context: *mut Context) -> &'a mut Fake {
    // SAFETY: the context is the first field of the fake.
    unsafe { &mut *context.cast::<Fake>() }
}

unsafe extern "C" fn get_execution_plan(context: *mut Context, plan: *mut *mut IntArray) -> Status {
    let fake = fake(context);
    if fake.loses_plan {
        return abi::ERROR;
    }
    // SAFETY: the delegate's place.
    unsafe { *plan = fake.plan.as_ptr() };
    abi::OK
}

unsafe extern "C" fn resize_tensor(
    context: *mut Context,
    tensor: *mut Tensor,
    dims: *mut IntArray,
) -> Status {
    // SAFETY: the array is given away.
    let shape = Ints::new(unsafe { ints(dims) }.iter().copied());
    let fake = fake(context);
    if fake.refuses_resize {
        return abi::ERROR;
    }
    let index = fake
        .slots
        .iter()
        .position(|slot| ptr::eq(&raw const slot.tensor, tensor));
    let index = index.expect("a tensor of this context");
    // SAFETY: as above.
    let len: usize = unsafe { ints(shape.as_ptr()) }
        .iter()
        .map(|&d| d as usize)
        .product();
    fake.memory[index] = vec![0; len];
    let data = fake.memory[index].as_mut_ptr().cast();
    let tensor = fake.tensor(index);
    (tensor.dims, tensor.data, tensor.bytes) = (shape.as_ptr(), data, 4 * len);
    fake.dims.push(shape);
    abi::OK
}

unsafe extern "C" fn add_tensors(_: *mut Context, _: c_int, _: *mut c_int) -> Status {
    abi::ERROR
}

unsafe extern "C" fn get_node_and_registration(
    context: *mut Context,
    index: c_int,
    node: *mut *mut Node,
    registration: *mut *mut Registration,
) -> Status {
    let Some(found) = fake(context).nodes.get_mut(index as usize) else {
        return abi::ERROR;
    };
    // SAFETY: the delegate's places.
    unsafe {
        *node = &raw mut found.node;
        *registration = &raw mut found.registration;
    }
    abi::OK
}

unsafe extern "C" fn replace_node_subsets(
    context: *mut Context,
    registration: Registration,
    nodes: *const IntArray,
    delegate: *mut Delegate,
) -> Status {
    let fake = fake(context);
    // SAFETY: the delegate's array, and those of the node.
    let (nodes, inputs, outputs) = unsafe {
        let first = &fake.nodes[0].node;
        (
            ints(nodes).to_vec(),
            ints(first.inputs).to_vec(),
            ints(first.outputs).to_vec(),
        )
    };
    let arrays = [nodes, inputs.clone(), outputs.clone()].map(Ints::new);
    let mut params = DelegateParams {
        delegate,
        nodes_to_replace: arrays[0].as_ptr(),
        input_tensors: arrays[1].as_ptr(),
        output_tensors: arrays[2].as_ptr(),
    };
    let params: *mut DelegateParams = match fake.init_without_params {
        true => ptr::null_mut(),
        false => &raw mut params,
    };
    let mut kernel = node(&inputs, &outputs, registration);
    // SAFETY: the delegate's function, with what it expects.
    kernel.node.user_data = unsafe { registration.init.unwrap()(context, params.cast(), 0) };
    fake.kernels.push(kernel);
    abi::OK
}

unsafe extern "C" fn get_external_context(_: *mut Context, _: c_int) -> *mut c_void {
    ptr::null_mut()
}

unsafe extern "C" fn set_external_context(_: *mut Context, _: c_int, _: *mut c_void) {}
