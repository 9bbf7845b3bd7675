//! Finds the fewest operators to keep at a higher precision so that a gate holds.
//!
//! Each operator's part in the error is measured by quantizing it alone. Errors of single operators nearly add up, so
//! keeping the worst first is close to the best choice; how many it takes is found by bisection on the whole model,
//! and those that turn out not to matter are let go again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bantam_model::{DType, Model, Node};

use crate::calibrate::{Source, Statistics};
use crate::error::ConvertError;
use crate::probe::{Probes, multiplications};
use crate::quantize::{Report, quantize};
use crate::recipe::{Entry, Recipe, Scheme};

/// Into how many steps [`Found::curve`] is cut.
const CURVE: usize = 10;

/// Letting operators go is tried only where few are kept, since each try judges the model once.
const MOST_TRIES: usize = 64;

/// What the search is to reach.
pub struct Goal<'a, E> {
    /// How good a model is; called for whole models.
    pub judge: &'a dyn Fn(&Model) -> Result<f64, E>,
    /// The least that will do.
    pub least: f64,
    /// What operators that are kept become: [`Scheme::Float`] or [`Scheme::Int16x8`].
    pub precision: Scheme,
}

/// An operator that is kept at the higher precision.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its subgraph.
    pub subgraph: usize,
    /// Its place in that subgraph of the float model.
    pub index: usize,
    /// Its kind.
    pub op: String,
    /// The name of its first result.
    pub name: String,
    /// Signal to noise of the model's outputs where it alone is quantized.
    pub alone_db: f64,
}

/// A model with some of the operators kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// How many operators are kept.
    pub kept: usize,
    /// The share of the model's multiplications that are int8, in runs on the probes: a body of a
    /// loop counts in each round, a branch as often as it is taken.
    pub share: f64,
    /// Signal to noise of the outputs, in dB.
    pub sqnr_db: f64,
}

/// What the search found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The recipe that was given, with an entry for each operator that is kept.
    pub recipe: Recipe,
    /// These operators, the worst first.
    pub kept: Vec<Kept>,
    /// How good the model of this recipe is.
    pub value: f64,
    /// Whether that is good enough. If not, keeping every operator would not be either.
    pub holds: bool,
    /// From none kept to all, the worst first.
    pub curve: Vec<Point>,
}

/// Searches on top of `recipe`, whose int8 operators it may keep. `probes`, a few samples, measure each operator's
/// part in the error; `progress` is told of them.
pub fn find<E: From<ConvertError>>(
    model: &Model,
    statistics: &Statistics,
    recipe: &Recipe,
    goal: &Goal<'_, E>,
    probes: &(impl Source + ?Sized),
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Found, E> {
    let search = Search::new(model, statistics, recipe, goal.precision, probes, threads)?;
    let candidates = search.ranked(progress)?;
    let mut curve = Vec::new();
    for step in 0..=CURVE {
        let kept = candidates.len() * step / CURVE;
        let point = search.point(&candidates[..kept])?;
        if curve.last() != Some(&point) {
            curve.push(point);
        }
    }
    let (kept, value) = search.fewest(&candidates, goal)?;
    Ok(Found {
        recipe: search.recipe_keeping(&kept),
        holds: value >= goal.least,
        kept,
        value,
        curve,
    })
}

/// An operator: its subgraph, and its place in that.
type Place = (usize, usize);

struct Search<'a, S: ?Sized> {
    model: &'a Model,
    /// The subgraphs that the recipe converts.
    subgraphs: Vec<usize>,
    statistics: &'a Statistics,
    recipe: &'a Recipe,
    precision: Scheme,
    probes: Probes<'a, S>,
    threads: usize,
    /// The operators that the recipe makes int8.
    candidates: Vec<Place>,
}

impl<'a, S: Source + ?Sized> Search<'a, S> {
    fn new(
        model: &'a Model,
        statistics: &'a Statistics,
        recipe: &'a Recipe,
        precision: Scheme,
        probes: &'a S,
        threads: usize,
    ) -> Result<Self, ConvertError> {
        let (_, report) = quantize(model, statistics, recipe)?;
        Ok(Self {
            model,
            statistics,
            recipe,
            precision,
            probes: Probes::new(model, recipe.subgraph, probes, usize::MAX, threads)?,
            threads,
            candidates: candidates(model, &report, recipe),
            subgraphs: report.subgraphs,
        })
    }

