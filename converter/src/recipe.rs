//! What the user asked for: a mode, and where wanted a choice for each operator.

mod select;

use std::fmt;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a model is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mode {
    /// Read and written again, nothing quantized.
    Float,
    /// Int8 wherever there is an integer rule, float between.
    #[default]
    Int8,
    /// Int8 everywhere, inputs and outputs too, or an error.
    Int8Only,
    /// Int16 activations and int8 weights wherever there is such a kernel, float between.
    Int16x8,
    /// Int16 activations everywhere, inputs and outputs too, or an error.
    Int16x8Only,
    /// Int8 weights that float kernels take as they are: they quantize their input as they run.
    DynamicRange,
    /// Int8 weights, made float again before they are used.
    WeightOnly,
    /// Float16 constants, made float32 again before they are used.
    Float16,
}

/// How one operator computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Scheme {
    /// In float.
    Float,
    /// On int8 activations, with int8 weights.
    #[default]
    Int8,
    /// On int16 activations, with int8 weights.
    Int16x8,
    /// In float, with int8 weights that the kernel takes as they are.
    DynamicRange,
    /// In float, with int8 weights behind a DEQUANTIZE.
    WeightOnly,
    /// In float, with float16 constants behind a DEQUANTIZE.
    Float16,
}

impl Scheme {
    /// Whether it needs the ranges of activations.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Int8 | Self::Int16x8)
    }
}

impl Mode {
    /// How every operator computes.
    pub fn scheme(self) -> Scheme {
        match self {
            Self::Float => Scheme::Float,
            Self::Int8 | Self::Int8Only => Scheme::Int8,
            Self::Int16x8 | Self::Int16x8Only => Scheme::Int16x8,
            Self::DynamicRange => Scheme::DynamicRange,
            Self::WeightOnly => Scheme::WeightOnly,
            Self::Float16 => Scheme::Float16,
        }
    }

    /// Whether an operator that stays float is an error.
    pub fn is_strict(self) -> bool {
        matches!(self, Self::Int8Only | Self::Int16x8Only)
    }
}

impl fmt::Display for Mode {
    /// The name on the command line and in recipes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float => "float",
            Self::Int8 => "int8",
            Self::Int8Only => "int8-only",
            Self::Int16x8 => "int16x8",
            Self::Int16x8Only => "int16x8-only",
            Self::DynamicRange => "dynamic-range",
            Self::WeightOnly => "weight-only",
            Self::Float16 => "float16",
        })
    }
}

/// The type of the model's inputs or outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum IoType {
    /// As in the float model.
    F32,
    /// Int8 with the model's parameters.
    #[serde(rename = "int8")]
    I8,
    /// Uint8: the same, 128 higher.
    #[serde(rename = "uint8")]
    U8,
    /// Int16, symmetric.
    #[serde(rename = "int16")]
    I16,
}

/// How the range of an activation follows from the values seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CalibMethod {
    /// The one of the others with which the int8 model's outputs are nearest to the float model's on
    /// the samples, see [`settle`](crate::settle()). Where there are no samples to try them on, that of
    /// the least squared error; where integers are int16, the smallest and the largest.
    #[default]
    Auto,
    /// The smallest and the largest.
    MinMax,
    /// The average of each sample's smallest and largest: from sample to sample, in their order,
    /// 0.95 of what it was and 0.05 of the new.
    MovingAverage,
    /// Without the outermost values at either end, see [`Settings::percentile`].
    Percentile,
    /// With the least squared error of the quantized values.
    Mse,
    /// With the least information lost (Kullback-Leibler divergence).
    Entropy,
}

/// How many scales weights have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Granularity {
    /// One for each index of the axis, where the operator has one.
    #[default]
    PerAxis,
    /// One.
    PerTensor,
}

/// Whether scales of weights cover the largest weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WeightClipping {
    /// They do.
    #[default]
    None,
    /// They are those of the least squared error, out of some that cut off parts of the largest.
    Mse,
    /// They are those of the least expected squared error, found by Newton's iteration (Sakr et al.,
    /// "Optimal Clipping and Magnitude-aware Differentiation for Improved Quantization-aware
    /// Training", 2022).
    Octav,
}

