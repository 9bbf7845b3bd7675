//! What users see when something is wrong: one line what, one why, one what to try, and a code.

use std::error::Error;
use std::fmt;
use std::panic::PanicHookInfo;
use std::path::Path;

use bantam_converter::compiler::CompileError;
use bantam_converter::samples::SampleError;
use bantam_converter::{ConvertError, LegalizeError, RecipeError, VerifyError};
use bantam_delegate::{DriverError, OffloadError, SessionError, doctor};
use bantam_model::ReadError;
use bantam_model::cpu::RunError;
use bantam_model::target::TargetError;
use clap::error::{ContextKind, ContextValue};

use crate::output;

/// A kind of failure: its stable name, the exit code, and what `explain` says of it.
pub struct Code {
    /// The stable name.
    pub id: &'static str,
    /// The exit code of the process.
    pub exit: u8,
    /// A few words.
    pub title: &'static str,
    /// A few sentences.
    pub text: &'static str,
}

macro_rules! codes {
    ($($name:ident = $id:literal, $exit:literal, $title:literal, $text:literal;)*) => {
        $(pub static $name: Code = Code { id: $id, exit: $exit, title: $title, text: $text };)*
        /// All codes.
        pub static CODES: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    GATE = "BNT-G001", 1, "a condition that was asked for does not hold",
        "The command did its work, but a condition that a flag asked for, such as\n\
         --require-full-delegation, does not hold.";
    USAGE = "BNT-U001", 2, "the command line cannot be understood",
        "A flag, value or verb is unknown, missing or contradicts another. Flags take `-` or `_`\n\
         and are never abbreviated. `bantam VERB --help` lists what a verb takes.";
    NOT_YET = "BNT-U002", 2, "this version does not have what was asked for",
        "The name is known, but this version cannot do it yet. README.md lists what is missing.";
    RECIPE = "BNT-U003", 2, "the recipe cannot be used",
        "A recipe is a TOML or JSON file. It has the keys mode, input-type, output-type, defaults\n\
         and ops, and nothing that it does not know. docs/recipes.md says what they mean.";
    TARGET = "BNT-U004", 2, "the target cannot be used",
        "A target is a name that `bantam targets` lists, or the path of a pack: a TOML file that says\n\
         what a chip takes. The message names the line that is wrong. docs/targets.md says what a pack\n\
         holds, and `bantam targets NAME` shows what one takes.";
    OUTPUT = "BNT-O001", 2, "the output cannot be written",
        "The folder is missing, writing is not allowed, or the disk is full. Files are written\n\
         whole under another name and then renamed, so nothing partial is left behind.";
    THREADS = "BNT-O002", 2, "the threads cannot be started",
        "The system refused to start as many threads as --threads asks for.";
    MODEL_FILE = "BNT-M001", 3, "the model file cannot be read",
        "The path does not exist, is a folder, or may not be read.";
    MODEL_FORMAT = "BNT-M002", 3, "the file is not a .tflite model",
        "A .tflite file has the four letters TFL3 at byte 4. A SavedModel, .h5, .keras, .onnx or\n\
         .pb file has to be exported to .tflite first, by TensorFlow's or PyTorch's own tools.";
    MODEL_CORRUPT = "BNT-M003", 3, "the model is broken",
        "The file starts like a .tflite model, but is truncated, or its tables contradict each\n\
         other: an index out of range, a constant whose size does not fit its shape, a tensor\n\
         that is used before it is computed. Every index and size is checked before use.";
    MODEL_OP = "BNT-M004", 3, "an operator of the model cannot be run",
        "The CPU path has no kernel for the operator, for these element types, or for these\n\
         attributes. `bantam inspect MODEL` lists the model's operators.";
    MODEL_MEMORY = "BNT-M005", 3, "the model needs too much memory",
        "The tensors of one run would take more bytes than the limit, which protects against\n\
         files with absurd shapes.";
    MODEL_CONVERT = "BNT-M006", 3, "the model cannot be converted as asked",
        "The model is sound but does not become what the mode asks for. With --mode int8,\n\
         operators without an integer form stay float.";
    DETECTOR = "BNT-M007", 3, "the model's outputs are no boxes",
        "--metric map takes the results of TFLite_Detection_PostProcess, wherever they are among\n\
         the outputs. A model without that operator needs four outputs in this order: boxes\n\
         [1, n, 4] of top, left, bottom and right as parts of the image, classes [1, n] from 0,\n\
         scores [1, n], and the number of boxes [1].";
    LEGALIZE = "BNT-L001", 3, "the model cannot be made to fit the target",
        "The chip's compiler would refuse the whole file: a shape is not fixed, or an operator needs a\n\
         version that the compiler cannot read and no lower one means the same. The message names the\n\
         tensor or the operator. `--shape NAME:1x224x224x3` fixes the shape of an input; a shape that\n\
         depends on data has to be fixed where the model is made. docs/legalize.md has the rewrites.";
    PAIR = "BNT-L002", 3, "the two models are no pair",
        "A compiled model and the one that it was made from have the same inputs and outputs: number,\n\
         types, shapes, scales and zero points. The original is kept in the compiled model's metadata\n\
         under the name bantam.cpu_twin, as a whole .tflite file.";
    COMPILE = "BNT-L003", 3, "the vendor's compiler refuses the model",
        "The compiler ran and left no model. What it said is quoted, with what users found it to mean.\n\
         An internal error is tried twice. `bantam check --target edgetpu` says what is refused and why.";
    COMPILER = "BNT-L004", 4, "the vendor's compiler is not there",
        "edgetpu_compiler is a closed program of Google's for Debian on x86-64 and is not part of Bantam.\n\
         Install the package `edgetpu-compiler` as https://coral.ai/docs/edgetpu/compiler/ says, on such\n\
         a machine or in a container, and have it on the path or name it with --compiler PATH.";
    COMPILER_DEADLINE = "BNT-L005", 124, "the vendor's compiler takes too long",
        "The compiler was stopped when --timeout was over. Some models take it many minutes: allow more.";
    DATA_FILE = "BNT-D001", 3, "the data cannot be read",
        "The file or folder is missing, truncated or not of the kind that its name says.\n\
         Data is a .npy, an .npz, a folder of images or of .npy files, a raw file, or a .txt\n\
         file that lists one path a line.";
    DATA_SHAPE = "BNT-D002", 3, "the data does not fit the model's inputs",
        "Shape, number or names of the arrays are not those of the inputs. For several inputs,\n\
         bring an .npz with one entry an input, keyed by tensor name or by position 0, 1 ...\n\
         `bantam inspect MODEL` shows the inputs.";
    DATA_VALUE = "BNT-D003", 3, "the data holds a value that the model cannot take",
        "NaN and infinity are refused, and so are numbers that do not exist in the integer type of\n\
         an input without quantization.";
    LABELS = "BNT-D004", 3, "the labels do not fit the outputs",
        "There must be one label a sample, of the kind that the metric compares with: an array\n\
         (.npy, .npz), or a text file with a line a sample. A line is `name label`, in a .csv\n\
         `name,label`; or a label alone, in the order of the samples. A label is a number, or the\n\
         name of a class that --classes, the model's metadata or a folder has. Without --labels,\n\
         samples in one folder for each class have the place of their folder as label, the folders\n\
         sorted by name.";
    ANNOTATIONS = "BNT-D005", 3, "the annotations cannot be used",
        "--metric map takes annotations in COCO's JSON format: `images` of id, file_name, width\n\
         and height, `annotations` of image_id, category_id and bbox (x, y, width, height in\n\
         pixels), `categories` of id and name. Images are found in the data by their file_name.";
    DRIVER = "BNT-V001", 4, "the driver or device is not available",
        "The driver's library cannot be loaded, its device is not there, it refused what only it\n\
         can run, or it failed twice where the CPU path cannot take over. --driver cpu runs\n\
         everything else on the CPU path.";
    DEADLINE = "BNT-V002", 124, "the driver did not answer in time",
        "A call took longer than --deadline, and so did the next one on the device opened again.\n\
         Where the CPU path has kernels for the partition it takes over; here it has none, as for\n\
         operators that a vendor's compiler made.";
    INTERNAL = "BNT-I001", 5, "internal error",
        "Bantam broke one of its own rules. This is a bug whatever the input was: please report it\n\
         with the command and, if you can, the model.";
}

impl Code {
    /// A failure of this kind.
    pub fn failure(
        &'static self,
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Failure {
        Failure {
            code: self,
            what: what.into(),
            why: why.into(),
            hint: hint.into(),
        }
    }
}

/// What is wrong, why, and what to try. Displays as the three lines that users see.
pub struct Failure {
    code: &'static Code,
    what: String,
    why: String,
    hint: String,
}

impl Failure {
    /// The exit code of the process.
    pub fn exit(&self) -> u8 {
        self.code.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| text.split('\n').collect::<Vec<_>>().join(" ");
        writeln!(f, "error[{}]: {}", self.code.id, line(&self.what))?;
        writeln!(f, "  why: {}", line(&self.why))?;
        write!(f, "  try: {}", line(&self.hint))
    }
}

/// The messages of `error` and of what caused it, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The messages of what caused `error`, or its own if nothing did.
fn cause(error: &dyn Error) -> String {
    chain(error.source().unwrap_or(error))
}

/// clap's complaint in our three lines.
pub fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let line = |prefix: &str| {
        let found = text
            .lines()
            .find_map(|l| l.trim_start().strip_prefix(prefix));
        found.map(|l| l.trim().to_owned())
    };
    // Required arguments stand on the lines that follow the first.
    let mut what = text
        .lines()
        .take_while(|l| !l.is_empty())
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ");
    what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    if !what.contains(' ') || text.starts_with("Quantize") {
        what = "a verb is missing".to_owned();
    }
    let suggested = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ]
    .into_iter()
    .find_map(|kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    });
    let why = line("Usage: ").map_or_else(
        || "the command line does not fit".to_owned(),
        |usage| format!("the usage is: {usage}"),
    );
    let hint = match suggested {
        Some(suggested) => format!("did you mean {suggested}?"),
        None => "`bantam --help`, or `bantam VERB --help`".to_owned(),
    };
    USAGE.failure(what, why, hint)
}

