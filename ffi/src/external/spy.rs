//! The delegate that watches another: it loads somebody else's library, hands everything on, and writes down what that
//! delegate was offered, what it claimed, how long each part ran and what it reported.
//!
//! The other delegate works on the runtime's own context, because some look behind it. While it is being called, two of the
//! context's functions are ours: the one that takes messages, and the one that replaces nodes by kernels, whose kernels we
//! wrap.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bantam_delegate::driver::tflite::abi::{
    self, Context, Delegate, DelegateParams, FullRegistration, IntArray, Node, Registration,
    ReplaceSubsets, Status,
};
use bantam_delegate::driver::tflite::{Instance, Plugin, overhear};
use serde_json::json;

use super::context::{Params, Runtime};
use super::graph::Offer;
use super::options::SpyOptions;
use super::record::{self, Record, locked};
use crate::error::{Failure, status};
use crate::guard::{free, guard_or};

/// A watched delegate. Its instance goes first: the delegate may still report while it is destroyed.
pub(super) struct Spy {
    inner: Instance,
    record: Arc<Record>,
}

/// A context whose functions are ours for the time of a call.
struct Tapped {
    /// The context, by its address.
    context: usize,
    report_error: usize,
    /// The function that replaces nodes, where that is watched as well.
    replace: usize,
    messages: Vec<String>,
    watched: Option<Watched>,
    /// Calls in calls.
    depth: usize,
}

/// What the kernels that are being made have to know.
#[derive(Clone)]
struct Watched {
    record: Arc<Record>,
    graph: Arc<Mutex<record::Graph>>,
    /// Of the kernels that the runtime makes now.
    registration: Option<Registration>,
}

// SAFETY: a registration points to functions and to strings that live as long as their library, which is never unloaded.
unsafe impl Send for Watched {}

/// Every context that is tapped now; one a thread, at most.
static TAPPED: Mutex<Vec<Tapped>> = Mutex::new(Vec::new());

/// A kernel of the watched delegate's, and where its calls are written down.
struct Kernel {
    registration: Registration,
    data: *mut c_void,
    record: Arc<Record>,
    graph: Arc<Mutex<record::Graph>>,
    number: usize,
}

impl Spy {
    /// Loads the library and has it make a delegate.
    pub fn new(options: SpyOptions) -> Result<Self, Failure> {
        // SAFETY: whoever names a library vouches that it is one of delegates.
        let plugin = Arc::new(unsafe { Plugin::load(&options.library) }?);
        let inner = plugin.create(&options.options)?;
        // SAFETY: the delegate is there as long as its instance.
        if unsafe { (*inner.as_ptr()).prepare.is_none() } {
            let message = "the delegate speaks only the opaque interface, which cannot be watched";
            return Err(Failure::new(status::UNSUPPORTED, message));
        }
        let given = options.options.iter();
        let given: serde_json::Map<_, _> = given
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        let about = json!({
            "inner": options.library.display().to_string(),
            "options": given,
            "role": "spy",
        });
        Ok(Self {
            inner,
            record: Arc::new(Record::new(options.report, about)?),
        })
    }

    /// What the watched delegate copes with.
    pub fn flags(&self) -> i64 {
        // SAFETY: the delegate is there as long as its instance.
        unsafe { (*self.inner.as_ptr()).flags }
    }

    /// Lets the watched delegate look at the graph.
    pub fn prepare(&self, runtime: Runtime) -> Result<Status, Failure> {
        let offer = Offer::read(runtime, &runtime.plan()?)?;
        let subgraph = offer.subgraph();
        let nodes = subgraph.nodes.iter().zip(&offer.nodes);
        let nodes = nodes.map(|(node, &index)| record::Node {
            index,
            op: node.op.to_string(),
            outputs: node
                .outputs
                .iter()
                .map(|&id| subgraph[id].name.clone())
                .collect(),
            partition: None,
            reason: None,
        });
        let graph = self.record.add(record::Graph {
            nodes: nodes.collect(),
            ..record::Graph::default()
        });
        let inner = self.inner.as_ptr();
        // SAFETY: the delegate is there as long as its instance.
        let Some(prepare) = (unsafe { (*inner).prepare }) else {
            return Ok(abi::DELEGATE_ERROR);
        };
        let start = Instant::now();
        let watched = Watched {
            record: Arc::clone(&self.record),
            graph: Arc::clone(&graph),
            registration: None,
        };
        let (status, messages) = tapped(runtime, Some(watched), || {
            // SAFETY: the delegate's function, its delegate and a runtime's context.
            unsafe { prepare(runtime.as_ptr(), inner) }
        });
        {
            let mut graph = locked(&graph);
            graph.prepare.add(start.elapsed(), status == abi::OK);
            messages.into_iter().for_each(|m| graph.messages.add(m));
            for node in graph.nodes.iter_mut().filter(|n| n.partition.is_none()) {
                node.reason = Some("the delegate did not claim it".to_owned());
            }
        }
        if let Err(failure) = self.record.write() {
            runtime.report(&format!("bantam: {failure}"));
        }
        Ok(status)
    }
}