impl fmt::Display for CalibMethod {
    /// The name on the command line and in recipes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::MinMax => "min-max",
            Self::MovingAverage => "moving-average",
            Self::Percentile => "percentile",
            Self::Mse => "mse",
            Self::Entropy => "entropy",
        })
    }
}

/// What becomes of one operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How it computes.
    pub scheme: Scheme,
    /// How the ranges of its results come from samples.
    pub method: CalibMethod,
    /// For [`CalibMethod::Percentile`]: how many per cent of the values the range holds; of the
    /// others half may lie at either end.
    pub percentile: f64,
    /// How many scales its weights have.
    pub weights: Granularity,
    /// How the scales of its weights are chosen.
    pub weight_clipping: WeightClipping,
    /// Whether its int8 weights are rounded so that its result on the samples is nearest to the float
    /// one's, see [`tune`](crate::tune()).
    pub learned_rounding: bool,
    /// Whether its bias makes up for what quantization shifts the mean of each channel by.
    pub bias_correction: bool,
    /// In the schemes that compute in float, weights with fewer elements stay as they are.
    pub min_elements: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            scheme: Scheme::default(),
            method: CalibMethod::default(),
            percentile: 99.99,
            weights: Granularity::default(),
            weight_clipping: WeightClipping::default(),
            learned_rounding: false,
            bias_correction: false,
            min_elements: 1024,
        }
    }
}

/// Operators, and what becomes of them. Of the selectors that are given all must fit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Entry {
    /// The kind of operator, such as `CONV_2D`.
    pub op: Option<String>,
    /// The subgraph of the operator.
    pub subgraph: Option<usize>,
    /// The name of a result, somewhere in which the expression must fit.
    #[serde(deserialize_with = "regex", serialize_with = "as_text")]
    pub tensor: Option<Regex>,
    /// The place of the operator in its subgraph of the float model: in [`Recipe::subgraph`] where
    /// none is selected.
    pub index: Option<usize>,
    /// The name of a tensor: operators of its subgraph that read it, or what was computed from it.
    pub after: Option<String>,
    /// See [`Settings::scheme`].
    pub mode: Option<Scheme>,
    /// See [`Settings::method`].
    pub calib_method: Option<CalibMethod>,
    /// See [`Settings::percentile`].
    pub calib_percentile: Option<f64>,
    /// See [`Settings::weights`].
    pub weights: Option<Granularity>,
    /// See [`Settings::weight_clipping`].
    pub weight_clipping: Option<WeightClipping>,
    /// See [`Settings::learned_rounding`].
    pub learned_rounding: Option<bool>,
    /// See [`Settings::bias_correction`].
    pub bias_correction: Option<bool>,
    /// See [`Settings::min_elements`].
    pub min_elements: Option<usize>,
}

fn regex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Regex>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Regex::new(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn as_text<S: Serializer>(regex: &Option<Regex>, serializer: S) -> Result<S::Ok, S::Error> {
    regex.as_ref().map(Regex::as_str).serialize(serializer)
}

impl Entry {
    fn selects(&self) -> bool {
        self.op.is_some()
            || self.subgraph.is_some()
            || self.tensor.is_some()
            || self.index.is_some()
            || self.after.is_some()
    }

    fn apply(&self, settings: &mut Settings) {
        fn set<T: Copy>(value: &mut T, new: Option<T>) {
            *value = new.unwrap_or(*value);
        }
        set(&mut settings.scheme, self.mode);
        set(&mut settings.method, self.calib_method);
        set(&mut settings.percentile, self.calib_percentile);
        set(&mut settings.weights, self.weights);
        set(&mut settings.weight_clipping, self.weight_clipping);
        set(&mut settings.learned_rounding, self.learned_rounding);
        set(&mut settings.bias_correction, self.bias_correction);
        set(&mut settings.min_elements, self.min_elements);
    }
}

/// How a model shall be converted. Also what a recipe file holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Recipe {
    /// What it is turned into.
    pub mode: Mode,
    /// The type of float inputs; `None` is the mode's: integer for those that allow no float
    /// operator, otherwise float.
    pub input_type: Option<IoType>,
    /// The same for outputs.
    pub output_type: Option<IoType>,
    /// The subgraph that the samples are for, 0 but for a signature that enters another. It and
    /// those that it runs are converted; where samples are needed, all others stay as they are.
    #[serde(skip_serializing_if = "is_first")]
    pub subgraph: usize,
    /// Whether channels are evened out first, see [`equalize`](crate::equalize()).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub equalize: bool,
    /// Whether the method of each int8 operator's ranges is searched, see [`settle`](crate::settle()).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub search_ranges: bool,
    /// Whether results of MUL get scales above the product of the operands' scales. Compilers for
    /// accelerators from before 2022 cannot read the version of MUL for others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub coarse_products: bool,
    /// What holds for every operator; it selects none and has no mode of its own.
    pub defaults: Entry,
    /// Exceptions; of several that fit an operator, each overrides the ones before it.
    pub ops: Vec<Entry>,
}