/// A model that cannot be read.
pub fn read(path: &Path, error: &ReadError) -> Failure {
    let name = path.display();
    match error {
        ReadError::File { .. } => MODEL_FILE.failure(
            format!("cannot read {name}"),
            cause(error),
            "check the path and the permissions",
        ),
        ReadError::Identifier => MODEL_FORMAT.failure(
            format!("{name} is not a model"),
            chain(error),
            "export the model to .tflite, then give that file",
        ),
        _ => MODEL_CORRUPT.failure(
            format!("{name} is broken"),
            chain(error),
            "export or download the model again",
        ),
    }
}

/// A model that cannot be planned or run.
pub fn run(path: &Path, error: &RunError) -> Failure {
    let name = path.display();
    match error {
        RunError::Op { .. } => MODEL_OP.failure(
            format!("{name} cannot be run: {error}"),
            cause(error),
            "compare the shapes and types of its inputs with `bantam inspect`",
        ),
        RunError::NoKernel { .. } => MODEL_OP.failure(
            format!("{name} cannot be run"),
            chain(error),
            "`bantam inspect` lists the model's operators",
        ),
        RunError::Memory { .. } => MODEL_MEMORY.failure(
            format!("{name} is too large to run"),
            chain(error),
            "give smaller inputs, or look at the shapes with `bantam inspect`",
        ),
        RunError::Data(_) => DATA_SHAPE.failure(
            format!("the data does not fit {name}"),
            chain(error),
            "look at the inputs with `bantam inspect`",
        ),
        RunError::Endless { .. } => MODEL_OP.failure(
            format!("{name} does not end"),
            chain(error),
            "look at the condition of its WHILE loops with `bantam inspect`, and at the inputs",
        ),
        RunError::Threads(_) => THREADS.failure(
            "cannot start the threads",
            chain(error),
            "ask for fewer with --threads",
        ),
        RunError::Custom { source, .. } => match source.reason() {
            Some(error) => offload(error),
            None => DRIVER.failure(
                format!("{name} cannot be run: {error}"),
                cause(error),
                "say --driver cpu",
            ),
        },
        _ => MODEL_CORRUPT.failure(
            format!("{name} is broken"),
            chain(error),
            "export or download the model again",
        ),
    }
}

