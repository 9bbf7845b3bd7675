//! The runtime's side of the interface: a context that a delegate believes to be TFLite's.
//!
//! A delegate's calls come back here while it is being called, so nothing keeps a reference to the host over a call of the
//! delegate's: all of it goes through the one pointer that the delegate has as well.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use bantam_model::target::PartitionPolicy;
use bantam_model::{Model, NodeId, Subgraph, TensorId};

use super::abi::{
    self, Context, Delegate, DelegateParams, IntArray, Node, Registration, Status, Stride, Tensor,
};
use super::array::{Ints, free_array, ints_up_to};
use super::graph::{Graph, MOST_DIMENSIONS, NodeMemory};
use crate::driver::DriverError;
use crate::partition::partition;

/// How many external contexts there may be; four are in use by TFLite.
const EXTERNAL_CONTEXTS: usize = 16;
/// The most messages that are kept.
const MOST_MESSAGES: usize = 32;

/// The context with what versions after 2.5 added.
#[repr(C)]
struct FullContext {
    prefix: Context,
    get_model_metadata: unsafe extern "C" fn(
        *const Context,
        *const c_char,
        *mut *const c_char,
        *mut usize,
    ) -> Status,
    acquire_subgraph_context:
        unsafe extern "C" fn(*mut Context, c_int, *mut *mut Context) -> Status,
    release_subgraph_context: unsafe extern "C" fn(*mut Context, c_int) -> Status,
}

/// What the context's pointer points to.
#[repr(C)]
struct State {
    /// First, so that a pointer to it is one to all.
    context: FullContext,
    graph: Graph,
    model: Model,
    /// The nodes in order of execution.
    plan: Vec<usize>,
    kernels: Vec<Kernel>,
    external: [*mut c_void; EXTERNAL_CONTEXTS],
    /// What was handed out, which must survive calls that hand out more.
    handed_out: Vec<Ints>,
    /// The plan as it was handed out last, with what it was then.
    handed_plan: Option<(*mut IntArray, Vec<usize>)>,
    preview: Vec<DelegateParams>,
    messages: Vec<String>,
}

/// Operators that a delegate runs.
struct Kernel {
    /// Its node.
    node: usize,
    /// The operators that it stands for.
    replaced: Vec<NodeId>,
    /// What it was told of them.
    _params: Box<DelegateParams>,
    /// Whether it is to be freed.
    is_made: bool,
}

/// A subgraph as a delegate sees it, and what the delegate made of it.
pub(super) struct Host {
    state: NonNull<State>,
}

// SAFETY: the session uses an executable from one thread at a time, and a delegate has no business with threads of ours.
unsafe impl Send for Host {}

unsafe extern "C" {
    fn bantam_set_report_sink(sink: unsafe extern "C" fn(*mut Context, *const c_char));
    fn bantam_report_error(context: *mut Context, format: *const c_char, ...);
}

impl Host {
    /// A context for the first subgraph of `model`.
    pub fn new(model: &Model, subgraph: usize, stride: Stride) -> Result<Self, DriverError> {
        let mut model = model.clone();
        if subgraph >= model.subgraphs.len() {
            return Err(DriverError::Refused(format!(
                "there is no subgraph {subgraph}"
            )));
        }
        model.subgraphs.swap(0, subgraph);
        let mut graph = Graph::new(&model.subgraphs[0], stride).map_err(|what| {
            DriverError::Refused(format!(
                "the delegate's interface cannot express it: {what}"
            ))
        })?;
        let context = FullContext {
            prefix: Context {
                tensors_size: graph.len(),
                get_execution_plan,
                tensors: graph.tensors(),
                impl_: ptr::null_mut(),
                resize_tensor,
                report_error: bantam_report_error as *const c_void,
                add_tensors,
                get_node_and_registration,
                replace_node_subsets: replace_node_subsets as *const c_void,
                recommended_num_threads: 1,
                get_external_context,
                set_external_context,
                allow_fp32_relax_to_fp16: false,
                profiler: ptr::null_mut(),
                allocate_persistent_buffer: not_for_delegates as *const c_void,
                allocate_buffer_for_eval: not_for_delegates as *const c_void,
                request_scratch_buffer_in_arena: not_for_delegates as *const c_void,
                get_scratch_buffer: no_buffer as *const c_void,
                resize_tensor_explicit: resize_tensor_explicit as *const c_void,
                preview_delegate_partitioning: Some(preview_delegate_partitioning),
                get_tensor: ptr::null(),
                get_eval_tensor: ptr::null(),
            },
            get_model_metadata,
            acquire_subgraph_context,
            release_subgraph_context,
        };
        let state = Box::new(State {
            context,
            plan: (0..graph.nodes.len()).collect(),
            graph,
            model,
            kernels: Vec::new(),
            external: [ptr::null_mut(); EXTERNAL_CONTEXTS],
            handed_out: Vec::new(),
            handed_plan: None,
            preview: Vec::new(),
            messages: Vec::new(),
        });
        // SAFETY: the sink is a function of ours, the same each time.
        unsafe { bantam_set_report_sink(keep_message) };
        Ok(Self {
            state: NonNull::from(Box::leak(state)),
        })
    }