/// Whether it need not be written.
pub(crate) fn is_first(subgraph: &usize) -> bool {
    *subgraph == 0
}

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, or holds what no recipe has.
    #[error("{}", toml.message())]
    Toml {
        /// What and where.
        #[from]
        toml: toml::de::Error,
    },
    /// The same for JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Something in it makes no sense.
    #[error("{0}")]
    Meaning(String),
}

impl Recipe {
    /// A recipe of `mode`, nothing else said.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    /// Int8 with learned rounding and corrected biases, which cost time in the conversion only.
    pub fn best() -> Self {
        Self {
            defaults: Entry {
                learned_rounding: Some(true),
                bias_correction: Some(true),
                ..Entry::default()
            },
            ..Self::new(Mode::Int8)
        }
    }

    /// Reads the recipe file at `path`: JSON if its name ends so, otherwise TOML.
    pub fn open(path: &Path) -> Result<Self, RecipeError> {
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::File {
            path: path.to_owned(),
            source,
        })?;
        if path.extension().is_some_and(|e| e == "json") {
            Self::from_json(&text)
        } else {
            Self::from_toml(&text)
        }
    }

    /// The recipe that a TOML text holds.
    pub fn from_toml(text: &str) -> Result<Self, RecipeError> {
        toml::from_str::<Self>(text)?.checked()
    }

    /// The recipe that a JSON text holds.
    pub fn from_json(text: &str) -> Result<Self, RecipeError> {
        serde_json::from_str::<Self>(text)?.checked()
    }

    /// The TOML text of this recipe: [`Self::from_toml`] makes the same of it.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    fn checked(self) -> Result<Self, RecipeError> {
        let wrong = |what: String| Err(RecipeError::Meaning(what));
        if self.defaults.selects() {
            return wrong("defaults hold for every operator; what selects some goes to ops".into());
        }
        if self.defaults.mode.is_some() {
            return wrong("the mode stands outside of defaults".into());
        }
        if let Some(at) = self.ops.iter().position(|entry| !entry.selects()) {
            return wrong(format!(
                "entry {at} of ops selects nothing: it needs op, subgraph, tensor, index or after"
            ));
        }
        let entries = self.ops.iter().chain([&self.defaults]);
        if let Some(percentile) = entries
            .filter_map(|e| e.calib_percentile)
            .find(|p| !(*p > 0.0 && *p <= 100.0))
        {
            return wrong(format!(
                "calib-percentile {percentile} is not above 0 and at most 100"
            ));
        }
        Ok(self)
    }

    /// The type of the model's float inputs after conversion.
    pub fn input_type(&self) -> IoType {
        self.input_type.unwrap_or(self.default_type())
    }

    /// The type of the model's float outputs after conversion.
    pub fn output_type(&self) -> IoType {
        self.output_type.unwrap_or(self.default_type())
    }

    /// Whether nothing is quantized.
    pub fn is_float(&self) -> bool {
        self.schemes().all(|scheme| scheme == Scheme::Float) && !self.needs_samples()
    }

    /// Whether operators compute in integers.
    pub fn has_integer_operators(&self) -> bool {
        self.schemes().any(Scheme::is_integer)
    }

    /// Whether something is to be improved on samples once it is quantized, or searched on them.
    pub fn tunes(&self) -> bool {
        let mut entries = self.ops.iter().chain([&self.defaults]);
        let wants = |e: &Entry| e.learned_rounding == Some(true) || e.bias_correction == Some(true);
        self.search_ranges || entries.any(wants)
    }

    /// Whether operators compute on int8.
    pub(crate) fn has_int8(&self) -> bool {
        let edges = [self.input_type(), self.output_type()];
        self.schemes().any(|scheme| scheme == Scheme::Int8)
            || edges
                .iter()
                .any(|edge| matches!(edge, IoType::I8 | IoType::U8))
    }

    /// Whether samples are needed: an operator, an input or an output becomes integer.
    pub fn needs_samples(&self) -> bool {
        self.has_integer_operators()
            || self.input_type() != IoType::F32
            || self.output_type() != IoType::F32
    }

    /// What holds where no entry fits.
    pub fn default_settings(&self) -> Settings {
        let mut settings = Settings {
            scheme: self.mode.scheme(),
            ..Settings::default()
        };
        self.defaults.apply(&mut settings);
        settings
    }

    fn schemes(&self) -> impl Iterator<Item = Scheme> + '_ {
        let entries = self.ops.iter().filter_map(|entry| entry.mode);
        entries.chain([self.mode.scheme()])
    }

    fn default_type(&self) -> IoType {
        match self.mode {
            Mode::Int8Only => IoType::I8,
            Mode::Int16x8Only => IoType::I16,
            _ => IoType::F32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = Recipe::from_toml(
            "mode = \"int8-only\"\ninput-type = \"uint8\"\n\
             [defaults]\ncalib-method = \"percentile\"\ncalib-percentile = 99.9\n\
             [[ops]]\nop = \"SOFTMAX\"\nmode = \"int16x8\"\n",
        );
        let json = Recipe::from_json(
            r#"{"mode": "int8-only", "input-type": "uint8",
                "defaults": {"calib-method": "percentile", "calib-percentile": 99.9},
                "ops": [{"op": "SOFTMAX", "mode": "int16x8"}]}"#,
        );
        for recipe in [toml.unwrap(), json.unwrap()] {
            assert_eq!(recipe.mode, Mode::Int8Only);
            assert_eq!(recipe.input_type(), IoType::U8);
            assert_eq!(recipe.output_type(), IoType::I8);
            assert_eq!(recipe.default_settings().percentile, 99.9);
            assert_eq!(recipe.ops[0].mode, Some(Scheme::Int16x8));
        }
    }

    #[test]
    fn what_is_written_is_read_the_same() {
        let text = "mode = \"int8\"\noutput-type = \"int8\"\n\n[defaults]\ncalib-method = \"mse\"\n\n\
                    [[ops]]\nop = \"ADD\"\ntensor = '^a/b\\.c$'\nmode = \"float\"\n";
        let recipe = Recipe::from_toml(text).unwrap();
        assert_eq!(recipe.to_toml().unwrap(), text);
        assert_eq!(
            Recipe::default().to_toml().unwrap(),
            "mode = \"int8\"\nops = []\n\n[defaults]\n"
        );
    }

    #[test]
    fn mistakes_are_named() {
        let fails = |text: &str, words: &[&str]| {
            let message = Recipe::from_toml(text).unwrap_err().to_string();
            for word in words {
                assert!(message.contains(word), "{message}");
            }
        };
        fails("modes = 1", &["unknown field `modes`", "`mode`", "`ops`"]);
        fails("mode = \"int9\"", &["int9", "`int8-only`", "`weight-only`"]);
        fails("[[ops]]\nkind = \"ADD\"", &["unknown field `kind`", "`op`"]);
        fails("[[ops]]\ntensor = \"a(\"", &["regex", "unclosed group"]);
        fails("[[ops]]\nmode = \"float\"", &["entry 0", "selects nothing"]);
        fails("[defaults]\nop = \"ADD\"", &["every operator"]);
        fails("[defaults]\ncalib-percentile = 0", &["percentile 0"]);
    }
}
