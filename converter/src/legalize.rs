//! Rewrites a model so that a chip takes more of it.
//!
//! A rewrite is applied where the target refuses an operator and takes all that would stand in its place, and never
//! silently: the report says of each whether the integers stay the same, by how many steps they may differ, or that
//! the function itself changes. What works element by element is measured on every integer that there is, with the
//! model's own scales, through LiteRT's reference arithmetic; the rest is proved (docs/legalize.md) and tried.

mod abs;
mod activation;
mod arithmetic;
mod clamp;
mod depth_to_space;
mod draft;
mod edges;
mod fragment;
mod fully_connected;
mod gelu;
mod hard_swish;
mod island;
mod leaky_relu;
mod mean;
mod pack;
mod pad;
mod proof;
mod report;
mod requantize;
mod reshape;
mod resize;
mod rewrites;
mod shadow;
mod shapes;
mod split;
mod squared_difference;
#[cfg(test)]
mod testing;
mod transpose;

use bantam_model::target::Target;
use bantam_model::{DType, Model, NodeId, Op, Subgraph, Verdict};

use draft::{Draft, Proof, Site};
use fragment::Fragment;
pub use report::{Application, Declined, Exactness, Left, LegalizeReport, Support};
use rewrites::REWRITES;
pub use rewrites::{Rewrite, Stage, rewrites};
pub use shapes::{Frozen, InputShape};

/// How often the whole graph is gone through; a rewrite can enable another, but not for ever.
const ROUNDS: usize = 8;

/// How deep what a rewrite made is rewritten in turn.
const DEPTH: usize = 2;

/// How far the numbers may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// Integers by at most so many steps; 0 is not at all.
    Steps(u32),
    /// In any way.
    Any,
}

/// What legalization may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How far the numbers may change.
    pub allow: Allowance,
    /// Shapes for inputs; those that are not given keep theirs, with a batch of 1 where it may vary.
    pub shapes: Vec<InputShape>,
    /// Whether float inputs that are only quantized, and float outputs that only are dequantized,
    /// become integer: callers then give and get integers.
    pub integer_edges: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow: Allowance::Steps(0),
            shapes: Vec::new(),
            integer_edges: false,
        }
    }
}

/// Why a model cannot be made to fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LegalizeError {
    /// A shape depends on what the model is run on.
    #[error(
        "the shape of {tensor:?}, which operator {index} ({op}) computes, is not fixed: {reason}"
    )]
    Dynamic {
        /// The place of the operator.
        index: usize,
        /// Its kind.
        op: String,
        /// The name of its result.
        tensor: String,
        /// Why.
        reason: String,
    },
    /// An input has dimensions beside the batch that may vary, and nobody said what they shall be.
    #[error("input {name:?} of shape {signature:?} has dimensions that may vary")]
    Input {
        /// Its name.
        name: String,
        /// Its shape, -1 for what may vary.
        signature: Vec<i32>,
    },
    /// A shape that was asked for fits no input.
    #[error("{0}")]
    Shape(String),
    /// The chip's compiler cannot read an operator of this version, and no lower one means the same.
    #[error(
        "operator {index} ({op}), which computes {tensor:?}, needs version {version}; {target} reads up to {limit}"
    )]
    Version {
        /// The place of the operator.
        index: usize,
        /// Its kind.
        op: String,
        /// The name of its first result.
        tensor: String,
        /// The lowest version that means what the operator does.
        version: i32,
        /// The chip.
        target: String,
        /// The greatest version that the chip's compiler reads.
        limit: i32,
    },
}

/// What a chip takes; a [`Target`], or in tests a list.
trait Chip {
    fn name(&self) -> &str;
    fn verdicts(&self, model: &Model) -> Vec<Verdict>;
    fn max_version(&self, op: &Op) -> Option<i32>;
}

impl Chip for Target {
    fn name(&self) -> &str {
        self.name()
    }

    fn verdicts(&self, model: &Model) -> Vec<Verdict> {
        self.verdicts(model, 0)
    }

    fn max_version(&self, op: &Op) -> Option<i32> {
        self.max_version(op)
    }
}

/// Rewrites the first subgraph of `model`, the one that a chip's compiler looks at, so that `target` takes more of it.
///
/// A model of floats is judged as if it were int8 already: legalized before quantization, what rewrites bring in gets
/// calibrated ranges. Rewrites of [`Stage::Integer`] wait for the integers.
pub fn legalize(
    model: &Model,
    target: &Target,
    options: &Options,
) -> Result<(Model, LegalizeReport), LegalizeError> {
    legalize_for(model, target, options)
}

