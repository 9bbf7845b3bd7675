//! One partition while a session runs: the call of the driver, the second try, and the CPU twin.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bantam_model::cpu::{self, AlignedBytes, CustomError, CustomOp, Plan, RunError, Runner};
use bantam_model::ops::{OpError, Signature};
use bantam_model::tensor::Shape;
use bantam_model::{Model, TensorId};

use super::report::{Action, Counters, Deadline, Event, Log};
use super::worker::{Source, Worker, guarded};
use crate::driver::{DriverError, Executable};

/// Why a partition gave no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OffloadError {
    /// The driver failed, and the CPU path has no kernel for one of the operators.
    #[error("partition {partition} failed, and the CPU path cannot compute it")]
    NoTwin {
        /// The partition.
        partition: usize,
        /// The last failure.
        #[source]
        source: DriverError,
    },
    /// The driver failed, and the caller wants everything on the driver.
    #[error("partition {partition} would have to run on the CPU path")]
    Required {
        /// The partition.
        partition: usize,
        /// The failure.
        #[source]
        source: DriverError,
    },
    /// The driver failed, and so did the CPU path.
    #[error("partition {partition} failed on the driver ({driver}) and on the CPU path")]
    Twin {
        /// The partition.
        partition: usize,
        /// What the driver said.
        driver: DriverError,
        /// What the CPU path said.
        #[source]
        source: Box<RunError>,
    },
}

/// Which results of a driver are compared, bit for bit, with those of the CPU path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Check {
    /// Those of the first runs of each partition.
    pub first: u64,
    /// Those of each run whose number is a multiple of this; 0 for none.
    pub every: u64,
}

impl Check {
    fn is_due(self, run: u64) -> bool {
        run <= self.first || (self.every > 0 && run.is_multiple_of(self.every))
    }
}

/// What a session does about failures.
#[derive(Debug, Clone)]
pub(super) struct Care {
    pub deadline: Option<Deadline>,
    pub retire_after: u32,
    pub check: Check,
    pub is_required: bool,
    pub twin_options: cpu::Options,
}

/// What there is to run where the driver fails.
pub(super) struct Twin {
    /// Whether there is anything.
    pub exists: bool,
    /// What computes the same, where that is not the partition itself.
    pub original: Option<Model>,
    /// Whether the partition keeps a state, so that a second try would not go on where the first was.
    pub keeps_state: bool,
}

/// One partition.
pub(super) struct Offload {
    number: usize,
    source: Source,
    /// Sizes of the operands and of the results.
    sizes: (Vec<usize>, Vec<usize>),
    shapes: Vec<Shape>,
    pub has_twin: bool,
    /// What the twin is planned from, where it is not the partition.
    original: Option<Model>,
    keeps_state: bool,
    care: Arc<Care>,
    log: Arc<Mutex<Log>>,
    alive: Arc<AtomicUsize>,
    state: Mutex<State>,
}

enum Route {
    /// The driver is called on the caller's memory.
    Direct(Box<dyn Executable>),
    /// The driver is called on another thread.
    Worker(Worker),
    /// To be opened again.
    Closed,
}

struct State {
    route: Route,
    twin: Option<Runner>,
    counters: Counters,
    /// Runs in succession that the driver gave no result of.
    failures: u32,
    /// Whether the driver has kept something of an earlier run.
    has_state: bool,
    /// The result of beginning the call that [`Offload::finish`] waits for.
    begun: Option<Result<(), DriverError>>,
    spare: Vec<AlignedBytes>,
}

impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {}", self.number)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Offload {
    /// Compiles the partition; the sizes and shapes are those of its inputs and outputs.
    pub fn open(
        number: usize,
        source: Source,
        twin: Twin,
        care: Arc<Care>,
        log: Arc<Mutex<Log>>,
    ) -> Result<Self, DriverError> {
        let first = source.partition.subgraphs.first();
        let first = first.ok_or_else(|| DriverError::Refused("it is empty".into()))?;
        let size = |id: TensorId| {
            let tensor = &first[id];
            tensor
                .dtype
                .byte_len(&tensor.shape)
                .ok_or_else(|| DriverError::Refused(format!("{:?} has no size", tensor.name)))
        };
        let inputs = first.inputs.iter().map(|&id| size(id));
        let outputs = first.outputs.iter().map(|&id| size(id));
        let sizes = (
            inputs.collect::<Result<Vec<_>, _>>()?,
            outputs.collect::<Result<Vec<_>, _>>()?,
        );
        let shapes = first.outputs.iter().map(|&id| first[id].shape.clone());
        let offload = Self {
            number,
            shapes: shapes.collect(),
            sizes,
            has_twin: twin.exists,
            original: twin.original,
            keeps_state: twin.keeps_state,
            care,
            log,
            alive: Arc::default(),
            state: Mutex::new(State {
                route: Route::Closed,
                twin: None,
                counters: Counters::default(),
                failures: 0,
                has_state: false,
                begun: None,
                spare: Vec::new(),
            }),
            source,
        };
        let route = offload.route()?;
        locked(&offload.state).route = route;
        Ok(offload)
    }

    fn route(&self) -> Result<Route, DriverError> {
        let sizes = (&self.sizes.0[..], &self.sizes.1[..]);
        match self.care.deadline {
            None => self.source.compile().map(Route::Direct),
            Some(deadline) => {
                Worker::open(&self.source, sizes, deadline, &self.alive).map(Route::Worker)
            }
        }
    }

    /// What the driver says that a run costs.
    pub fn cost(&self) -> Vec<(String, f64)> {
        match &locked(&self.state).route {
            Route::Direct(executable) => executable.cost(),
            Route::Worker(worker) => worker.cost.clone(),
            Route::Closed => Vec::new(),
        }
    }

    pub fn counters(&self) -> Counters {
        locked(&self.state).counters
    }

    /// Forgets what earlier runs left on the driver.
    pub fn reset(&self) {
        let mut state = locked(&self.state);
        if !self.keeps_state || !std::mem::take(&mut state.has_state) {
            return;
        }
        let is_reset = match &mut state.route {
            Route::Direct(executable) => guarded(|| executable.reset()).is_ok(),
            Route::Worker(_) | Route::Closed => false,
        };
        if !is_reset {
            // Compiled again, it starts as the first time.
            state.route = Route::Closed;
        }
    }

    /// Plans the twin, where there is one, so that the first failure does not have to.
    pub fn prepare_twin(&self) -> Result<(), RunError> {
        match self.has_twin {
            true => self.twin(&mut locked(&self.state)).map(|_| ()),
            false => Ok(()),
        }
    }

    fn twin<'a>(&self, state: &'a mut State) -> Result<&'a mut Runner, RunError> {
        let twin = match state.twin.take() {
            Some(twin) => twin,
            None => {
                let model = self.original.as_ref().unwrap_or(&self.source.partition);
                let plan = Plan::new(model, &self.care.twin_options)?;
                Runner::new(Arc::new(plan))?
            }
        };
        Ok(state.twin.insert(twin))
    }

    fn run_twin(
        &self,
        state: &mut State,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
    ) -> Result<(), RunError> {
        let twin = self.twin(state)?;
        for (index, input) in inputs.iter().enumerate() {
            twin.set_input(index, input)?;
        }
        twin.run()?;
        for (index, output) in outputs.iter_mut().enumerate() {
            output.copy_from_slice(twin.output(index));
        }
        Ok(())
    }

    fn note(&self, state: &State, action: Action, error: &DriverError) {
        locked(&self.log).push(Event {
            partition: self.number,
            run: state.counters.runs,
            action,
            error: error.clone(),
        });
    }

    /// Begins a call on the worker's thread, so that others can work in between.
    fn begin(&self, inputs: &[&[u8]]) {
        let mut state = locked(&self.state);
        let state = &mut *state;
        if state.begun.take().is_some() {
            // A run ended between the two halves of a call: its results are of no use.
            state.route = Route::Closed;
        }
        if let Route::Worker(worker) = &mut state.route {
            state.begun = Some(worker.begin(inputs));
        }
    }

    /// Runs the partition, or ends the call that was begun, and gives its results in any case in
    /// which they can be had.
    pub fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), OffloadError> {
        let mut state = locked(&self.state);
        let state = &mut *state;
        state.counters.runs += 1;
        let result = self.attempt(state, inputs, outputs);
        match result {
            Ok(true) => state.counters.delegated += 1,
            Ok(false) => state.counters.on_cpu += 1,
            Err(_) => state.counters.lost += 1,
        }
        result.map(|_| ())
    }

    /// Whether the results are the driver's.
    fn attempt(
        &self,
        state: &mut State,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
    ) -> Result<bool, OffloadError> {
        if state.counters.retired {
            return self.fall_back(state, inputs, outputs, None);
        }
        let called = match self.call(state, inputs, outputs) {
            Err(error) => Err(error),
            Ok(()) => self.check(state, inputs, outputs),
        };
        match called {
            Ok(()) => {
                state.failures = 0;
                Ok(true)
            }
            Err(error) => self.fall_back(state, inputs, outputs, Some(error)),
        }
    }

    /// Calls the driver, and once more with the device opened again where that fails.
    fn call(
        &self,
        state: &mut State,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
    ) -> Result<(), DriverError> {
        let mut may_open = !(self.keeps_state && state.has_state);
        loop {
            if matches!(state.route, Route::Closed) {
                may_open = false;
                state.counters.reopened += 1;
                state.route = self.route().inspect_err(|error| count(state, error))?;
            }
            let result = match &mut state.route {
                Route::Direct(executable) => guarded(|| executable.run(inputs, outputs)),
                Route::Worker(worker) => match state.begun.take() {
                    Some(begun) => begun,
                    None => worker.begin(inputs),
                }
                .and_then(|()| worker.finish(outputs)),
                Route::Closed => return Ok(()),
            };
            let Err(error) = result else {
                state.has_state = true;
                return Ok(());
            };
            count(state, &error);
            state.route = Route::Closed;
            if !may_open {
                // What was kept is lost with the device: the next run starts as the first did.
                state.has_state = false;
                return Err(error);
            }
            self.note(state, Action::Retried, &error);
        }
    }

    /// Compares the results with the twin's, where that is due.
    fn check(
        &self,
        state: &mut State,
        inputs: &[&[u8]],
        outputs: &[&mut [u8]],
    ) -> Result<(), DriverError> {
        if !self.has_twin || !self.care.check.is_due(state.counters.runs) {
            return Ok(());
        }
        let mut spare = std::mem::take(&mut state.spare);
        if spare.is_empty() {
            spare = self
                .sizes
                .1
                .iter()
                .map_while(|&size| AlignedBytes::zeroed(size))
                .collect();
        }
        let mut wanted: Vec<&mut [u8]> = spare.iter_mut().map(AlignedBytes::as_mut_slice).collect();
        let twin = self.run_twin(state, inputs, &mut wanted);
        let wrong = wanted.iter().zip(outputs).position(|(a, b)| **a != **b);
        state.spare = spare;
        if twin.is_err() {
            return Ok(());
        }
        state.counters.checked += 1;
        let Some(output) = wrong else { return Ok(()) };
        state.counters.wrong += 1;
        Err(DriverError::Garbage(format!(
            "output {output} is not what the CPU path computes"
        )))
    }

    /// Gives the twin's results; `error` is what the driver did in this run.
    fn fall_back(
        &self,
        state: &mut State,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        error: Option<DriverError>,
    ) -> Result<bool, OffloadError> {
        let partition = self.number;
        let Some(source) = error else {
            let twin = self.run_twin(state, inputs, outputs);
            let driver = DriverError::Failed("it failed before".into());
            return twin.map(|()| false).map_err(|source| OffloadError::Twin {
                partition,
                driver,
                source: Box::new(source),
            });
        };
        if self.care.is_required || !self.has_twin {
            self.note(state, Action::Failed, &source);
            return Err(match self.has_twin {
                true => OffloadError::Required { partition, source },
                false => OffloadError::NoTwin { partition, source },
            });
        }
        state.failures += 1;
        if let Err(twin) = self.run_twin(state, inputs, outputs) {
            self.note(state, Action::Failed, &source);
            return Err(OffloadError::Twin {
                partition,
                driver: source,
                source: Box::new(twin),
            });
        }
        let retires = state.failures >= self.care.retire_after;
        if retires {
            state.counters.retired = true;
            state.route = Route::Closed;
        }
        let action = match retires {
            true => Action::Retired,
            false => Action::FellBack,
        };
        self.note(state, action, &source);
        Ok(false)
    }
}