/// Runs `call` with functions of ours in the context: what it returns, and what was reported, which the runtime is told as
/// well. In a call that is itself in one, the functions stay and the messages go to the outer call.
fn tapped<T>(
    runtime: Runtime,
    watched: Option<Watched>,
    call: impl FnOnce() -> T,
) -> (T, Vec<String>) {
    let context = runtime.as_ptr();
    let key = context as usize;
    {
        let mut all = locked(&TAPPED);
        match all.iter_mut().find(|tapped| tapped.context == key) {
            Some(outer) => outer.depth += 1,
            None => {
                // SAFETY: the runtime's context, whose functions nobody else changes during this call.
                let (report_error, replace) = unsafe {
                    let functions = ((*context).report_error, (*context).replace_node_subsets);
                    (*context).report_error = overhear(keep_message);
                    if watched.is_some() {
                        (*context).replace_node_subsets = replace_node_subsets as *const c_void;
                    }
                    functions
                };
                all.push(Tapped {
                    context: key,
                    report_error: report_error as usize,
                    replace: replace as usize,
                    messages: Vec::new(),
                    watched,
                    depth: 0,
                });
            }
        }
    }
    let result = call();
    let mut all = locked(&TAPPED);
    let Some(place) = all.iter().position(|tapped| tapped.context == key) else {
        return (result, Vec::new());
    };
    if all[place].depth > 0 {
        all[place].depth -= 1;
        return (result, Vec::new());
    }
    let outer = all.swap_remove(place);
    drop(all);
    // SAFETY: as above; the functions are those that were there. A runtime that put others there keeps them.
    unsafe {
        if (*context).report_error == overhear(keep_message) {
            (*context).report_error = outer.report_error as *const c_void;
        }
        if (*context).replace_node_subsets == replace_node_subsets as *const c_void {
            (*context).replace_node_subsets = outer.replace as *const c_void;
        }
    }
    for message in &outer.messages {
        runtime.report(message);
    }
    (result, outer.messages)
}

/// What is known of a context that is tapped.
fn with_tapped<T>(context: *mut Context, body: impl FnOnce(&mut Tapped) -> T) -> Option<T> {
    let mut all = locked(&TAPPED);
    let key = context as usize;
    all.iter_mut()
        .find(|tapped| tapped.context == key)
        .map(body)
}

unsafe extern "C" fn keep_message(context: *mut Context, message: *const c_char) {
    guard_or((), || {
        if message.is_null() {
            return;
        }
        // SAFETY: not NULL, and a string that lives during the call.
        let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
        let message = message.trim_end().to_owned();
        with_tapped(context, |tapped| tapped.messages.push(message));
    });
}

/// In place of the runtime's function: has it make kernels of ours around those of `registration`, of which the part that
/// all versions have is looked at. Arguments that large are passed in memory, so that what follows does not matter.
unsafe extern "C" fn replace_node_subsets(
    context: *mut Context,
    registration: Registration,
    nodes: *const IntArray,
    delegate: *mut Delegate,
) -> Status {
    let replace = guard_or(None, || {
        with_tapped(context, |tapped| {
            let watched = tapped.watched.as_mut()?;
            watched.registration = Some(registration);
            Some(tapped.replace)
        })
        .flatten()
    });
    let Some(replace) = replace else {
        return abi::ERROR;
    };
    let wrapped = FullRegistration {
        prefix: Registration {
            init: Some(init),
            free: Some(free_kernel),
            prepare: Some(prepare),
            invoke: Some(invoke),
            // It would be given our node.
            profiling_string: ptr::null(),
            ..registration
        },
        tail: [0; 3],
    };
    // SAFETY: the function that the runtime had there, which is of this type in C.
    unsafe {
        let replace: ReplaceSubsets = std::mem::transmute(replace as *const c_void);
        replace(context, wrapped, nodes, delegate)
    }
}

