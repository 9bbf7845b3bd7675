//! Conditions: a quantity, the tensors it is measured on, and the bounds that its values must be in;
//! joined by `any`, `all` and `not`. What cannot be known makes a condition unknown, never true.

use std::fmt;

use super::Measure;
use super::quantity::{Measured, Quantity, What};
use super::view::View;
use crate::tensor::Tensor;

/// What a measurement gives or a bound names.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Flag(bool),
    Word(String),
}

impl Value {
    /// The number, if it is a whole one.
    pub fn integer(&self) -> Option<i64> {
        match *self {
            Self::Number(n) if n.fract() == 0.0 && n.abs() < 9e15 => Some(n as i64),
            _ => None,
        }
    }

    fn measure(&self) -> Measure {
        match self.integer() {
            Some(number) => Measure::Number(number),
            None => Measure::Text(self.to_string()),
        }
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Number(value as f64)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Word(word) => f.write_str(word),
        }
    }
}

/// One value, and the tensor it was measured on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    pub value: Value,
    pub tensor: Option<String>,
}

impl Reading {
    pub fn new(value: Value) -> Self {
        Self {
            value,
            tensor: None,
        }
    }
}

macro_rules! operands {
    ($($(#[doc = $doc:literal])* $name:ident = $key:literal;)*) => {
        /// Which of an operator's tensors.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Operands {
            $($(#[doc = $doc])* $name,)*
            /// One operand, by its place; nothing where it is not given.
            Input(usize),
            /// One result, by its place.
            Output(usize),
        }

        impl Operands {
            /// The names in a pack and what they mean, in the order of the documentation.
            pub const NAMES: &'static [(&'static str, &'static str)] = &[
                $(($key, concat!($($doc),*).trim_ascii()),)*
                ("input N", "One operand, by its place; nothing where it is not given."),
                ("output N", "One result, by its place."),
            ];

            /// The tensors with this name in a pack.
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($key => return Some(Self::$name),)*
                    _ => {}
                }
                let (kind, place) = name.split_once(' ')?;
                let place = place.parse().ok()?;
                match kind {
                    "input" => Some(Self::Input(place)),
                    "output" => Some(Self::Output(place)),
                    _ => None,
                }
            }
        }

        impl fmt::Display for Operands {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($key),)*
                    Self::Input(place) => write!(f, "input {place}"),
                    Self::Output(place) => write!(f, "output {place}"),
                }
            }
        }
    };
}

operands! {
    /// Operands that are computed, and results: neither constants nor variables.
    Activations = "activations";
    /// Operands that are computed: neither constants nor variables.
    Data = "data";
    /// All operands that are given.
    Inputs = "inputs";
    /// All results.
    Outputs = "outputs";
    /// Operands whose value is in the file.
    Constants = "constants";
    /// Operands that keep their value between runs.
    Variables = "variables";
    /// Operands that become results, constants among them, and results: no weights, biases or parameters.
    FeatureMaps = "feature-maps";
    /// Operands that say how: axes, sizes, paddings.
    Parameters = "parameters";
    /// The operands that hold weights: filters, matrices, PReLU's slopes.
    Weights = "weights";
    /// The operands that hold biases.
    Bias = "bias";
    /// All operands and results.
    All = "all";
}

impl Operands {
    pub(super) fn select<'a>(self, view: &View<'a>) -> Vec<&'a Tensor> {
        let inputs = || {
            let ids = view.node.inputs.iter().flatten();
            ids.filter_map(|&id| view.tensor(id))
        };
        let outputs = || view.node.outputs.iter().filter_map(|&id| view.tensor(id));
        let at = |places: &[usize]| places.iter().filter_map(|&p| view.input(p)).collect();
        let is_data = |t: &&Tensor| !t.is_constant() && !t.is_variable;
        match self {
            Self::Activations => inputs().filter(is_data).chain(outputs()).collect(),
            Self::Data => inputs().filter(is_data).collect(),
            Self::Inputs => inputs().collect(),
            Self::Outputs => outputs().collect(),
            Self::Constants => inputs().filter(|t| t.is_constant()).collect(),
            Self::Variables => inputs().filter(|t| t.is_variable).collect(),
            Self::FeatureMaps => {
                let maps = (0..view.node.inputs.len()).filter(|&p| view.is_feature_map(p));
                maps.filter_map(|p| view.input(p))
                    .chain(outputs())
                    .collect()
            }
            Self::Parameters => {
                let parameters = (0..view.node.inputs.len()).filter(|&p| view.is_parameter(p));
                parameters.filter_map(|p| view.input(p)).collect()
            }
            Self::Weights => at(view.weights()),
            Self::Bias => at(view.bias()),
            Self::All => inputs().chain(outputs()).collect(),
            Self::Input(place) => at(&[place]),
            Self::Output(place) => view.output(place).into_iter().collect(),
        }
    }
}

