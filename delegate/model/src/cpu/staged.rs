//! Models in which a shape depends on data.
//!
//! A [`Plan`] knows every shape beforehand. Where the shape of a result depends on what another operator computes (the places
//! that `WHERE` finds, a `RESHAPE` to a computed shape), the model is cut in front of that operator: what comes before is one
//! plan; what follows is planned in a run, with the operands of that operator as constants, and may be cut again. The plan
//! of a later stage is kept for as long as those operands have the same values. Planning in a run is the one case in which
//! running allocates, and in which it can fail.

use std::sync::Arc;
use std::time::Duration;

use super::plan::{Options, Plan};
use super::runner::Runner;
use super::{OpError, RunError};
use crate::graph::{Model, Subgraph, TensorId};
use crate::ops::Value;
use crate::tensor::Bytes;

/// How often a model may be cut; each cut holds what follows, and is a call deeper.
const MOST_CUTS: usize = 64;

/// Runs a model whose shapes may depend on data, again and again.
pub struct Staged {
    runner: Runner,
    rest: Option<Box<Rest>>,
}

/// What comes after a cut.
struct Rest {
    /// The number of cuts before it, its own included.
    cuts: usize,
    /// The operators that follow; what is known before running are constants.
    model: Model,
    /// The number of operators before the cut.
    start: usize,
    /// What the operator behind the cut reads, and the values that `stage` was planned for.
    operands: Vec<(TensorId, Vec<u8>)>,
    options: Options,
    stage: Option<Staged>,
}

impl Staged {
    /// Plans a subgraph of `model`, the first if the options do not say another, as far as its shapes are known.
    pub fn new(model: &Model, options: &Options) -> Result<Self, RunError> {
        Self::behind(0, model, options, None)
    }

    /// The same behind a number of cuts, with the threads of `other`.
    fn behind(
        cuts: usize,
        model: &Model,
        options: &Options,
        other: Option<&Runner>,
    ) -> Result<Self, RunError> {
        let runner = |plan| match other {
            Some(other) => Runner::sharing(Arc::new(plan), other),
            None => Runner::new(Arc::new(plan)),
        };
        let error = match Plan::new(model, options) {
            Ok(plan) => {
                let (runner, rest) = (runner(plan)?, None);
                return Ok(Self { runner, rest });
            }
            Err(error) => error,
        };
        let RunError::Op {
            index,
            source: OpError::NotConstant(_),
            ..
        } = error
        else {
            return Err(error);
        };
        // Each stage would have variables of its own, and forget them when it is planned anew.
        let mut nodes = model.subgraphs.iter().flat_map(|s| &s.nodes);
        let mut tensors = model.subgraphs.iter().flat_map(|s| &s.tensors);
        if tensors.any(|t| t.is_variable)
            || nodes.any(|node| node.op.operator().is_ok_and(|o| o.memory().is_some()))
        {
            return Err(error);
        }
        if cuts == MOST_CUTS {
            return Err(RunError::Graph(format!(
                "shapes depend on data more than {MOST_CUTS} times in succession"
            )));
        }
        let (carried, head) = head(model, options.subgraph, index);
        let plan = Plan::new(&head, options)?;
        let rest = Rest::new(cuts + 1, model, index, &carried, &plan, options);
        if rest.operands.is_empty() {
            return Err(error);
        }
        Ok(Self {
            runner: runner(plan)?,
            rest: Some(Box::new(rest)),
        })
    }

    /// Copies `bytes` into input `index`.
    pub fn set_input(&mut self, index: usize, bytes: &[u8]) -> Result<(), RunError> {
        self.runner.set_input(index, bytes)
    }

    /// The plan of what does not depend on data; all of it, in most models.
    pub fn plan(&self) -> &Plan {
        self.runner.plan()
    }

    /// The first operator, by its place, that is not in [`Self::plan`] because its shape depends on data.
    pub fn cut(&self) -> Option<usize> {
        self.rest.as_ref().map(|rest| rest.start)
    }

    /// How many operators run; of those whose shapes depend on data, some may turn out to be constant.
    pub fn ops(&self) -> usize {
        let bodies = self.plan().bodies();
        let plans = bodies.into_iter().chain([self.plan()]);
        let planned: usize = plans.map(|plan| plan.nodes().count()).sum();
        let rest = self.rest.as_ref();
        planned + rest.map_or(0, |rest| rest.subgraph().nodes.len())
    }