unsafe extern "C" fn init(
    context: *mut Context,
    buffer: *const c_char,
    length: usize,
) -> *mut c_void {
    let watched = guard_or(None, || {
        with_tapped(context, |tapped| tapped.watched.clone()).flatten()
    });
    let Some((watched, registration)) =
        watched.and_then(|watched| watched.registration.map(|r| (watched, r)))
    else {
        return ptr::null_mut();
    };
    let start = Instant::now();
    let data = match registration.init {
        // SAFETY: the watched delegate's function, called as the runtime calls ours.
        Some(init) => unsafe { init(context, buffer, length) },
        None => ptr::null_mut(),
    };
    let time = start.elapsed();
    guard_or(ptr::null_mut(), || {
        // SAFETY: in place of a custom operator's options, a delegate's kernel gets these.
        let params = unsafe { Params::read(buffer.cast::<DelegateParams>()) };
        let number = {
            let mut graph = locked(&watched.graph);
            let number = graph.partitions.len();
            let mut partition = record::Partition::default();
            if let Some(params) = params {
                for node in &mut graph.nodes {
                    if params.nodes.contains(&node.index) {
                        node.partition = Some(number);
                    }
                }
                partition.nodes = params.nodes;
                partition.inputs = params.inputs;
                partition.outputs = params.outputs;
            }
            partition.init.add(time, true);
            graph.partitions.push(partition);
            number
        };
        Box::into_raw(Box::new(Kernel {
            registration,
            data,
            record: watched.record,
            graph: watched.graph,
            number,
        }))
        .cast()
    })
}

unsafe extern "C" fn free_kernel(context: *mut Context, data: *mut c_void) {
    let kernel = data.cast::<Kernel>();
    // SAFETY: NULL, or what `init` gave.
    let Some(known) = (unsafe { kernel.as_ref() }) else {
        return;
    };
    let record = Arc::clone(&known.record);
    if let Some(free) = known.registration.free {
        // SAFETY: the watched delegate's function, for what its `init` gave.
        unsafe { free(context, known.data) };
    }
    // SAFETY: as above; a runtime frees a kernel once.
    unsafe { free(kernel) };
    // The path could be written when the delegate was made; there is nobody left to tell.
    guard_or((), || drop(record.write()));
}

/// A call of the runtime's to a kernel, handed on.
///
/// # Safety
///
/// Both are NULL or a runtime's, which has just called.
unsafe fn hand_on(
    context: *mut Context,
    node: *mut Node,
    function: impl FnOnce(&Registration) -> Option<abi::KernelCall>,
    calls: impl FnOnce(&mut record::Partition) -> &mut record::Calls,
) -> Status {
    // SAFETY: passed on to the caller.
    let Some(runtime) = (unsafe { Runtime::new(context) }) else {
        return abi::ERROR;
    };
    // SAFETY: a node of the runtime's, with what `init` gave.
    let kernel = unsafe {
        node.as_ref()
            .and_then(|node| node.user_data.cast::<Kernel>().as_ref())
    };
    let Some(kernel) = kernel else {
        return abi::ERROR;
    };
    let Some(function) = function(&kernel.registration) else {
        return abi::OK;
    };
    let start = Instant::now();
    let (status, messages) = tapped(runtime, None, || {
        // SAFETY: the watched delegate's function on the node, which meanwhile has what that delegate put there.
        unsafe {
            let ours = (*node).user_data;
            (*node).user_data = kernel.data;
            let status = function(context, node);
            (*node).user_data = ours;
            status
        }
    });
    let time = start.elapsed();
    guard_or((), || {
        let mut graph = locked(&kernel.graph);
        let partition = &mut graph.partitions[kernel.number];
        calls(partition).add(time, status == abi::OK);
        for message in messages {
            partition.messages.add(message);
        }
        let is_due = partition.has_run();
        drop(graph);
        if is_due {
            kernel.record.write_if_due();
        }
    });
    status
}

unsafe extern "C" fn prepare(context: *mut Context, node: *mut Node) -> Status {
    // SAFETY: called by a runtime.
    unsafe { hand_on(context, node, |r| r.prepare, |p| &mut p.prepare) }
}

unsafe extern "C" fn invoke(context: *mut Context, node: *mut Node) -> Status {
    // SAFETY: called by a runtime.
    unsafe { hand_on(context, node, |r| r.invoke, |p| &mut p.invoke) }
}