    fn context(&self) -> *mut Context {
        self.state.as_ptr().cast()
    }

    /// Runs `body` on the state, in which nothing may call the delegate.
    fn with<T>(&self, body: impl FnOnce(&mut State) -> T) -> T {
        // SAFETY: no other reference lives: callbacks end theirs before they return, and `body` causes none.
        body(unsafe { &mut *self.state.as_ptr() })
    }

    /// Lets `delegate` claim operators.
    ///
    /// # Safety
    ///
    /// `delegate` is one, and is freed after this host.
    pub unsafe fn offer(&mut self, delegate: NonNull<Delegate>) -> Result<(), DriverError> {
        // SAFETY: the caller vouches for the delegate.
        let prepare = unsafe { (*delegate.as_ptr()).prepare };
        let Some(prepare) = prepare else {
            return Err(DriverError::Refused(
                "the delegate speaks only the opaque interface, which needs functions of TFLite's own library".into(),
            ));
        };
        // SAFETY: the caller vouches for the delegate; the context is whole.
        let status = unsafe { prepare(self.context(), delegate.as_ptr()) };
        self.check(status, "looking at the graph")
    }

    /// Gives the variables the values that they start with.
    pub fn reset(&mut self) {
        self.with(|state| state.graph.reset());
    }

    /// Which operators are claimed, in the order of the subgraph.
    pub fn claims(&self) -> Vec<bool> {
        self.with(|state| {
            let mut claims = vec![false; state.model.subgraphs[0].nodes.len()];
            for id in state.kernels.iter().flat_map(|kernel| &kernel.replaced) {
                claims[id.index()] = true;
            }
            claims
        })
    }

    /// Prepares the claimed operators to run.
    ///
    /// # Errors
    ///
    /// [`DriverError::Refused`]: the delegate claimed what it cannot run, as TFLite's runtimes allow it to.
    pub fn prepare(&mut self) -> Result<(), DriverError> {
        let kernels = self.with(|state| state.kernels.len());
        for index in 0..kernels {
            let (node, call) = self.with(|state| state.kernel(index));
            if let Some(prepare) = call.prepare {
                // SAFETY: the delegate gave the function, and its kernel was made.
                let status = unsafe { prepare(self.context(), node) };
                self.check(status, "preparing its operators")
                    .map_err(|error| match error {
                        DriverError::Failed(text) => DriverError::Refused(text),
                        other => other,
                    })?;
            }
        }
        Ok(())
    }