/// A partition that gave no result.
fn offload(error: &OffloadError) -> Failure {
    let (what, why) = (error.to_string(), cause(error));
    match error {
        OffloadError::Required { .. } => GATE.failure(
            what,
            why,
            "leave --require-full-delegation away, so that the CPU path takes over",
        ),
        OffloadError::NoTwin {
            source: DriverError::Deadline { .. },
            ..
        } => DEADLINE.failure(
            what,
            why,
            "give more time with --deadline, and look at the device",
        ),
        _ => DRIVER.failure(
            what,
            why,
            "look at the device; say --driver cpu if the CPU path can run it",
        ),
    }
}

/// A session that cannot be had.
pub fn session(path: &Path, error: &SessionError) -> Failure {
    match error {
        SessionError::Read(error) => read(path, error),
        SessionError::Run(error) => run(path, error),
        SessionError::NotDelegated(placement) => GATE.failure(
            format!(
                "{} of {} operators are delegated",
                placement.delegated, placement.ops
            ),
            placement.to_string(),
            "leave --require-full-delegation away, or choose a driver",
        ),
        SessionError::NeedsDriver { needed, .. } => DRIVER.failure(
            format!("{} cannot be run", path.display()),
            chain(error),
            format!("choose {needed} with --driver, or run the model that it was made from"),
        ),
        SessionError::Driver { driver, source } => self::driver(driver, source),
        _ => DRIVER.failure(
            error.to_string(),
            cause(error),
            "leave --driver away, or say --driver cpu",
        ),
    }
}

