//! The kernel that a runtime has in place of a partition.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bantam_delegate::driver::tflite::abi::{
    self, Context, DelegateParams, FullRegistration, Node, Registration, Status, Tensor,
};
use bantam_delegate::driver::tflite::array::ints;

use super::claim::Part;
use super::context::{Params, Runtime};
use super::graph::Offer;
use super::offload::Offload;
use super::record::{self, locked};
use super::{External, Role};
use crate::error::Failure;
use crate::guard::{caught, free, guard_or};

/// What a runtime keeps for us of a kernel.
struct Kernel {
    offload: Arc<Offload>,
    /// What the partition is, or why there is none.
    part: Result<Part, String>,
    graph: Arc<Mutex<record::Graph>>,
    number: usize,
}

/// The functions of our kernels.
pub(super) fn registration() -> FullRegistration {
    FullRegistration {
        prefix: Registration {
            init: Some(init),
            free: Some(free_kernel),
            prepare: Some(prepare),
            invoke: Some(invoke),
            profiling_string: ptr::null(),
            builtin_code: abi::BUILTIN_DELEGATE,
            custom_name: c"BantamDelegate".as_ptr(),
            version: 1,
        },
        tail: [0; 3],
    }
}

impl Kernel {
    /// # Safety
    ///
    /// `params` is NULL or a runtime's, whose delegate is of ours.
    unsafe fn new(runtime: Runtime, params: *const DelegateParams) -> Result<Self, Failure> {
        // SAFETY: passed on to the caller.
        let (read, delegate) = unsafe { (Params::read(params), params.as_ref()) };
        let (Some(read), Some(delegate)) = (read, delegate.map(|params| params.delegate)) else {
            return Err(Failure::argument("a kernel without parameters"));
        };
        // SAFETY: the caller vouches for the delegate, to which only shared references are made.
        let role = unsafe { delegate.cast::<External>().as_ref() }.map(|external| &external.role);
        let Some(Role::Offload(offload)) = role else {
            return Err(Failure::argument("a kernel of another delegate"));
        };
        let start = Instant::now();
        let (ready, known) = offload.with_pending(runtime, |pending| match pending {
            Some(pending) => {
                let place = pending.parts.iter().position(|part| part.is(&read));
                let ready = place.map(|place| pending.parts.swap_remove(place));
                let known = (Arc::clone(&pending.offer), Arc::clone(&pending.graph));
                (ready, Some(known))
            }
            None => (None, None),
        });
        let (offer, graph) = match known {
            Some(known) => known,
            None => {
                let offer = Offer::read(runtime, &read.nodes)?;
                let graph = offload.record.add(record::Graph::default());
                (Arc::new(offer), graph)
            }
        };
        let part = match ready {
            Some(part) => Ok(part),
            None => Part::of(&offer, &read, offload, offload.threads(runtime)),
        };
        let number = {
            let mut graph = locked(&graph);
            let number = graph.partitions.len();
            for node in &mut graph.nodes {
                if read.nodes.contains(&node.index) {
                    node.partition = Some(number);
                }
            }
            let mut partition = record::Partition {
                nodes: read.nodes,
                inputs: read.inputs,
                outputs: read.outputs,
                ..record::Partition::default()
            };
            partition.init.add(start.elapsed(), part.is_ok());
            graph.partitions.push(partition);
            number
        };
        Ok(Self {
            offload: Arc::clone(offload),
            part: part.map_err(|failure| failure.to_string()),
            graph,
            number,
        })
    }

