//! What the user asked for.

/// What a model is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Read and written again, nothing quantized.
    Float,
    /// Int8 wherever there is an integer rule, float between.
    #[default]
    Int8,
    /// Int8 everywhere, inputs and outputs too, or an error.
    Int8Only,
}

/// The type of the model's inputs or outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoType {
    /// As in the float model.
    F32,
    /// Int8 with the model's parameters.
    I8,
    /// Uint8: the same, 128 higher.
    U8,
}

/// How a model shall be converted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recipe {
    /// What it is turned into.
    pub mode: Mode,
    /// The type of float inputs; `None` is int8 for [`Mode::Int8Only`], otherwise float.
    pub input_type: Option<IoType>,
    /// The same for outputs.
    pub output_type: Option<IoType>,
    /// The subgraph that the samples are for, 0 but for a signature that enters another; it and
    /// those that it runs are converted, all others stay as they are.
    pub subgraph: usize,
}

impl Recipe {
    /// The type of the model's float inputs after conversion.
    pub fn input_type(&self) -> IoType {
        self.input_type.unwrap_or(self.default_type())
    }

    /// The type of the model's float outputs after conversion.
    pub fn output_type(&self) -> IoType {
        self.output_type.unwrap_or(self.default_type())
    }

    fn default_type(&self) -> IoType {
        match self.mode {
            Mode::Int8Only => IoType::I8,
            Mode::Float | Mode::Int8 => IoType::F32,
        }
    }
}