fn count(state: &mut State, error: &DriverError) {
    state.counters.failed_calls += 1;
    if matches!(error, DriverError::Deadline { .. }) {
        state.counters.late_calls += 1;
    }
}

/// The whole call of a partition, as an operator.
pub(super) struct Call(pub Arc<Offload>);

/// Its first half: the operands go to the driver. The result, one byte, says nothing.
pub(super) struct Submit(pub Arc<Offload>);

/// Its second half; the first operand is the result of [`Submit`].
pub(super) struct Wait(pub Arc<Offload>);

impl CustomOp for Call {
    fn infer_shapes(&self, _: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(self.0.shapes.clone())
    }

    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), CustomError> {
        self.0.run(inputs, outputs).map_err(CustomError::new)
    }
}

impl CustomOp for Submit {
    fn infer_shapes(&self, _: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(vec![vec![1]])
    }

    fn run(&self, inputs: &[&[u8]], _: &mut [&mut [u8]]) -> Result<(), CustomError> {
        self.0.begin(inputs);
        Ok(())
    }
}

impl CustomOp for Wait {
    fn infer_shapes(&self, _: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(self.0.shapes.clone())
    }

    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), CustomError> {
        let inputs = inputs.get(1..).unwrap_or(&[]);
        self.0.run(inputs, outputs).map_err(CustomError::new)
    }
}