    /// Runs every operator once. Plans what depends on data, where that is not the data of the last run.
    pub fn run(&mut self) -> Result<(), RunError> {
        self.runner.run()?;
        let Some(rest) = &mut self.rest else {
            return Ok(());
        };
        let start = rest.start;
        let stage = rest.stage(&self.runner)?;
        let entry = self.runner.plan().subgraph();
        stage.run().map_err(|error| placed(error, entry, start))
    }

    /// Forgets what earlier runs left in variables: the next one starts as the first did.
    pub fn reset_variables(&mut self) {
        self.runner.reset_variables();
    }

    /// The same, calling `observe` with a subgraph, an operator's place in it, and its time, but for the planning.
    pub fn run_timed(
        &mut self,
        observe: &mut (dyn FnMut(usize, usize, Duration) + Send),
    ) -> Result<(), RunError> {
        self.runner.run_timed(&mut *observe)?;
        let Some(rest) = &mut self.rest else {
            return Ok(());
        };
        let start = rest.start;
        let stage = rest.stage(&self.runner)?;
        let entry = self.runner.plan().subgraph();
        let run = stage.run_timed(&mut |subgraph, node, time| {
            let before = if subgraph == entry { start } else { 0 };
            observe(subgraph, before + node, time);
        });
        run.map_err(|error| placed(error, entry, start))
    }

    /// Output `index` as the last run left it: its type and shape, and its bytes. `None` where there is no such output, or
    /// no run got as far.
    pub fn output(&self, index: usize) -> Option<(&Value, &[u8])> {
        if let Some(rest) = &self.rest {
            return rest.stage.as_ref()?.output(index);
        }
        let plan = self.runner.plan();
        let output = *plan.outputs().get(index)?;
        Some((plan.value(output), self.runner.tensor(output)))
    }
}

impl Rest {
    /// What follows operator `start`, the first that cannot be planned; `plan` is that of the operators before, and computes
    /// `carried`.
    fn new(
        cuts: usize,
        model: &Model,
        start: usize,
        carried: &[TensorId],
        plan: &Plan,
        options: &Options,
    ) -> Self {
        let mut model = model.clone();
        let subgraph = &mut model.subgraphs[options.subgraph];
        subgraph.nodes.drain(..start);
        for &id in carried {
            let value = plan.value(id);
            subgraph[id].shape.clone_from(&value.shape);
            subgraph[id].data.clone_from(&value.data);
        }
        let mut operands: Vec<TensorId> =
            subgraph.nodes[0].inputs.iter().flatten().copied().collect();
        operands.sort_unstable();
        operands.dedup();
        operands.retain(|&id| !subgraph[id].is_constant());
        subgraph.inputs = carried
            .iter()
            .copied()
            .filter(|id| !subgraph[*id].is_constant() && !operands.contains(id))
            .collect();
        Self {
            cuts,
            model,
            start,
            operands: operands.into_iter().map(|id| (id, Vec::new())).collect(),
            options: Options {
                input_shapes: Vec::new(),
                memory_limit: options
                    .memory_limit
                    .saturating_sub(plan.memory())
                    .saturating_sub(plan.constants_len),
                ..options.clone()
            },
            stage: None,
        }
    }

    fn subgraph(&self) -> &Subgraph {
        &self.model.subgraphs[self.options.subgraph]
    }

    /// The stage for what `before` has computed, with its inputs set.
    fn stage(&mut self, before: &Runner) -> Result<&mut Staged, RunError> {
        let is_new = |(id, value): &(TensorId, Vec<u8>)| before.tensor(*id) != value.as_slice();
        let kept = self.stage.take();
        let stage = match kept.filter(|_| !self.operands.iter().any(is_new)) {
            Some(stage) => stage,
            None => {
                for (id, value) in &mut self.operands {
                    *value = before.tensor(*id).to_vec();
                    self.model.subgraphs[self.options.subgraph][*id].data =
                        Some(Bytes::from(value.clone()));
                }
                let stage = Staged::behind(self.cuts, &self.model, &self.options, Some(before));
                stage.map_err(|error| placed(error, self.options.subgraph, self.start))?
            }
        };
        let stage = self.stage.insert(stage);
        let subgraph = &self.model.subgraphs[self.options.subgraph];
        for (index, &input) in subgraph.inputs.iter().enumerate() {
            stage.set_input(index, before.tensor(input))?;
        }
        Ok(stage)
    }
}