    /// The operators that the recipe makes int8, the one that costs most first.
    fn ranked(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Vec<Kept>, ConvertError> {
        let candidates = &self.candidates;
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let measured: Mutex<Vec<Kept>> = Mutex::default();
        let work = || -> Result<(), ConvertError> {
            while let Some(&place) = candidates.get(next.fetch_add(1, Ordering::Relaxed)) {
                let others = candidates.iter().filter(|&&other| other != place);
                let alone = self.recipe_with(others.copied(), Scheme::Float);
                let kept = self.kept(place, self.probes.judge(&self.converted(&alone)?, 1)?.db());
                measured
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(kept);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, candidates.len());
            }
            Ok(())
        };
        // After a failure no thread measures another.
        let work = || work().inspect_err(|_| next.store(candidates.len(), Ordering::Relaxed));
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.threads).map(|_| scope.spawn(work)).collect();
            let first = work();
            others.into_iter().fold(first, |result, thread| {
                let joined = thread.join();
                result.and(joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })?;
        let mut ranked = measured
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        ranked.sort_by(|a, b| {
            a.alone_db
                .total_cmp(&b.alone_db)
                .then((a.subgraph, a.index).cmp(&(b.subgraph, b.index)))
        });
        Ok(ranked)
    }

    /// The fewest of `ranked` whose model is good enough, and how good it is; all if none is.
    fn fewest<E: From<ConvertError>>(
        &self,
        ranked: &[Kept],
        goal: &Goal<'_, E>,
    ) -> Result<(Vec<Kept>, f64), E> {
        let judged = |count: usize| self.judged(&ranked[..count], goal);
        let mut value = judged(0)?;
        if value >= goal.least {
            return Ok((Vec::new(), value));
        }
        // Doubling, then bisection: `low` is too few, `high` enough.
        let (mut low, mut high) = (0, 1.min(ranked.len()));
        loop {
            value = judged(high)?;
            if value >= goal.least || high == ranked.len() {
                break;
            }
            (low, high) = (high, (high * 2).min(ranked.len()));
        }
        if value < goal.least {
            return Ok((ranked.to_vec(), value));
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let at_middle = judged(middle)?;
            if at_middle >= goal.least {
                (high, value) = (middle, at_middle);
            } else {
                low = middle;
            }
        }
        self.without_idle(ranked[..high].to_vec(), value, goal)
    }

    /// Lets go of operators that need not be kept, the least costly first.
    fn without_idle<E: From<ConvertError>>(
        &self,
        mut kept: Vec<Kept>,
        mut value: f64,
        goal: &Goal<'_, E>,
    ) -> Result<(Vec<Kept>, f64), E> {
        if kept.len() > MOST_TRIES {
            return Ok((kept, value));
        }
        for index in (0..kept.len()).rev() {
            let mut fewer = kept.clone();
            fewer.remove(index);
            let judged = self.judged(&fewer, goal)?;
            if judged >= goal.least {
                (kept, value) = (fewer, judged);
            }
        }
        Ok((kept, value))
    }

    fn judged<E: From<ConvertError>>(&self, kept: &[Kept], goal: &Goal<'_, E>) -> Result<f64, E> {
        (goal.judge)(&self.converted(&self.recipe_keeping(kept))?)
    }

    fn point(&self, kept: &[Kept]) -> Result<Point, ConvertError> {
        let places = self.subgraphs.iter().flat_map(|&subgraph| {
            let nodes = self.model.subgraphs[subgraph].nodes.len();
            (0..nodes).map(move |index| (subgraph, index))
        });
        let total: f64 = places.map(|place| self.cost(place)).sum();
        let int8: f64 = self.candidates.iter().map(|&place| self.cost(place)).sum();
        let converted = self.converted(&self.recipe_keeping(kept))?;
        let score = self.probes.judge(&converted, self.threads)?;
        let spared: f64 = kept.iter().map(|k| self.cost((k.subgraph, k.index))).sum();
        Ok(Point {
            kept: kept.len(),
            share: if total > 0.0 {
                (int8 - spared) / total
            } else {
                0.0
            },
            sqnr_db: score.db(),
        })
    }

    fn cost(&self, place: Place) -> f64 {
        let subgraph = &self.model.subgraphs[place.0];
        let runs = self.probes.runs.get(&place).copied().unwrap_or(0.0);
        runs * multiplications(subgraph, &subgraph.nodes[place.1])
    }

