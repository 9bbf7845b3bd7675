//! A runtime's context, as a delegate sees it.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::{self, NonNull};

use bantam_delegate::driver::tflite::abi::{
    self, Context, Delegate, DelegateParams, FullRegistration, IntArray, Node, Registration,
    ReplaceSubsets, Status, Stride, Tensor,
};
use bantam_delegate::driver::tflite::array::{Ints, ints};

use crate::error::Failure;
use crate::string::c_string;

/// The functions of a context that may be missing in one that is not whole.
const NEEDED: [usize; 5] = [8, 32, 40, 56, 64];

/// A context, for as long as a call of the runtime's lasts.
#[derive(Clone, Copy)]
pub(super) struct Runtime(NonNull<Context>);

/// What a runtime tells of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Params {
    pub nodes: Vec<c_int>,
    pub inputs: Vec<c_int>,
    pub outputs: Vec<c_int>,
}

impl Params {
    /// # Safety
    ///
    /// `params` is NULL or the runtime's struct.
    pub unsafe fn read(params: *const DelegateParams) -> Option<Self> {
        // SAFETY: the caller vouches for it.
        let params = unsafe { params.as_ref() }?;
        // SAFETY: the arrays are the struct's.
        unsafe {
            Some(Self {
                nodes: ints(params.nodes_to_replace).to_vec(),
                inputs: ints(params.input_tensors).to_vec(),
                outputs: ints(params.output_tensors).to_vec(),
            })
        }
    }
}

impl Runtime {
    /// `None` for NULL, and for a context that lacks a function which each runtime has.
    ///
    /// # Safety
    ///
    /// `context` is NULL or a runtime's, which has just called, and the result is not used after that call.
    pub unsafe fn new(context: *mut Context) -> Option<Self> {
        let context = NonNull::new(context)?;
        let is_whole = NEEDED.iter().all(|&offset| {
            // SAFETY: within the struct, whose fields there are pointers.
            unsafe { context.cast::<u8>().add(offset).cast::<usize>().read() != 0 }
        });
        is_whole.then_some(Self(context))
    }

    pub fn as_ptr(self) -> *mut Context {
        self.0.as_ptr()
    }

    /// The nodes, in order of execution.
    pub fn plan(self) -> Result<Vec<c_int>, Failure> {
        let mut plan: *mut IntArray = ptr::null_mut();
        // SAFETY: `new` has seen to it that this is a context, and that it has the function.
        let status = unsafe { ((*self.as_ptr()).get_execution_plan)(self.as_ptr(), &raw mut plan) };
        if status != abi::OK || plan.is_null() {
            return Err(unreadable(format!(
                "it gives no execution plan (status {status})"
            )));
        }
        // SAFETY: the array is the context's, until the next call of it.
        Ok(unsafe { ints(plan) }.to_vec())
    }

    /// A node and what computes it, which stay as they are until the graph is changed.
    pub fn node(self, index: c_int) -> Result<(*mut Node, *mut Registration), Failure> {
        let mut node: *mut Node = ptr::null_mut();
        let mut registration: *mut Registration = ptr::null_mut();
        // SAFETY: as in `plan`.
        let status = unsafe {
            ((*self.as_ptr()).get_node_and_registration)(
                self.as_ptr(),
                index,
                &raw mut node,
                &raw mut registration,
            )
        };
        if status != abi::OK || node.is_null() || registration.is_null() {
            return Err(unreadable(format!(
                "it does not give node {index} (status {status})"
            )));
        }
        Ok((node, registration))
    }

    pub fn tensor_count(self) -> usize {
        // SAFETY: as in `plan`.
        let (tensors, count) = unsafe { ((*self.as_ptr()).tensors, (*self.as_ptr()).tensors_size) };
        if tensors.is_null() { 0 } else { count }
    }

