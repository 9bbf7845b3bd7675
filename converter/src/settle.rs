//! Chooses how ranges come from what was seen of the samples, by trying on them.
//!
//! No one rule is the best: a range without outliers makes steps finer and cuts off what may matter.
//! What it costs is known only at the outputs of the model, so the methods are judged there: each for
//! the whole model, and where the recipe wants it each for every operator in turn.

use bantam_model::Model;
use bantam_model::ops::Results;

use crate::calibrate::{Source, Statistics};
use crate::error::ConvertError;
use crate::probe::{Probes, Score};
use crate::quantize::{Total, quantize};
use crate::recipe::{CalibMethod, Entry, Recipe, Scheme};

/// The methods that are tried. The first one wins a draw.
const METHODS: [CalibMethod; 4] = [
    CalibMethod::MinMax,
    CalibMethod::Mse,
    CalibMethod::Percentile,
    CalibMethod::MovingAverage,
];

/// An operator gets a method of its own where the outputs gain at least this, in dB.
const LEAST_GAIN: f64 = 0.02;

/// And where that is so many of its standard errors: of many tries some succeed by chance.
const SURE: f64 = 2.0;

/// `recipe` with the methods of ranges chosen that it leaves open ([`CalibMethod::Auto`]) or wants
/// searched ([`Recipe::search_ranges`]): those with which the int8 model's outputs are nearest to the
/// float model's on some of `samples`. `statistics` are those of the float `model` for `recipe`; methods
/// that need what they do not hold are left out. Calls `progress` with the number of operators
/// searched and of all.
///
/// The result does not depend on the number of threads.
pub fn settle(
    model: &Model,
    statistics: &Statistics,
    recipe: &Recipe,
    samples: &(impl Source + ?Sized),
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Recipe, Vec<Total>), ConvertError> {
    let is_open = recipe.default_settings().method == CalibMethod::Auto;
    let mut totals = Vec::new();
    if !recipe.has_int8() || !(is_open || recipe.search_ranges) {
        return Ok((recipe.clone(), totals));
    }
    let probes = Probes::affordable(model, recipe.subgraph, samples, threads)?;
    let trial = Trial {
        model,
        statistics,
        probes,
        threads,
    };
    let mut best = match is_open {
        true => {
            let (found, total) = trial.whole(recipe)?;
            totals.push(total);
            found
        }
        false => trial.of(recipe.clone(), None)?,
    };
    if recipe.search_ranges {
        let before_db = best.score.db();
        let own = best.recipe.ops.len();
        best = trial.search(best, progress)?;
        totals.push(Total {
            option: "search-ranges",
            choice: format!(
                "{} operators with a method of their own",
                best.recipe.ops.len() - own
            ),
            before_db,
            after_db: best.score.db(),
        });
    }
    Ok((best.recipe, totals))
}

struct Trial<'a, S: ?Sized> {
    model: &'a Model,
    statistics: &'a Statistics,
    probes: Probes<'a, S>,
    threads: usize,
}

/// A recipe, what it makes and how good that is.
struct Tried {
    recipe: Recipe,
    converted: Model,
    score: Score,
}

impl<S: Source + ?Sized> Trial<'_, S> {
    /// What `recipe` makes; the same as something `known` is not judged again.
    fn of(&self, recipe: Recipe, known: Option<&Tried>) -> Result<Tried, ConvertError> {
        let (converted, _) = quantize(self.model, self.statistics, &recipe)?;
        let score = match known.filter(|known| known.converted == converted) {
            Some(known) => known.score.clone(),
            None => self.probes.judge(&converted, self.threads)?,
        };
        Ok(Tried {
            recipe,
            converted,
            score,
        })
    }

    /// The best method for the whole model.
    fn whole(&self, recipe: &Recipe) -> Result<(Tried, Total), ConvertError> {
        let mut best: Option<Tried> = None;
        let mut first_db = None;
        for method in METHODS {
            let mut with = recipe.clone();
            with.defaults.calib_method = Some(method);
            let chosen = with.ops.iter_mut().map(|entry| &mut entry.calib_method);
            chosen
                .filter(|chosen| **chosen == Some(CalibMethod::Auto))
                .for_each(|chosen| *chosen = Some(method));
            let tried = match self.of(with, best.as_ref()) {
                Err(ConvertError::Calibration(_)) => continue,
                tried => tried?,
            };
            first_db.get_or_insert(tried.score.db());
            if best
                .as_ref()
                .is_none_or(|best| tried.score.db() > best.score.db())
            {
                best = Some(tried);
            }
        }
        let best = match best {
            Some(best) => best,
            None => self.of(recipe.clone(), None)?,
        };
        let total = Total {
            option: "calib-method",
            choice: best.recipe.default_settings().method.to_string(),
            before_db: first_db.unwrap_or(best.score.db()),
            after_db: best.score.db(),
        };
        Ok((best, total))
    }

    /// Tries every method for every int8 operator, in order of execution.
    fn search(
        &self,
        mut best: Tried,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Tried, ConvertError> {
        let places = self.places(&best.recipe);
        let given = best.recipe.ops.len();
        for (done, &(subgraph, index, current)) in places.iter().enumerate() {
            for method in METHODS.into_iter().filter(|&method| method != current) {
                let mut recipe = best.recipe.clone();
                let last = recipe.ops.get(given..).and_then(<[_]>::last);
                if last.is_some_and(|e| (e.subgraph, e.index) == (Some(subgraph), Some(index))) {
                    recipe.ops.pop();
                }
                recipe.ops.push(Entry {
                    subgraph: Some(subgraph),
                    index: Some(index),
                    calib_method: Some(method),
                    ..Entry::default()
                });
                let converted = match quantize(self.model, self.statistics, &recipe) {
                    Ok((converted, _)) if converted != best.converted => converted,
                    Ok(_) | Err(ConvertError::Calibration(_)) => continue,
                    Err(error) => return Err(error),
                };
                let score = self.probes.judge(&converted, self.threads)?;
                let is_sure = score.significance_over(&best.score) >= SURE;
                if is_sure && score.db() >= best.score.db() + LEAST_GAIN {
                    best = Tried {
                        recipe,
                        converted,
                        score,
                    };
                }
            }
            progress(done + 1, places.len());
        }
        Ok(best)
    }

    /// The operators whose ranges are chosen, each with its method.
    fn places(&self, recipe: &Recipe) -> Vec<(usize, usize, CalibMethod)> {
        let in_subgraph = |number: usize| {
            let subgraph = &self.model.subgraphs[number];
            let nodes = subgraph.nodes.iter().zip(recipe.settings(number, subgraph));
            nodes
                .enumerate()
                .filter(|(_, (node, settings))| {
                    let operator = node.op.operator().ok();
                    let rule = operator.and_then(|operator| operator.quant_rule());
                    let is_free = rule.is_some_and(|rule| {
                        !matches!(rule.results, Results::Fixed(_) | Results::Plain)
                    });
                    settings.scheme == Scheme::Int8 && is_free
                })
                .map(|(index, (_, settings))| (number, index, settings.method))
                .collect::<Vec<_>>()
        };
        let numbers = self.model.reachable(recipe.subgraph).into_iter();
        numbers.flat_map(in_subgraph).collect()
    }
}