    fn converted(&self, recipe: &Recipe) -> Result<Model, ConvertError> {
        Ok(quantize(self.model, self.statistics, recipe)?.0)
    }

    /// The recipe with an entry for each of `kept`.
    fn recipe_keeping(&self, kept: &[Kept]) -> Recipe {
        self.recipe_with(kept.iter().map(|k| (k.subgraph, k.index)), self.precision)
    }

    fn recipe_with(&self, places: impl Iterator<Item = Place>, scheme: Scheme) -> Recipe {
        let mut recipe = self.recipe.clone();
        recipe.ops.extend(places.map(|place| Entry {
            mode: Some(scheme),
            ..self.selecting(place)
        }));
        recipe
    }

    /// Selects one operator: by the name of its result, which survives another export of the model, where it is the
    /// only one of that name.
    fn selecting(&self, place: Place) -> Entry {
        let name = self.name(place);
        let subgraphs = self.subgraphs.iter().map(|&s| &self.model.subgraphs[s]);
        let of_name = subgraphs.flat_map(|subgraph| {
            subgraph.nodes.iter().filter(|node| {
                let mut outputs = node.outputs.iter();
                outputs.any(|&output| subgraph[output].name == name)
            })
        });
        let expression = regex::Regex::new(&format!("^{}$", regex::escape(name)));
        match expression {
            Ok(tensor) if !name.is_empty() && of_name.count() == 1 => Entry {
                tensor: Some(tensor),
                ..Entry::default()
            },
            _ => Entry {
                subgraph: Some(place.0),
                index: Some(place.1),
                ..Entry::default()
            },
        }
    }

    fn name(&self, (subgraph, index): Place) -> &str {
        let subgraph = &self.model.subgraphs[subgraph];
        let first = subgraph.nodes[index].outputs.first();
        first.map_or("", |&output| &subgraph[output].name)
    }

    fn kept(&self, place: Place, alone_db: f64) -> Kept {
        let (subgraph, index) = place;
        Kept {
            subgraph,
            index,
            op: self.model.subgraphs[subgraph].nodes[index].op.to_string(),
            name: self.name(place).to_owned(),
            alone_db,
        }
    }
}

/// The operators that `recipe` makes int8, without those that run subgraphs: these are int8 where what
/// they run is.
fn candidates(model: &Model, report: &Report, recipe: &Recipe) -> Vec<Place> {
    let is_kept = |place: Place| {
        let mut kept = report.kept_float.iter();
        kept.any(|k| (k.subgraph, k.index) == place)
    };
    let in_subgraph = |&number: &usize| -> Vec<Place> {
        let subgraph = &model.subgraphs[number];
        let settings = recipe.settings(number, subgraph);
        let has_floats = |node: &Node| {
            let mut ids = node.inputs.iter().flatten().chain(&node.outputs);
            ids.any(|&id| subgraph[id].dtype == DType::F32)
        };
        let nodes = subgraph.nodes.iter().zip(settings).enumerate();
        nodes
            .filter(|(_, (node, settings))| {
                settings.scheme == Scheme::Int8 && has_floats(node) && node.op.bodies().is_empty()
            })
            .map(|(index, _)| (number, index))
            .filter(|&place| !is_kept(place))
            .collect()
    };
    report.subgraphs.iter().flat_map(in_subgraph).collect()
}

#[cfg(test)]
mod tests {
    use bantam_model::ops::{FullyConnected, Relu};
    use bantam_model::{Subgraph, Tensor, TensorId};

    use super::*;
    use crate::calibrate;
    use crate::recipe::Mode;