/// What values a condition allows. Those that are given must all hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Bounds {
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub multiple_of: Option<f64>,
    pub one_of: Option<Vec<Value>>,
}

/// The bound that a value is outside of.
struct Outside(String, Option<Measure>);

impl Bounds {
    /// What a value must be below for these not to hold.
    fn below(&self) -> Option<Measure> {
        let min = self.min?;
        Some(Measure::Text(format!("below {min}")))
    }

    /// Whether a value is outside.
    pub fn excludes(&self, value: &Value) -> bool {
        self.outside(value).is_some()
    }

    /// The numbers where values begin to be outside.
    pub fn numbers(&self) -> Vec<f64> {
        let listed = self
            .one_of
            .iter()
            .flatten()
            .filter_map(|value| match value {
                Value::Number(number) => Some(*number),
                _ => None,
            });
        [self.min, self.max, self.multiple_of]
            .into_iter()
            .flatten()
            .chain(listed)
            .collect()
    }

    fn outside(&self, value: &Value) -> Option<Outside> {
        let number = match *value {
            Value::Number(number) => Some(number),
            _ => None,
        };
        let limit = |text: &str, bound: f64| {
            Some(Outside(
                format!("{text} {bound}"),
                Some(Value::Number(bound).measure()),
            ))
        };
        if let Some(max) = self.max
            && number.is_none_or(|n| n > max)
        {
            return limit("at most", max);
        }
        if let Some(min) = self.min
            && number.is_none_or(|n| n < min)
        {
            return limit("at least", min);
        }
        if let Some(step) = self.multiple_of
            && number.is_none_or(|n| n % step != 0.0)
        {
            return limit("a multiple of", step);
        }
        let allowed = self.one_of.as_ref()?;
        if allowed.contains(value) {
            return None;
        }
        let words: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let measure = match &**allowed {
            [] => None,
            [one] => Some(one.measure()),
            _ => Some(Measure::Text(words.join(", "))),
        };
        let text = match &*words {
            [] => "none".to_owned(),
            [one] => one.clone(),
            [first @ .., last] => format!("{} or {last}", first.join(", ")),
        };
        Some(Outside(text, measure))
    }
}

/// A quantity and its bounds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Check {
    pub quantity: Quantity,
    pub what: What,
    pub bounds: Bounds,
    /// Whether one value inside the bounds is enough; otherwise every one must be.
    pub some: bool,
}

/// Something that holds for an operator or does not.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    Check(Box<Check>),
    Any(Vec<Condition>),
    All(Vec<Condition>),
    Not(Box<Condition>),
}

/// Whether a condition holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Holds,
    Fails(Failing),
    Unknown(String),
}

/// What was measured where a condition fails.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Failing {
    pub measured: Option<Measure>,
    pub limit: Option<Measure>,
    /// The measurement in words: `type of "x" is float32, not int8`.
    pub text: String,
}

impl Condition {
    pub fn test(&self, view: &View) -> Outcome {
        match self {
            Self::Check(check) => check.test(view),
            Self::All(parts) => {
                let mut unknown = None;
                for part in parts {
                    match part.test(view) {
                        Outcome::Holds => {}
                        Outcome::Unknown(why) => unknown = unknown.or(Some(why)),
                        fails => return fails,
                    }
                }
                unknown.map_or(Outcome::Holds, Outcome::Unknown)
            }
            Self::Any(parts) => {
                let (mut unknown, mut first) = (None, None);
                for part in parts {
                    match part.test(view) {
                        Outcome::Holds => return Outcome::Holds,
                        Outcome::Unknown(why) => unknown = unknown.or(Some(why)),
                        Outcome::Fails(failing) => first = first.or(Some(failing)),
                    }
                }
                match unknown {
                    Some(why) => Outcome::Unknown(why),
                    None => Outcome::Fails(first.unwrap_or_default()),
                }
            }
            Self::Not(inner) => match inner.test(view) {
                Outcome::Holds => Outcome::Fails(inner.met(view)),
                Outcome::Fails(_) => Outcome::Holds,
                unknown => unknown,
            },
        }
    }