/// What `target` says of each operator of the first subgraph, in order; a model of floats is judged as if it were int8.
pub fn verdicts(model: &Model, target: &Target) -> Vec<Verdict> {
    let legalizer = Legalizer::new(model, target, Allowance::Any);
    let graph = model.subgraphs.first();
    graph.map_or_else(Vec::new, |graph| legalizer.verdicts(graph))
}

fn legalize_for(
    model: &Model,
    chip: &dyn Chip,
    options: &Options,
) -> Result<(Model, LegalizeReport), LegalizeError> {
    let mut legal = model.clone();
    if legal.subgraphs.is_empty() {
        return Ok((legal, LegalizeReport::default()));
    }
    let legalizer = Legalizer::new(model, chip, options.allow);
    let mut report = LegalizeReport {
        target: chip.name().to_owned(),
        judged_as_int8: legalizer.as_int8,
        before: legalizer.support(model),
        ..LegalizeReport::default()
    };
    report.frozen = shapes::freeze(&mut legal, &options.shapes)?;
    if options.integer_edges {
        report.edges = edges::make_integer(&mut legal.subgraphs[0]);
    }
    for _ in 0..ROUNDS {
        if !legalizer.round(&mut legal.subgraphs[0], &mut report) {
            break;
        }
    }
    legal.remove_unused_tensors();
    // Quantization gives operators other versions.
    if !legalizer.as_int8 {
        legalizer.check_versions(&legal.subgraphs[0])?;
    }
    report.after = legalizer.support(&legal);
    report.left = legalizer.left(&legal.subgraphs[0]);
    Ok((legal, report))
}

struct Legalizer<'a> {
    chip: &'a dyn Chip,
    allow: Allowance,
    as_int8: bool,
}

/// A draft that the chip takes, and what it costs.
struct Found {
    rewrite: &'static Rewrite,
    draft: Draft,
    exactness: Exactness,
}

impl<'a> Legalizer<'a> {
    fn new(model: &Model, chip: &'a dyn Chip, allow: Allowance) -> Self {
        Self {
            chip,
            allow,
            as_int8: shadow::is_float(model),
        }
    }

    fn verdicts(&self, graph: &Subgraph) -> Vec<Verdict> {
        let graph = match self.as_int8 {
            true => shadow::as_int8(graph),
            false => graph.clone(),
        };
        let model = Model {
            subgraphs: vec![graph],
            ..Model::default()
        };
        self.chip.verdicts(&model)
    }

    fn support(&self, model: &Model) -> Support {
        let verdicts = model.subgraphs.first().map(|graph| self.verdicts(graph));
        let verdicts = verdicts.unwrap_or_default();
        Support {
            ops: verdicts.len(),
            supported: verdicts.iter().filter(|v| v.is_supported()).count(),
        }
    }

    /// One pass over the graph; whether it changed.
    fn round(&self, graph: &mut Subgraph, report: &mut LegalizeReport) -> bool {
        let verdicts = self.verdicts(graph);
        // Tensors keep their ids in a pass, so an operator is known by its first result.
        let refused = graph.nodes.iter().zip(&verdicts);
        let refused = refused.filter(|(_, verdict)| !verdict.is_supported());
        let refused: Vec<_> = refused
            .map(|(node, _)| node.outputs.first().copied())
            .collect();
        let mut changed = false;
        report.declined.clear();
        for output in refused.into_iter().flatten() {
            let place = graph
                .nodes
                .iter()
                .position(|n| n.outputs.first() == Some(&output));
            let Some(place) = place else { continue };
            let id = NodeId(place as u32);
            let Some(found) = self.find(graph, id, DEPTH) else {
                continue;
            };
            let note = Application::new(graph, id, &found);
            if self.allows(found.exactness) {
                apply(graph, &found.draft);
                report.applied.push(note);
                changed = true;
            } else {
                report.declined.push(note);
            }
        }
        changed
    }

    fn allows(&self, exactness: Exactness) -> bool {
        match (exactness, self.allow) {
            (Exactness::Exact | Exactness::Rounding, _) | (_, Allowance::Any) => true,
            (Exactness::Within(steps), Allowance::Steps(allowed)) => steps <= allowed,
            (Exactness::Changed, Allowance::Steps(_)) => false,
        }
    }