    /// Where tensor `index` is.
    pub fn tensor(self, index: c_int) -> Option<*mut Tensor> {
        let index = usize::try_from(index).ok()?;
        (index < self.tensor_count()).then(|| {
            // SAFETY: as in `plan`; every runtime that loads plug-ins has this stride.
            unsafe {
                let first = (*self.as_ptr()).tensors.cast::<u8>();
                first.add(index * Stride::Bytes112.bytes()).cast()
            }
        })
    }

    /// How many threads the user wants, if the runtime knows.
    pub fn threads(self) -> Option<usize> {
        // SAFETY: as in `plan`.
        let threads = unsafe { (*self.as_ptr()).recommended_num_threads };
        usize::try_from(threads).ok().filter(|&threads| threads > 0)
    }

    /// Hands the runtime a message for its log.
    pub fn report(self, message: &str) {
        // SAFETY: `new` has seen to it that the context has the function.
        let function = unsafe { (*self.as_ptr()).report_error };
        let message = c_string(message);
        // SAFETY: the field's type in C, which the crate of the layouts cannot name a value of.
        unsafe {
            let function: unsafe extern "C" fn(*mut Context, *const c_char, ...) =
                std::mem::transmute(function);
            let format: &CStr = c"%s";
            function(self.as_ptr(), format.as_ptr(), message.as_ptr());
        }
    }

    /// Gives a tensor another shape.
    ///
    /// # Safety
    ///
    /// `tensor` is one of this context.
    pub unsafe fn resize(self, tensor: *mut Tensor, shape: &[usize]) -> Result<(), Failure> {
        let sizes: Result<Vec<c_int>, _> = shape.iter().map(|&d| c_int::try_from(d)).collect();
        let sizes =
            sizes.map_err(|_| unreadable(format!("it has no tensors of shape {shape:?}")))?;
        // SAFETY: as in `plan`; the context takes the array.
        let status = unsafe {
            ((*self.as_ptr()).resize_tensor)(self.as_ptr(), tensor, Ints::new(sizes).into_raw())
        };
        match status {
            abi::OK => Ok(()),
            status => Err(unreadable(format!(
                "it refuses to resize a tensor to {shape:?} (status {status})"
            ))),
        }
    }

    /// The partitions that the runtime would make of `nodes`; none if it does not say.
    pub fn preview(self, nodes: &[c_int]) -> Vec<Params> {
        // SAFETY: as in `plan`.
        let Some(preview) = (unsafe { (*self.as_ptr()).preview_delegate_partitioning }) else {
            return Vec::new();
        };
        let nodes = Ints::new(nodes.iter().copied());
        let mut params: *mut DelegateParams = ptr::null_mut();
        let mut count = 0;
        // SAFETY: as in `plan`.
        let status = unsafe {
            preview(
                self.as_ptr(),
                nodes.as_ptr(),
                &raw mut params,
                &raw mut count,
            )
        };
        if status != abi::OK || params.is_null() {
            return Vec::new();
        }
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the array is the context's, and has as many elements.
        let read = |index| unsafe { Params::read(params.add(index)) };
        (0..count).filter_map(read).collect()
    }

    /// Replaces `nodes` by kernels.
    ///
    /// # Safety
    ///
    /// `registration` has functions of a delegate's kernels, and `delegate` is a delegate.
    pub unsafe fn replace(
        self,
        registration: FullRegistration,
        nodes: &[c_int],
        delegate: *mut Delegate,
    ) -> Status {
        let nodes = Ints::new(nodes.iter().copied());
        // SAFETY: `new` has seen to it that the context has the function, which is of this type in C.
        unsafe {
            let function = (*self.as_ptr()).replace_node_subsets;
            let function: ReplaceSubsets = std::mem::transmute(function);
            function(self.as_ptr(), registration, nodes.as_ptr(), delegate)
        }
    }
}

fn unreadable(what: String) -> Failure {
    Failure::new(
        crate::error::status::DRIVER,
        format!("the runtime does not do its part: {what}"),
    )
}