    /// What is measured where the condition holds and should not.
    fn met(&self, view: &View) -> Failing {
        let Self::Check(check) = self else {
            return Failing::default();
        };
        match check.quantity.read(view, &check.what) {
            Measured::Known(readings) => {
                let inside = |r: &&Reading| check.bounds.outside(&r.value).is_none();
                match readings.iter().find(inside) {
                    Some(reading) => Failing {
                        measured: Some(reading.value.measure()),
                        limit: check.bounds.below(),
                        text: check.sentence(reading),
                    },
                    None => Failing::default(),
                }
            }
            Measured::Unknown(_) => Failing::default(),
        }
    }
}

impl Check {
    fn test(&self, view: &View) -> Outcome {
        let readings = match self.quantity.read(view, &self.what) {
            Measured::Known(readings) => readings,
            Measured::Unknown(why) => return Outcome::Unknown(why),
        };
        let outside = |reading: &Reading| self.bounds.outside(&reading.value);
        if self.some && readings.iter().any(|r| outside(r).is_none()) {
            return Outcome::Holds;
        }
        let worst = readings
            .iter()
            .filter_map(|r| Some((r, outside(r)?)))
            // The first, unless a later one is further out.
            .reduce(|a, b| {
                if self.is_worse(&b.0.value, &a.0.value) {
                    b
                } else {
                    a
                }
            });
        match worst {
            Some((reading, Outside(text, limit))) => Outcome::Fails(Failing {
                measured: Some(reading.value.measure()),
                limit,
                text: format!("{}, not {text}", self.sentence(reading)),
            }),
            None if self.some => Outcome::Fails(Failing::default()),
            None => Outcome::Holds,
        }
    }

    fn is_worse(&self, a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) if self.bounds.max.is_some() => a > b,
            (Value::Number(a), Value::Number(b)) if self.bounds.min.is_some() => a < b,
            _ => false,
        }
    }

    fn sentence(&self, reading: &Reading) -> String {
        let name = match &self.what.attribute {
            Some(attribute) => attribute.clone(),
            None => self.quantity.name().replace('-', " "),
        };
        match &reading.tensor {
            Some(tensor) => format!("{name} of `{tensor}` is {}", reading.value),
            None => format!("{name} is {}", reading.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Node, Subgraph};
    use crate::ops::Conv2d;

    fn stride(bounds: Bounds) -> Condition {
        Condition::Check(Box::new(Check {
            quantity: Quantity::Stride,
            what: What::default(),
            bounds,
            some: false,
        }))
    }

    fn at_most(max: f64) -> Condition {
        stride(Bounds {
            max: Some(max),
            ..Bounds::default()
        })
    }

    fn unknown() -> Condition {
        let what = What {
            attribute: Some("axis".into()),
            ..What::default()
        };
        Condition::Check(Box::new(Check {
            quantity: Quantity::Attribute,
            what,
            bounds: Bounds::default(),
            some: false,
        }))
    }

    #[test]
    fn what_is_not_known_is_neither_true_nor_false() {
        let subgraph = Subgraph::default();
        let node = Node::new(
            Conv2d {
                stride_h: 3,
                ..Conv2d::default()
            },
            &[],
            &[],
        );
        let view = View::new(&subgraph, &node, 1);
        let is = |condition: Condition| condition.test(&view);
        assert_eq!(is(at_most(3.0)), Outcome::Holds);
        let Outcome::Fails(failing) = is(at_most(2.0)) else {
            panic!()
        };
        assert_eq!(failing.text, "stride is 3, not at most 2");
        assert_eq!(failing.measured, Some(Measure::Number(3)));
        assert_eq!(failing.limit, Some(Measure::Number(2)));
        assert!(matches!(is(unknown()), Outcome::Unknown(_)));
        assert!(matches!(
            is(Condition::Not(unknown().into())),
            Outcome::Unknown(_)
        ));
        assert_eq!(
            is(Condition::Any(vec![unknown(), at_most(3.0)])),
            Outcome::Holds
        );
        assert!(matches!(
            is(Condition::Any(vec![unknown(), at_most(2.0)])),
            Outcome::Unknown(_)
        ));
        assert!(matches!(
            is(Condition::All(vec![unknown(), at_most(2.0)])),
            Outcome::Fails(_)
        ));
        assert!(matches!(
            is(Condition::All(vec![unknown(), at_most(3.0)])),
            Outcome::Unknown(_)
        ));
        assert!(matches!(
            is(Condition::Not(at_most(3.0).into())),
            Outcome::Fails(_)
        ));
    }
}