    /// Sees to it that the session is planned for the shapes that its inputs have now, and that its outputs have theirs.
    fn prepare(&mut self, runtime: Runtime) -> Result<(), Failure> {
        let part = self.part.as_mut().map_err(|e| Failure::argument(&**e))?;
        let mut shapes = Vec::new();
        for &index in &part.inputs {
            let tensor = tensor(runtime, index)?;
            // SAFETY: the place of a tensor, whose dimensions are the runtime's.
            let dims = unsafe { ints((*tensor).dims) };
            let shape: Result<Vec<usize>, _> = dims.iter().map(|&d| usize::try_from(d)).collect();
            let shape =
                shape.map_err(|_| Failure::argument(format!("input {index} has no size")))?;
            shapes.push(shape);
        }
        if part.fit(shapes, &self.offload, self.offload.threads(runtime))? {
            // A driver may take less of it now.
            let message = format!("planned anew: {}", part.session.placement());
            locked(&self.graph).partitions[self.number]
                .messages
                .add(message);
        }
        for (&index, info) in part.outputs.iter().zip(part.session.outputs()) {
            let tensor = tensor(runtime, index)?;
            // SAFETY: the place of a tensor, whose dimensions are the runtime's.
            let (dtype, dims) = unsafe { (abi::type_of((*tensor).dtype), ints((*tensor).dims)) };
            if dtype != Some(info.dtype) {
                return Err(Failure::argument(format!(
                    "output {index} is {} and the runtime has another type for it",
                    info.dtype
                )));
            }
            let is_right = dims.iter().map(|&d| usize::try_from(d).ok());
            if !is_right.eq(info.shape.iter().map(|&d| Some(d))) {
                // SAFETY: one of this context.
                unsafe { runtime.resize(tensor, &info.shape) }?;
            }
        }
        Ok(())
    }

    fn invoke(&mut self, runtime: Runtime) -> Result<(), Failure> {
        let part = self.part.as_mut().map_err(|e| Failure::argument(&**e))?;
        let place = |&index: &c_int| {
            let tensor = tensor(runtime, index)?;
            // SAFETY: the place of a tensor.
            let (data, len) = unsafe { ((*tensor).data.cast::<u8>(), (*tensor).bytes) };
            if data.is_null() && len > 0 {
                return Err(Failure::argument(format!("tensor {index} has no memory")));
            }
            Ok((data, len))
        };
        let inputs: Vec<_> = part.inputs.iter().map(place).collect::<Result<_, _>>()?;
        let outputs: Vec<_> = part.outputs.iter().map(place).collect::<Result<_, _>>()?;
        check_apart(&inputs, &outputs)?;
        let inputs: Vec<&[u8]> = inputs
            .iter()
            .map(|&(data, len)| match len {
                0 => &[][..],
                // SAFETY: not NULL, the tensor's memory, which nobody writes during the call.
                _ => unsafe { std::slice::from_raw_parts(data, len) },
            })
            .collect();
        let mut outputs: Vec<&mut [u8]> = outputs
            .iter()
            .map(|&(data, len)| match len {
                0 => &mut [][..],
                // SAFETY: not NULL, the tensor's memory, which overlaps no other that is used here.
                _ => unsafe { std::slice::from_raw_parts_mut(data, len) },
            })
            .collect();
        let run = part.session.run_with(&inputs, &mut outputs);
        for event in part.session.events_after(part.told) {
            part.told += 1;
            let event = event.to_string();
            runtime.report(&format!("bantam: {event}"));
            locked(&self.graph).partitions[self.number]
                .messages
                .add(event);
        }
        run.map_err(|error| Failure::of_run(&error))
    }

    /// Runs a call of the runtime's: writes down how long it took, and tells why it failed.
    fn timed(
        &mut self,
        runtime: Runtime,
        calls: impl FnOnce(&mut record::Partition) -> &mut record::Calls,
        body: impl FnOnce(&mut Self, Runtime) -> Result<(), Failure>,
    ) -> Status {
        let start = Instant::now();
        let done = caught(|| body(self, runtime));
        let time = start.elapsed();
        let mut graph = locked(&self.graph);
        let partition = &mut graph.partitions[self.number];
        calls(partition).add(time, done.is_ok());
        match done {
            Ok(()) => {
                let is_due = partition.has_run();
                drop(graph);
                if is_due {
                    self.offload.record.write_if_due();
                }
                abi::OK
            }
            Err(failure) => {
                partition.messages.add(failure.to_string());
                drop(graph);
                runtime.report(&format!("bantam: {failure}"));
                abi::ERROR
            }
        }
    }
}