    /// Runs all kernels once.
    pub fn run(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DriverError> {
        let (given, taken) = self.with(|state| {
            let subgraph = &state.model.subgraphs[0];
            (subgraph.inputs.clone(), subgraph.outputs.clone())
        });
        if (given.len(), taken.len()) != (inputs.len(), outputs.len()) {
            return Err(DriverError::Failed(
                "other inputs or outputs than compiled".into(),
            ));
        }
        for (&id, bytes) in given.iter().zip(inputs) {
            let (to, len) = self.bytes(id);
            if len != bytes.len() || to.is_null() {
                return Err(DriverError::Failed(format!(
                    "{id} has {len} bytes and is given {}",
                    bytes.len()
                )));
            }
            // SAFETY: the tensor has as many bytes, and is not the caller's.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, len) };
        }
        let order = self.with(|state| state.order());
        for index in order {
            let (node, call) = self.with(|state| state.kernel(index));
            let Some(invoke) = call.invoke else {
                return Err(DriverError::Failed(
                    "a kernel of the delegate has no function".into(),
                ));
            };
            // SAFETY: the kernel was prepared without an error.
            let status = unsafe { invoke(self.context(), node) };
            self.check(status, "running")?;
        }
        for (&id, bytes) in taken.iter().zip(outputs) {
            self.fetch(id)?;
            let (from, len) = self.bytes(id);
            if len != bytes.len() || from.is_null() {
                return Err(DriverError::Garbage(format!(
                    "{id} has {len} bytes where {} are wanted",
                    bytes.len()
                )));
            }
            // SAFETY: the tensor has as many bytes, and is not the caller's.
            unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len) };
        }
        Ok(())
    }

    /// Brings a tensor back from the delegate's own memory, where it is only there.
    fn fetch(&mut self, id: TensorId) -> Result<(), DriverError> {
        let tensor = self.with(|state| state.graph.tensor(id.index()));
        let Some(tensor) = tensor else { return Ok(()) };
        // SAFETY: the place of a tensor.
        let (delegate, handle, is_stale) = unsafe {
            (
                (*tensor).delegate,
                (*tensor).buffer_handle,
                (*tensor).data_is_stale,
            )
        };
        if !is_stale || delegate.is_null() {
            return Ok(());
        }
        // SAFETY: the delegate set itself there.
        let copy = unsafe { (*delegate).copy_from_buffer_handle };
        let status = match copy {
            // SAFETY: as above.
            Some(copy) => unsafe { copy(self.context(), delegate, handle, tensor) },
            None => abi::ERROR,
        };
        self.check(status, "giving its result back")?;
        // SAFETY: the place of a tensor.
        unsafe { (*tensor).data_is_stale = false };
        Ok(())
    }

    fn bytes(&self, id: TensorId) -> (*mut u8, usize) {
        let tensor = self.with(|state| state.graph.tensor(id.index()));
        tensor.map_or((ptr::null_mut(), 0), |tensor| {
            // SAFETY: the place of a tensor.
            unsafe { ((*tensor).data.cast(), (*tensor).bytes) }
        })
    }

    /// The status of a call as an error, with what the delegate reported.
    fn check(&self, status: Status, doing: &str) -> Result<(), DriverError> {
        let messages = self.with(|state| std::mem::take(&mut state.messages));
        if status == abi::OK {
            return Ok(());
        }
        let said = match messages.is_empty() {
            true => "it reported nothing".to_owned(),
            false => messages.join("; "),
        };
        Err(DriverError::Failed(format!(
            "{doing}, status {status}: {said}"
        )))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let kernels = self.with(|state| state.kernels.len());
        for index in 0..kernels {
            let (node, call) = self.with(|state| state.kernel(index));
            let is_made = self.with(|state| state.kernels[index].is_made);
            // SAFETY: the node is the state's.
            let data = unsafe { (*node).user_data };
            if let Some(free) = call.free.filter(|_| is_made && !data.is_null()) {
                // SAFETY: the delegate made it, and it is freed once.
                unsafe { free(self.context(), data) };
            }
        }
        // SAFETY: made by `Box::leak`; nothing points to it any more.
        drop(unsafe { Box::from_raw(self.state.as_ptr()) });
    }
}

impl State {
    fn subgraph(&self) -> &Subgraph {
        &self.model.subgraphs[0]
    }

    fn say(&mut self, message: String) {
        if self.messages.len() < MOST_MESSAGES {
            self.messages.push(message);
        }
    }

    fn kernel(&mut self, index: usize) -> (*mut Node, Registration) {
        let memory = &mut self.graph.nodes[self.kernels[index].node];
        (&raw mut memory.node, memory.registration.prefix)
    }

    /// The kernels in an order in which each follows those that it needs.
    fn order(&self) -> Vec<usize> {
        let at = |node: usize| self.kernels.iter().position(|kernel| kernel.node == node);
        self.plan.iter().filter_map(|&node| at(node)).collect()
    }

    /// Hands out an array that lives as long as the state.
    fn hand_out(&mut self, array: Ints) -> *mut IntArray {
        let raw = array.as_ptr();
        self.handed_out.push(array);
        raw
    }

    /// The plan as an array of its own, the same as before where it is the same.
    fn hand_out_plan(&mut self) -> *mut IntArray {
        match &self.handed_plan {
            Some((array, plan)) if *plan == self.plan => *array,
            _ => {
                let array = Ints::new(self.plan.iter().map(|&node| node as c_int));
                let array = self.hand_out(array);
                self.handed_plan = Some((array, self.plan.clone()));
                array
            }
        }
    }