/// A driver that cannot be used.
pub fn driver(spec: impl fmt::Display, error: &DriverError) -> Failure {
    DRIVER.failure(
        format!("driver {spec} cannot be used"),
        chain(error),
        doctor::hint(error),
    )
}

/// A model that cannot be converted or compared.
pub fn convert(path: &Path, error: &ConvertError) -> Failure {
    let name = path.display();
    match error {
        ConvertError::Run(source) => run(path, source),
        ConvertError::Sample { source, .. } => samples(source),
        ConvertError::NoSamples => USAGE.failure(
            "there are no samples",
            chain(error),
            "give about a hundred, and no limit of 0",
        ),
        ConvertError::Calibration(_) => DATA_FILE.failure(
            format!("{name} cannot be converted with this calibration"),
            chain(error),
            "calibrate again, with the same recipe and --calib-method",
        ),
        ConvertError::Mismatch(_) => MODEL_CONVERT.failure(
            format!("{name} cannot be compared"),
            chain(error),
            "compare a model with what was made from it",
        ),
        ConvertError::Float { .. } => MODEL_CONVERT.failure(
            format!("{name} cannot be integer throughout"),
            chain(error),
            "the same mode without -only leaves those operators float",
        ),
        _ => MODEL_CONVERT.failure(
            format!("{name} cannot be converted"),
            chain(error),
            "look at the model with `bantam inspect`",
        ),
    }
}

/// A converted model that does not stand the test. Reading and running what was just written is ours to get right.
pub fn verify(path: &Path, error: &VerifyError) -> Failure {
    match error {
        VerifyError::Compare(error) => convert(path, error),
        _ => INTERNAL.failure(
            format!("{} was written, but is not sound", path.display()),
            chain(error),
            "report this as a bug, with the float model if you can",
        ),
    }
}

/// A target that cannot be had.
pub fn target(error: &TargetError) -> Failure {
    match error {
        TargetError::Name { name, hint } => TARGET.failure(
            format!("there is no target {name}"),
            "the name is not one of `bantam targets`, nor the path of a pack",
            hint,
        ),
        TargetError::Pack {
            origin,
            line,
            message,
            hint,
        } => TARGET.failure(
            format!("the pack {origin} cannot be used"),
            format!("line {line}: {message}"),
            hint,
        ),
        _ => TARGET.failure(
            error.to_string(),
            cause(error),
            "check the path, or take a name of `bantam targets`",
        ),
    }
}

/// A model that cannot be made to fit.
pub fn legalize(path: &Path, error: &LegalizeError) -> Failure {
    let hint = match error {
        LegalizeError::Input { name, .. } => format!("say it: --shape {name}:1x224x224x3"),
        LegalizeError::Shape(_) => "`bantam inspect` lists the inputs and their shapes".to_owned(),
        LegalizeError::Version { .. } => {
            "change the model where it is made, or end it before that operator".to_owned()
        }
        _ => "end the model before that operator, or fix the shape where it is made".to_owned(),
    };
    LEGALIZE.failure(
        format!("{} cannot be made to fit", path.display()),
        chain(error),
        hint,
    )
}