    /// Three FULLY_CONNECTED; the weights of the second differ so much that one scale does not do.
    fn model() -> Model {
        const N: usize = 8;
        let mut subgraph = Subgraph::default();
        let mut add = |name: &str| subgraph.add_tensor(Tensor::new(name, DType::F32, [1, N]));
        let ids: Vec<TensorId> = ["x", "a", "b", "c", "y"].map(&mut add).to_vec();
        for (place, pair) in ids.windows(2).enumerate() {
            if place == 3 {
                subgraph
                    .nodes
                    .push(Node::new(Relu, pair[..1].as_ref(), &pair[1..]));
                continue;
            }
            let weight = |index: usize| {
                let wave = ((index * 7 + place) as f32 * 0.7).sin();
                match place {
                    1 if index.is_multiple_of(N) => wave * 300.0,
                    _ => wave,
                }
            };
            let bytes: Vec<u8> = (0..N * N).flat_map(|i| weight(i).to_le_bytes()).collect();
            let weights = Tensor::constant(format!("w{place}"), DType::F32, [N, N], bytes);
            let weights = subgraph.add_tensor(weights);
            let op = FullyConnected::default();
            subgraph
                .nodes
                .push(Node::new(op, &[pair[0], weights], &pair[1..]));
        }
        (subgraph.inputs, subgraph.outputs) = (vec![ids[0]], vec![ids[4]]);
        Model {
            subgraphs: vec![subgraph],
            ..Model::default()
        }
    }

    fn samples() -> Vec<Vec<Vec<u8>>> {
        let value = |sample: usize, index: usize| match index {
            0 => 0.01 * (sample as f32).cos(),
            _ => ((sample * 8 + index) as f32 * 1.3).sin(),
        };
        let sample = |s| vec![(0..8).flat_map(|i| value(s, i).to_ne_bytes()).collect()];
        (0..16).map(sample).collect()
    }

    fn search(least: f64) -> Found {
        search_in(&model(), least)
    }

    fn search_in(model: &Model, least: f64) -> Found {
        let samples = samples();
        let recipe = Recipe::new(Mode::Int8);
        let quiet = |_: usize, _: usize| {};
        let statistics = calibrate::calibrate(model, &samples[..], &recipe, 1, &quiet).unwrap();
        let judge = |converted: &Model| -> Result<f64, ConvertError> {
            let found = crate::compare(model, converted, &samples[..], Default::default(), &quiet)?;
            Ok(found.outputs[0].sqnr_db)
        };
        let goal = Goal {
            judge: &judge,
            least,
            precision: Scheme::Float,
        };
        find(model, &statistics, &recipe, &goal, &samples[..4], 2, &quiet).unwrap()
    }

    #[test]
    fn keeps_nothing_where_int8_will_do() {
        let found = search(1.0);
        assert!(found.holds && found.kept.is_empty() && found.recipe.ops.is_empty());
        assert_eq!(found.curve[0].share, 1.0);
        assert_eq!(found.curve.last().unwrap().share, 0.0);
    }

    #[test]
    fn keeps_more_the_more_is_asked_for() {
        let plain = search(1.0).value;
        let found = search(plain + 3.0);
        assert!(found.holds && found.value >= plain + 3.0);
        assert!(
            !found.kept.is_empty() && found.kept.len() < 4,
            "{:?}",
            found.kept
        );
        let entry = &found.recipe.ops[0];
        assert_eq!(entry.mode, Some(Scheme::Float));
        assert!(entry.tensor.is_some());
    }

    #[test]
    fn says_so_where_nothing_helps() {
        let found = search(1000.0);
        assert!(!found.holds);
        assert_eq!(found.kept.len(), 4);
    }

    #[test]
    fn keeps_operators_of_the_subgraphs_that_are_run() {
        let mut model = model();
        let inner = model.subgraphs.remove(0);
        let mut outer = Subgraph::default();
        let mut add = |name: &str| outer.add_tensor(Tensor::new(name, DType::F32, [1, 8]));
        let ids = ["x", "y"].map(&mut add);
        let call = bantam_model::ops::Call { subgraph: 1 };
        outer.nodes = vec![Node::new(call, &ids[..1], &ids[1..])];
        (outer.inputs, outer.outputs) = (vec![ids[0]], vec![ids[1]]);
        model.subgraphs = vec![outer, inner];
        let found = search_in(&model, 1000.0);
        let mut places: Vec<_> = found.kept.iter().map(|k| (k.subgraph, k.index)).collect();
        places.sort_unstable();
        assert_eq!(places, [(1, 0), (1, 1), (1, 2), (1, 3)]);
        // "y" is also the name of the call's result.
        let last = found.recipe.ops.iter().find(|e| e.index.is_some()).unwrap();
        assert_eq!((last.subgraph, last.index), (Some(1), Some(3)));
        assert!(found.curve[0].sqnr_db < found.curve.last().unwrap().sqnr_db);
        assert_eq!(found.curve[0].share, 1.0);
    }
}