    /// Which operators of the subgraph `nodes` names; `None` if there are others, or some are taken.
    ///
    /// # Safety
    ///
    /// As for [`ints`].
    unsafe fn select(&self, nodes: *const IntArray) -> Option<Vec<bool>> {
        // SAFETY: the caller vouches for it.
        let nodes = unsafe { ints_up_to(nodes, self.graph.nodes.len()) }?;
        let mut takes = vec![false; self.subgraph().nodes.len()];
        for &node in nodes {
            *takes.get_mut(usize::try_from(node).ok()?)? = true;
        }
        let taken = self.kernels.iter().flat_map(|kernel| &kernel.replaced);
        (!taken.into_iter().any(|id| takes[id.index()])).then_some(takes)
    }

    /// What a delegate is told of each partition of `takes`, and the operators in it.
    fn partitions(
        &mut self,
        takes: &[bool],
        delegate: *mut Delegate,
    ) -> Vec<(DelegateParams, Vec<NodeId>, [Vec<c_int>; 2])> {
        let found = partition(self.subgraph(), takes, &PartitionPolicy::default());
        let each = found.into_iter().map(|partition| {
            let subgraph = self.subgraph();
            let nodes = partition
                .nodes
                .iter()
                .map(|id| id.0 as c_int)
                .collect::<Vec<_>>();
            // A delegate expects the constants and variables among the inputs.
            let mut inputs: Vec<TensorId> = Vec::new();
            let made: Vec<TensorId> = partition
                .nodes
                .iter()
                .flat_map(|&id| subgraph[id].outputs.clone())
                .collect();
            for &input in partition
                .nodes
                .iter()
                .flat_map(|&id| subgraph[id].inputs.iter().flatten())
            {
                if !made.contains(&input) && !inputs.contains(&input) {
                    inputs.push(input);
                }
            }
            let inputs: Vec<c_int> = inputs.iter().map(|id| id.0 as c_int).collect();
            let outputs: Vec<c_int> = partition.outputs.iter().map(|id| id.0 as c_int).collect();
            let params = DelegateParams {
                delegate,
                nodes_to_replace: self.hand_out(Ints::new(nodes)),
                input_tensors: self.hand_out(Ints::new(inputs.iter().copied())),
                output_tensors: self.hand_out(Ints::new(outputs.iter().copied())),
            };
            (params, partition.nodes, [inputs, outputs])
        });
        each.collect()
    }

    /// Puts each kernel where its operators were, in an order in which what is computed comes before what needs it.
    fn replan(&mut self) {
        let subgraph = &self.model.subgraphs[0];
        let mut unit: Vec<usize> = (0..subgraph.nodes.len()).collect();
        for kernel in &self.kernels {
            kernel
                .replaced
                .iter()
                .for_each(|id| unit[id.index()] = kernel.node);
        }
        let mut producers = vec![None; subgraph.tensors.len()];
        for (node, &unit) in subgraph.nodes.iter().zip(&unit) {
            node.outputs
                .iter()
                .for_each(|id| producers[id.index()] = Some(unit));
        }
        let mut waiting: Vec<usize> = Vec::new();
        for &unit in &unit {
            if !waiting.contains(&unit) {
                waiting.push(unit);
            }
        }
        let mut plan = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let before = waiting.len();
            let is_ready = |wanted: usize, plan: &[usize]| {
                let members = subgraph
                    .nodes
                    .iter()
                    .zip(&unit)
                    .filter(|(_, u)| **u == wanted);
                let mut inputs = members.flat_map(|(node, _)| node.inputs.iter().flatten());
                inputs.all(|id| {
                    producers[id.index()].is_none_or(|from| from == wanted || plan.contains(&from))
                })
            };
            waiting.retain(|&unit| {
                let ready = is_ready(unit, &plan);
                if ready {
                    plan.push(unit);
                }
                !ready
            });
            if waiting.len() == before {
                // A graph that is not one; the order of the file is as good as any.
                plan.append(&mut waiting);
            }
        }
        self.plan = plan;
    }
}

/// Runs `body` on the state of a callback. A panic does not cross into C.
///
/// # Safety
///
/// `context` is that of a [`Host`], and `body` does not call the delegate.
unsafe fn answer<T>(context: *mut Context, otherwise: T, body: impl FnOnce(&mut State) -> T) -> T {
    if context.is_null() {
        return otherwise;
    }
    let state = context.cast::<State>();
    // SAFETY: the context is the first field of the state; no other reference to it lives over a call of the delegate's.
    catch_unwind(AssertUnwindSafe(|| body(unsafe { &mut *state }))).unwrap_or(otherwise)
}