/// A model that the vendor's compiler did not compile.
pub fn compile(path: &Path, error: &CompileError) -> Failure {
    let name = path.display();
    match error {
        CompileError::Deadline { .. } => COMPILER_DEADLINE.failure(
            format!("{name} is not compiled"),
            error.to_string(),
            "allow more with --timeout SECONDS",
        ),
        CompileError::Refused { meaning, .. } => COMPILE.failure(
            format!("{name} cannot be compiled"),
            error.to_string(),
            meaning.unwrap_or("`bantam check --target edgetpu` says what is refused and why"),
        ),
        CompileError::Read(source) => COMPILE.failure(
            format!("what the compiler made of {name} is broken"),
            chain(source),
            "run it again, or another version of the compiler",
        ),
        _ => COMPILER.failure(
            "there is no compiler for the Edge TPU",
            chain(error),
            "install the Debian package edgetpu-compiler, https://coral.ai/docs/edgetpu/compiler/, or name it with --compiler PATH",
        ),
    }
}

/// A recipe file that cannot be used.
pub fn recipe(path: &Path, error: &RecipeError) -> Failure {
    RECIPE.failure(
        format!("the recipe {} cannot be used", path.display()),
        chain(error),
        "docs/recipes.md says what a recipe holds",
    )
}

/// A saved calibration that cannot be used.
pub fn calibration(path: &Path, error: &ConvertError) -> Failure {
    DATA_FILE.failure(
        format!("the calibration {} cannot be used", path.display()),
        chain(error),
        "take one that --save-calib wrote for this model",
    )
}

/// Data that cannot be used, or results that cannot be written.
pub fn samples(error: &SampleError) -> Failure {
    use SampleError::*;
    match error {
        Write { path, .. } => cannot_write(path, &cause(error)),
        Shape { .. }
        | InputShape { .. }
        | NotImageInput { .. }
        | ImageSize { .. }
        | InputCount { .. }
        | MissingEntry { .. }
        | SampleCount { .. }
        | RawSize { .. } => DATA_SHAPE.failure(
            "the data does not fit the model",
            chain(error),
            "look at the inputs with `bantam inspect`, or at `bantam explain BNT-D002`",
        ),
        MissingLabels { .. } => LABELS.failure(
            "the labels do not fit the outputs",
            chain(error),
            "call the entry as the output is called, or `0`",
        ),
        NotFinite { .. } | Unrepresentable { .. } => DATA_VALUE.failure(
            "the data holds a value that the model cannot take",
            chain(error),
            "look at the data, and at the preprocessing flags",
        ),
        Preprocess { .. } => USAGE.failure(
            "the preprocessing makes no sense",
            chain(error),
            "give finite numbers, and neither a scale nor a deviation of 0",
        ),
        _ => DATA_FILE.failure(
            "the data cannot be read",
            chain(error),
            "check the path; `bantam explain BNT-D001` lists the kinds of data",
        ),
    }
}

/// An output file that cannot be written.
pub fn cannot_write(path: &Path, why: &str) -> Failure {
    OUTPUT.failure(
        format!("cannot write {}", path.display()),
        why,
        "check the folder, the permissions and the space left",
    )
}

/// One clear line in place of a stack trace.
pub fn report_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(ToString::to_string);
    let failure = INTERNAL.failure(
        format!("internal error: {message}"),
        format!("a bug, at {}", place.unwrap_or_default()),
        "report it with the command and, if you can, the model",
    );
    output::warn(&failure.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_failures_have_three_lines() {
        for (index, code) in CODES.iter().enumerate() {
            assert!(CODES[..index].iter().all(|other| other.id != code.id));
            assert!(matches!(code.exit, 1..=5 | 124) && !code.text.is_empty());
        }
        let text = INTERNAL.failure("a\nb", "c", "d").to_string();
        assert_eq!(text, "error[BNT-I001]: a b\n  why: c\n  try: d");
    }
}