fn tensor(runtime: Runtime, index: c_int) -> Result<*mut Tensor, Failure> {
    let tensor = runtime.tensor(index);
    tensor.ok_or_else(|| Failure::argument(format!("the runtime has no tensor {index}")))
}

/// Refuses outputs that lie in inputs or in each other.
fn check_apart(inputs: &[(*mut u8, usize)], outputs: &[(*mut u8, usize)]) -> Result<(), Failure> {
    let overlap = |a: &(*mut u8, usize), b: &(*mut u8, usize)| {
        let (a, a_end, b, b_end) = (
            a.0 as usize,
            a.0 as usize + a.1,
            b.0 as usize,
            b.0 as usize + b.1,
        );
        a < b_end && b < a_end
    };
    let mut pairs = outputs.iter().enumerate().flat_map(|(index, output)| {
        let others = inputs.iter().chain(&outputs[..index]);
        others.map(move |other| (output, other))
    });
    match pairs.any(|(a, b)| overlap(a, b)) {
        true => Err(Failure::argument(
            "the runtime has an output of the partition in memory that is in use",
        )),
        false => Ok(()),
    }
}

unsafe extern "C" fn init(context: *mut Context, buffer: *const c_char, _: usize) -> *mut c_void {
    // SAFETY: called by a runtime with its context.
    let Some(runtime) = (unsafe { Runtime::new(context) }) else {
        return ptr::null_mut();
    };
    // SAFETY: in place of a custom operator's options, a delegate's kernel gets these.
    match caught(|| unsafe { Kernel::new(runtime, buffer.cast()) }) {
        Ok(kernel) => Box::into_raw(Box::new(kernel)).cast(),
        Err(failure) => {
            runtime.report(&format!("bantam: {failure}"));
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn free_kernel(_: *mut Context, data: *mut c_void) {
    let kernel = data.cast::<Kernel>();
    // SAFETY: NULL, or what `init` gave.
    let offload = unsafe { kernel.as_ref() }.map(|kernel| Arc::clone(&kernel.offload));
    // SAFETY: as above; a runtime frees a kernel once.
    unsafe { free(kernel) };
    if let Some(offload) = offload {
        // The path could be written when the delegate was made; there is nobody left to tell.
        guard_or((), || drop(offload.record.write()));
    }
}

/// The kernel of a node, in a call of its runtime.
///
/// # Safety
///
/// Both are NULL or a runtime's, which has just called.
unsafe fn called<'a>(context: *mut Context, node: *mut Node) -> Option<(Runtime, &'a mut Kernel)> {
    // SAFETY: passed on to the caller; a runtime calls a kernel from one thread at a time.
    unsafe {
        let runtime = Runtime::new(context)?;
        let kernel = node.as_ref()?.user_data.cast::<Kernel>().as_mut()?;
        Some((runtime, kernel))
    }
}

unsafe extern "C" fn prepare(context: *mut Context, node: *mut Node) -> Status {
    // SAFETY: called by a runtime.
    guard_or(abi::ERROR, || match unsafe { called(context, node) } {
        Some((runtime, kernel)) => kernel.timed(runtime, |p| &mut p.prepare, Kernel::prepare),
        None => abi::ERROR,
    })
}

unsafe extern "C" fn invoke(context: *mut Context, node: *mut Node) -> Status {
    // SAFETY: called by a runtime.
    guard_or(abi::ERROR, || match unsafe { called(context, node) } {
        Some((runtime, kernel)) => kernel.timed(runtime, |p| &mut p.invoke, Kernel::invoke),
        None => abi::ERROR,
    })
}