unsafe extern "C" fn keep_message(context: *mut Context, message: *const c_char) {
    // SAFETY: called through `bantam_report_error`, with the context that the delegate was given.
    unsafe {
        answer(context, (), |state| {
            if !message.is_null() {
                let message = CStr::from_ptr(message).to_string_lossy();
                state.say(message.trim_end().to_owned());
            }
        });
    }
}

unsafe extern "C" fn get_execution_plan(context: *mut Context, plan: *mut *mut IntArray) -> Status {
    // SAFETY: called by the delegate with its context.
    unsafe {
        answer(context, abi::ERROR, |state| {
            if plan.is_null() {
                return abi::ERROR;
            }
            *plan = state.hand_out_plan();
            abi::OK
        })
    }
}

unsafe extern "C" fn resize_tensor(
    context: *mut Context,
    tensor: *mut Tensor,
    dims: *mut IntArray,
) -> Status {
    // SAFETY: called by the delegate with its context, and dimensions that it gives away.
    unsafe {
        answer(context, abi::ERROR, |state| {
            let resized = match state.graph.index_of(tensor) {
                Some(index) => state.graph.resize(index, dims),
                None => Err("it points to no tensor".to_owned()),
            };
            let Err(why) = resized else { return abi::OK };
            state.say(format!("a tensor cannot be resized: {why}"));
            let is_kept = |place: *mut Tensor| (*place).dims == dims;
            let place = state
                .graph
                .index_of(tensor)
                .and_then(|i| state.graph.tensor(i));
            if !place.is_some_and(is_kept) {
                free_array(dims);
            }
            abi::ERROR
        })
    }
}

unsafe extern "C" fn resize_tensor_explicit(
    context: *mut Context,
    tensor: *mut Tensor,
    rank: c_int,
    shape: *const c_int,
) -> Status {
    let Some(rank) = usize::try_from(rank)
        .ok()
        .filter(|&rank| rank <= MOST_DIMENSIONS)
    else {
        return abi::ERROR;
    };
    if rank > 0 && shape.is_null() {
        return abi::ERROR;
    }
    // SAFETY: called by the delegate with its context and a shape of that rank.
    unsafe {
        let sizes: &[c_int] = match rank {
            0 => &[],
            _ => std::slice::from_raw_parts(shape, rank),
        };
        resize_tensor(context, tensor, Ints::new(sizes.iter().copied()).into_raw())
    }
}

unsafe extern "C" fn add_tensors(context: *mut Context, count: c_int, first: *mut c_int) -> Status {
    // SAFETY: called by the delegate with its context.
    unsafe {
        answer(context, abi::ERROR, |state| {
            let Ok(count) = usize::try_from(count) else {
                return abi::ERROR;
            };
            let Some(number) = state.graph.add_blank_tensors(count) else {
                state.say(format!("no {count} tensors can be added"));
                return abi::ERROR;
            };
            state.context.prefix.tensors = state.graph.tensors();
            state.context.prefix.tensors_size = state.graph.len();
            if !first.is_null() {
                *first = number as c_int;
            }
            abi::OK
        })
    }
}

unsafe extern "C" fn get_node_and_registration(
    context: *mut Context,
    index: c_int,
    node: *mut *mut Node,
    registration: *mut *mut Registration,
) -> Status {
    // SAFETY: called by the delegate with its context.
    unsafe {
        answer(context, abi::ERROR, |state| {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let Some(memory) = state.graph.nodes.get_mut(index) else {
                return abi::ERROR;
            };
            if node.is_null() || registration.is_null() {
                return abi::ERROR;
            }
            *node = &raw mut memory.node;
            *registration = (&raw mut memory.registration).cast();
            abi::OK
        })
    }
}