/// `error` with the operator's place in the whole model, whose subgraph `entry` was cut.
fn placed(error: RunError, entry: usize, start: usize) -> RunError {
    match error {
        RunError::Op { index, op, source } => RunError::Op {
            index: start + index,
            op,
            source,
        },
        RunError::Custom {
            subgraph,
            index,
            source,
        } if subgraph == entry => RunError::Custom {
            subgraph,
            index: start + index,
            source,
        },
        other => other,
    }
}

/// `model` with the first `count` operators of `subgraph`, and the inputs and results of theirs that the others read: its
/// outputs.
fn head(model: &Model, subgraph: usize, count: usize) -> (Vec<TensorId>, Model) {
    let mut head = model.clone();
    let subgraph = &mut head.subgraphs[subgraph];
    let rest = subgraph.nodes.split_off(count);
    let results = subgraph.nodes.iter().flat_map(|node| &node.outputs);
    let mut carried: Vec<TensorId> = results.chain(&subgraph.inputs).copied().collect();
    carried.sort_unstable();
    carried.dedup();
    let read = |id: &TensorId| {
        let mut operands = rest.iter().flat_map(|node| node.inputs.iter().flatten());
        operands.any(|operand| operand == id) || subgraph.outputs.contains(id)
    };
    carried.retain(read);
    subgraph.outputs.clone_from(&carried);
    (carried, head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Node, Subgraph};
    use crate::ops::{Add, Fill, Reshape, ShapeOf, Where};
    use crate::tensor::{DType, Tensor};

    fn model(build: impl FnOnce(&mut Subgraph)) -> Model {
        let mut subgraph = Subgraph::default();
        build(&mut subgraph);
        Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        }
    }

    fn bytes(values: &[i32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }

    fn result(staged: &Staged) -> (Vec<usize>, Vec<u8>) {
        let (value, bytes) = staged.output(0).unwrap();
        (value.shape.clone(), bytes.to_vec())
    }

    /// `reshape(x + x, shape + zeros)`.
    fn reshaped() -> Model {
        model(|s| {
            let x = s.add_tensor(Tensor::new("x", DType::I32, [4]));
            let shape = s.add_tensor(Tensor::new("shape", DType::I32, [2]));
            let zeros = s.add_tensor(Tensor::constant("zeros", DType::I32, [2], vec![0; 8]));
            let [sum, wanted] =
                ["sum", "wanted"].map(|name| s.add_tensor(Tensor::new(name, DType::I32, [])));
            let output = s.add_tensor(Tensor::new("output", DType::I32, []));
            s.nodes = vec![
                Node::new(Add::default(), &[x, x], &[sum]),
                Node::new(Add::default(), &[shape, zeros], &[wanted]),
                Node::new(Reshape::default(), &[sum, wanted], &[output]),
            ];
            (s.inputs, s.outputs) = (vec![x, shape], vec![output]);
        })
    }

    #[test]
    fn plans_again_for_another_shape() {
        let mut staged = Staged::new(&reshaped(), &Options::default()).unwrap();
        for (x, shape) in [
            ([1, 2, 3, 4], [2, 2]),
            ([5, 6, 7, 8], [2, 2]),
            ([5, 6, 7, 8], [4, 1]),
        ] {
            staged.set_input(0, &bytes(&x)).unwrap();
            staged.set_input(1, &bytes(&shape)).unwrap();
            staged.run().unwrap();
            let wanted = (shape.map(|d| d as usize).to_vec(), bytes(&x.map(|v| 2 * v)));
            assert_eq!(result(&staged), wanted);
        }
    }

    #[test]
    fn cuts_the_subgraph_that_is_entered_unless_there_are_variables() {
        let mut model = reshaped();
        model.subgraphs.insert(0, Subgraph::default());
        let options = Options {
            subgraph: 1,
            ..Options::default()
        };
        let mut staged = Staged::new(&model, &options).unwrap();
        assert_eq!(staged.ops(), 3);
        staged.set_input(0, &bytes(&[1, 2, 3, 4])).unwrap();
        staged.set_input(1, &bytes(&[2, 2])).unwrap();
        let mut places = Vec::new();
        let mut observe = |subgraph, node, _| places.push((subgraph, node));
        staged.run_timed(&mut observe).unwrap();
        assert_eq!(places, [(1, 0), (1, 1)]);
        assert_eq!(result(&staged), (vec![2, 2], bytes(&[2, 4, 6, 8])));
        let handle = model.subgraphs[0].add_tensor(Tensor::new("v", DType::Resource, []));
        let variable = crate::ops::VarHandle {
            container: None,
            shared_name: Some("v".into()),
        };
        let node = Node::new(variable, &[], &[handle]);
        model.subgraphs[0].nodes.push(node);
        let refused = Staged::new(&model, &options).err();
        assert!(matches!(
            refused,
            Some(RunError::Op {
                index: 2,
                source: OpError::NotConstant(_),
                ..
            })
        ));
    }

    #[test]
    fn names_the_operator_that_a_shape_does_not_fit() {
        let mut staged = Staged::new(&reshaped(), &Options::default()).unwrap();
        staged.set_input(1, &bytes(&[3, 2])).unwrap();
        let error = staged.run().unwrap_err();
        assert!(matches!(
            error,
            RunError::Op {
                index: 2,
                source: OpError::Shape(_),
                ..
            }
        ));
        assert!(staged.output(0).is_none());
    }

    #[test]
    fn cuts_again_behind_a_cut() {
        // fill(shape(where(x)), y): how many rows there are, then a fill of that shape.
        let model = model(|s| {
            let x = s.add_tensor(Tensor::new("x", DType::I32, [3]));
            let y = s.add_tensor(Tensor::new("y", DType::I32, []));
            let places = s.add_tensor(Tensor::new("places", DType::I64, []));
            let shape = s.add_tensor(Tensor::new("shape", DType::I32, []));
            let output = s.add_tensor(Tensor::new("output", DType::I32, []));
            s.nodes = vec![
                Node::new(Where, &[x], &[places]),
                Node::new(
                    ShapeOf {
                        out_type: DType::I32,
                    },
                    &[places],
                    &[shape],
                ),
                Node::new(Fill, &[shape, y], &[output]),
            ];
            (s.inputs, s.outputs) = (vec![x, y], vec![output]);
        });
        let mut staged = Staged::new(&model, &Options::default()).unwrap();
        for (x, rows) in [([0, 5, 6], 2), ([0, 0, 0], 0), ([1, 1, 1], 3)] {
            staged.set_input(0, &bytes(&x)).unwrap();
            staged.set_input(1, &bytes(&[7])).unwrap();
            staged.run().unwrap();
            assert_eq!(result(&staged), (vec![rows, 1], bytes(&vec![7; rows])));
        }
    }

    #[test]
    fn refuses_cuts_without_end() {
        // y + reshape(where(y + reshape(where(... x)))), each place being 0.
        let model = model(|s| {
            let [x, y] = ["x", "y"].map(|name| s.add_tensor(Tensor::new(name, DType::I64, [1])));
            let mut last = x;
            for _ in 0..=MOST_CUTS {
                let [places, place, sum] = ["places", "place", "sum"]
                    .map(|name| s.add_tensor(Tensor::new(name, DType::I64, [])));
                let new_shape = Some(vec![1]);
                s.nodes.push(Node::new(Where, &[last], &[places]));
                s.nodes
                    .push(Node::new(Reshape { new_shape }, &[places], &[place]));
                s.nodes.push(Node::new(Add::default(), &[y, place], &[sum]));
                last = sum;
            }
            (s.inputs, s.outputs) = (vec![x, y], vec![last]);
        });
        let mut staged = Staged::new(&model, &Options::default()).unwrap();
        staged.set_input(0, &1i64.to_ne_bytes()).unwrap();
        staged.set_input(1, &1i64.to_ne_bytes()).unwrap();
        let error = staged.run().unwrap_err();
        assert!(error.to_string().contains("64 times"), "{error}");
    }

    #[test]
    fn a_model_of_known_shapes_is_one_plan() {
        let mut model = reshaped();
        model.subgraphs[0].nodes.truncate(1);
        model.subgraphs[0].outputs = model.subgraphs[0].nodes[0].outputs.clone();
        let staged = Staged::new(&model, &Options::default()).unwrap();
        assert!(staged.rest.is_none());
    }
}