    /// The rewrite of operator `id` that changes the numbers least, out of those that the chip takes.
    fn find(&self, graph: &Subgraph, id: NodeId, depth: usize) -> Option<Found> {
        let site = Site { graph, id };
        let mut best: Option<Found> = None;
        let skips = |rewrite: &&Rewrite| self.as_int8 && rewrite.stage == Stage::Integer;
        for rewrite in REWRITES.iter().filter(|rewrite| !skips(rewrite)) {
            for draft in (rewrite.drafts)(&site) {
                let Some(draft) = self.complete(graph, draft, depth) else {
                    continue;
                };
                let Some(exactness) = exactness(graph, &draft) else {
                    continue;
                };
                if best.as_ref().is_none_or(|best| exactness < best.exactness) {
                    best = Some(Found {
                        rewrite,
                        draft,
                        exactness,
                    });
                }
            }
            if best
                .as_ref()
                .is_some_and(|best| best.exactness == Exactness::Exact)
            {
                break;
            }
        }
        best
    }

    /// The draft, with those of its operators rewritten that the chip refuses; `None` where that does not help.
    fn complete(&self, graph: &Subgraph, mut draft: Draft, depth: usize) -> Option<Draft> {
        for _ in 0..ROUNDS {
            let after = Fragment::after(graph, &draft);
            let verdicts = self.verdicts(&after.graph);
            let Some(refused) = verdicts.iter().position(|v| !v.is_supported()) else {
                return Some(draft);
            };
            let id = NodeId(refused as u32);
            let found = self.find(&after.graph, id, depth.checked_sub(1)?)?;
            let fits = match draft.proof {
                Proof::Pointwise | Proof::Approximate => {
                    matches!(found.draft.proof, Proof::Pointwise | Proof::Approximate)
                }
                Proof::Same | Proof::Bound(_) => found.draft.proof == Proof::Same,
            };
            if !fits {
                return None;
            }
            if found.draft.proof == Proof::Approximate {
                draft.proof = Proof::Approximate;
            }
            draft.replace(&after, &found.draft);
        }
        None
    }