/// The registration comes by value, and is larger in newer libraries; what all have comes first.
unsafe extern "C" fn replace_node_subsets(
    context: *mut Context,
    registration: Registration,
    nodes: *const IntArray,
    delegate: *mut Delegate,
) -> Status {
    // SAFETY: called by the delegate with its context and nodes.
    let first = unsafe {
        answer(context, None, |state| {
            let takes = state.select(nodes)?;
            let first = state.kernels.len();
            for (params, replaced, [inputs, outputs]) in state.partitions(&takes, delegate) {
                let registration = Registration {
                    builtin_code: abi::BUILTIN_DELEGATE,
                    ..registration
                };
                let mut memory = NodeMemory::new(inputs, outputs, [], registration);
                let mut params = Box::new(params);
                memory.node.delegate = delegate;
                memory.node.builtin_data = (&raw mut *params).cast();
                for id in &replaced {
                    state.graph.nodes[id.index()].node.delegate = delegate;
                }
                let node = state.graph.nodes.len();
                state.graph.nodes.push(Box::new(memory));
                state.kernels.push(Kernel {
                    node,
                    replaced,
                    _params: params,
                    is_made: false,
                });
            }
            state.replan();
            Some(first)
        })
    };
    let Some(first) = first else {
        // SAFETY: called by the delegate with its context.
        return unsafe {
            answer(context, abi::ERROR, |state| {
                state.say("it claims operators that do not exist, or twice".to_owned());
                abi::ERROR
            })
        };
    };
    // The kernels are made one by one, with no reference held: each may call back, and claim more.
    let mut index = first;
    // SAFETY: called by the delegate with its context.
    while let Some((is_made, (node, call))) = unsafe {
        answer(context, None, |state| {
            let is_made = state.kernels.get(index)?.is_made;
            Some((is_made, state.kernel(index)))
        })
    } {
        if let Some(init) = call.init.filter(|_| !is_made) {
            // SAFETY: the delegate gave the function; the node's data are the parameters that it expects.
            unsafe {
                let params = (*node).builtin_data.cast::<c_char>();
                (*node).user_data = init(context, params, 0);
            }
        }
        // SAFETY: as above.
        unsafe { answer(context, (), |state| state.kernels[index].is_made = true) };
        index += 1;
    }
    abi::OK
}

unsafe extern "C" fn preview_delegate_partitioning(
    context: *mut Context,
    nodes: *const IntArray,
    partitions: *mut *mut DelegateParams,
    count: *mut c_int,
) -> Status {
    // SAFETY: called by the delegate with its context and nodes.
    unsafe {
        answer(context, abi::ERROR, |state| {
            let Some(takes) = state.select(nodes) else {
                return abi::ERROR;
            };
            if partitions.is_null() || count.is_null() {
                return abi::ERROR;
            }
            let found = state.partitions(&takes, ptr::null_mut());
            state.preview = found.into_iter().map(|(params, ..)| params).collect();
            *count = state.preview.len() as c_int;
            *partitions = state.preview.as_mut_ptr();
            abi::OK
        })
    }
}

unsafe extern "C" fn get_external_context(context: *mut Context, which: c_int) -> *mut c_void {
    // SAFETY: called by the delegate with its context.
    unsafe {
        answer(context, ptr::null_mut(), |state| {
            let which = usize::try_from(which).unwrap_or(usize::MAX);
            state
                .external
                .get(which)
                .copied()
                .unwrap_or(ptr::null_mut())
        })
    }
}

unsafe extern "C" fn set_external_context(context: *mut Context, which: c_int, value: *mut c_void) {
    // SAFETY: called by the delegate with its context.
    unsafe {
        answer(context, (), |state| {
            let which = usize::try_from(which).unwrap_or(usize::MAX);
            if let Some(place) = state.external.get_mut(which) {
                *place = value;
            }
        });
    }
}

unsafe extern "C" fn get_model_metadata(
    _: *const Context,
    _: *const c_char,
    data: *mut *const c_char,
    size: *mut usize,
) -> Status {
    // SAFETY: called by the delegate with places for the result.
    unsafe {
        if !data.is_null() {
            *data = ptr::null();
        }
        if !size.is_null() {
            *size = 0;
        }
    }
    abi::ERROR
}

unsafe extern "C" fn acquire_subgraph_context(
    context: *mut Context,
    subgraph: c_int,
    found: *mut *mut Context,
) -> Status {
    if subgraph != 0 || found.is_null() {
        return abi::ERROR;
    }
    // SAFETY: not NULL, and the delegate's own place.
    unsafe { *found = context };
    abi::OK
}

unsafe extern "C" fn release_subgraph_context(_: *mut Context, _: c_int) -> Status {
    abi::OK
}

extern "C" fn not_for_delegates() -> Status {
    abi::ERROR
}

extern "C" fn no_buffer() -> *mut c_void {
    ptr::null_mut()
}