    fn check_versions(&self, graph: &Subgraph) -> Result<(), LegalizeError> {
        for (index, node) in graph.nodes.iter().enumerate() {
            let version = bantam_model::write::version(graph, node);
            match self.chip.max_version(&node.op) {
                Some(limit) if version > limit => {
                    let output = node.outputs.first();
                    return Err(LegalizeError::Version {
                        index,
                        op: node.op.to_string(),
                        tensor: output.map_or_else(String::new, |&id| graph[id].name.clone()),
                        version,
                        target: self.chip.name().to_owned(),
                        limit,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The operators that the chip still refuses.
    fn left(&self, graph: &Subgraph) -> Vec<Left> {
        let verdicts = self.verdicts(graph);
        let nodes = graph.nodes.iter().zip(verdicts).enumerate();
        let left = nodes.filter_map(|(index, (node, verdict))| {
            let reason = match verdict {
                Verdict::Supported => return None,
                Verdict::Unsupported(refusal) => refusal.reason.clone(),
                Verdict::Unknown(what) => what,
            };
            let output = node.outputs.first();
            Some(Left {
                index,
                op: node.op.to_string(),
                tensor: output.map_or_else(String::new, |&id| graph[id].name.clone()),
                reason,
            })
        });
        left.collect()
    }
}

/// What `draft` does to the numbers. `None` where a trial contradicts what it claims.
fn exactness(graph: &Subgraph, draft: &Draft) -> Option<Exactness> {
    if draft.nodes.is_empty() {
        return Some(Exactness::Exact);
    }
    let (before, after) = (
        Fragment::before(graph, draft),
        Fragment::after(graph, draft),
    );
    let (before, after) = (before.graph, after.graph);
    let outputs = before.outputs.iter().map(|&id| before[id].dtype);
    let is_float = outputs.clone().any(|dtype| dtype == DType::F32);
    let measured = || proof::enumerate(&before, &after).map(Exactness::steps);
    match draft.proof {
        Proof::Same => match proof::difference_on_trial(&before, &after) {
            None | Some(0) => Some(Exactness::Exact),
            Some(_) if is_float => Some(Exactness::Rounding),
            Some(_) => None,
        },
        Proof::Bound(_) | Proof::Pointwise if is_float => Some(Exactness::Rounding),
        Proof::Approximate if is_float => Some(Exactness::Changed),
        Proof::Bound(steps) => {
            let tried = proof::difference_on_trial(&before, &after);
            tried
                .is_none_or(|found| found <= steps)
                .then_some(Exactness::steps(steps))
        }
        Proof::Pointwise | Proof::Approximate => Some(measured().unwrap_or(Exactness::Changed)),
    }
}

/// Puts what `draft` adds where what it removes was.
fn apply(graph: &mut Subgraph, draft: &Draft) {
    graph.tensors.extend(draft.tensors.iter().cloned());
    let last = draft.removes.iter().map(|id| id.index()).max().unwrap_or(0);
    let nodes = std::mem::take(&mut graph.nodes);
    for (index, node) in nodes.into_iter().enumerate() {
        if !draft.removes.contains(&NodeId(index as u32)) {
            graph.nodes.push(node);
        }
        if index == last {
            graph.nodes.extend(draft.nodes.iter().cloned());
        }
    }
    for &(from, to) in &draft.aliases {
        let inputs = graph
            .nodes
            .iter_mut()
            .flat_map(|n| n.inputs.iter_mut().flatten());
        inputs.filter(|id| **id == from).for_each(|id| *id = to);
    }
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{Abs, HardSwish, LeakyRelu, Relu};

    use super::testing::{Graph, Refuses, kinds, legalized, unary};
    use super::*;

    #[test]
    fn what_is_taken_stays_as_it_is() {
        let model = unary(LeakyRelu { alpha: 0.1 }, (0.05, 0), (0.04, 3));
        let (legal, report) = legalized(&model, &[]);
        assert_eq!(legal, model);
        assert!(report.applied.is_empty() && report.left.is_empty());
        assert_eq!(
            report.before,
            Support {
                ops: 1,
                supported: 1
            }
        );
    }

    #[test]
    fn nothing_is_done_where_the_outcome_would_be_refused() {
        let model = unary(LeakyRelu { alpha: 0.1 }, (0.05, 0), (0.04, 3));
        let (legal, report) = legalized(&model, &["LEAKY_RELU", "MUL", "PRELU"]);
        assert_eq!(legal, model);
        assert_eq!(report.left.len(), 1);
        assert_eq!(report.left[0].op, "LEAKY_RELU");
    }

    #[test]
    fn what_costs_more_than_is_allowed_is_declined_and_said() {
        let model = unary(HardSwish, (0.05, 0), (0.026, -114));
        let run = |allow| {
            let options = Options {
                allow,
                ..Options::default()
            };
            legalize_for(&model, &Refuses(&["HARD_SWISH"]), &options).unwrap()
        };
        let (legal, report) = run(Allowance::Steps(0));
        assert_eq!(legal, model);
        let Exactness::Within(steps) = report.declined[0].exactness else {
            panic!("{:?}", report.declined);
        };
        let (legal, report) = run(Allowance::Steps(steps));
        assert_eq!(legal.subgraphs[0].nodes.len(), 3);
        assert_eq!(report.exactness(), Exactness::Within(steps));
    }

    #[test]
    fn a_rewrite_is_rewritten_in_turn() {
        let model = unary(Abs, (0.05, 0), (0.04, 3));
        // QUANTIZE is refused as well: MUL by one does its work.
        let (legal, report) = legalized(&model, &["ABS", "QUANTIZE"]);
        assert_eq!(kinds(&legal), ["MUL", "MUL", "MAXIMUM"]);
        assert!(report.left.is_empty());
    }

    #[test]
    fn floats_are_judged_as_the_integers_they_become() {
        let mut graph = Graph::default();
        let x = graph.input(DType::F32, &[1, 256], (0.0, 0));
        let y = graph.output(DType::F32, &[1, 256], (0.0, 0));
        graph.push(HardSwish, &[x], &[y]);
        let (legal, report) = legalized(&graph.model(), &["HARD_SWISH"]);
        assert!(report.judged_as_int8);
        assert_eq!(kinds(&legal), ["ADD", "MUL", "MUL"]);
        assert_eq!(report.exactness(), Exactness::Rounding);
        assert_eq!(
            report.after,
            Support {
                ops: 3,
                supported: 3
            }
        );
    }

    /// Reads RELU up to version 1.
    struct Old;

    impl Chip for Old {
        fn name(&self) -> &str {
            "old"
        }

        fn verdicts(&self, model: &Model) -> Vec<Verdict> {
            vec![Verdict::Supported; model.subgraphs[0].nodes.len()]
        }

        fn max_version(&self, op: &Op) -> Option<i32> {
            matches!(op, Op::Relu(_)).then_some(1)
        }
    }

    #[test]
    fn a_version_that_the_compiler_cannot_read_is_an_error_by_name() {
        let model = unary(Relu, (0.05, 0), (0.05, 0));
        let error = legalize_for(&model, &Old, &Options::default()).unwrap_err();
        let text = error.to_string();
        assert_eq!(
            text,
            "operator 0 (RELU), which computes \"output0\", needs version 2; old reads up to 1"
        );
    }
}
