//! Operators and tensors that nothing here computes: strings, hash tables and their like. Files keep
//! them; a run or conversion names them all at once.

use bantam_converter::{ConvertError, Mode, Recipe, convert};
use bantam_model::cpu::{Options, Plan, RunError};
use bantam_model::ops::{Op, Opaque, Relu};
use bantam_model::schema::tfl;
use bantam_model::{DType, Model, Node, Subgraph, Tensor, TensorId};

fn opaque(code: tfl::BuiltinOperator, options: tfl::BuiltinOptionsT) -> Op {
    Op::Opaque(Box::new(Opaque {
        code,
        version: 1,
        options,
        options_2: tfl::BuiltinOptions2T::NONE,
    }))
}

/// Looks strings up in a table, and does more that only LiteRT can.
fn lookup() -> Model {
    let mut graph = Subgraph::default();
    let mut add =
        |name: &str, dtype, shape: &[usize]| graph.add_tensor(Tensor::new(name, dtype, shape));
    let words = add("words", DType::String, &[2]);
    let table = add("table", DType::Resource, &[1]);
    let ids = add("ids", DType::I64, &[2]);
    let grams = add("grams", DType::String, &[4]);
    let projection = add("projection", DType::I32, &[3]);
    let (x, y) = (add("x", DType::F32, &[2]), add("y", DType::F32, &[2]));
    // Two strings, "ab" and "c": their number, where each starts, where the last ends, the bytes.
    let header = [2i32, 16, 18, 19].into_iter().flat_map(i32::to_le_bytes);
    let bytes: Vec<u8> = header.chain(*b"abc").collect();
    let keys = graph.add_tensor(Tensor::constant("keys", DType::String, [2], bytes));
    let numbers: Vec<u8> = [7i64, 9].into_iter().flat_map(i64::to_le_bytes).collect();
    let values = graph.add_tensor(Tensor::constant("values", DType::I64, [2], numbers));
    let default = graph.add_tensor(Tensor::constant("default", DType::I64, [], vec![255; 8]));

    let table_options = tfl::HashtableOptionsT {
        table_id: 3,
        key_dtype: tfl::TensorType::STRING,
        value_dtype: tfl::TensorType::INT64,
    };
    let gram_options = tfl::SkipGramOptionsT {
        ngram_size: 2,
        max_skip_size: 1,
        include_all_ngrams: true,
    };
    use tfl::{BuiltinOperator as Code, BuiltinOptionsT as Options};
    let op = |code, options, inputs: &[TensorId], outputs: &[TensorId]| {
        Node::new(opaque(code, options), inputs, outputs)
    };
    graph.nodes = vec![
        op(
            Code::HASHTABLE,
            Options::HashtableOptions(Box::new(table_options)),
            &[],
            &[table],
        ),
        op(
            Code::HASHTABLE_IMPORT,
            Options::HashtableImportOptions(Box::default()),
            &[table, keys, values],
            &[],
        ),
        op(
            Code::HASHTABLE_FIND,
            Options::HashtableFindOptions(Box::default()),
            &[table, words, default],
            &[ids],
        ),
        op(
            Code::SKIP_GRAM,
            Options::SkipGramOptions(Box::new(gram_options)),
            &[words],
            &[grams],
        ),
        op(
            Code::LSH_PROJECTION,
            Options::LSHProjectionOptions(Box::default()),
            &[words],
            &[projection],
        ),
        Node::new(Relu, &[x], &[y]),
    ];
    graph.inputs = vec![words, x];
    graph.outputs = vec![ids, grams, projection, y];
    Model {
        subgraphs: vec![graph],
        ..Model::default()
    }
}

const FOREIGN: [&str; 5] = [
    "HASHTABLE",
    "HASHTABLE_FIND",
    "HASHTABLE_IMPORT",
    "LSH_PROJECTION",
    "SKIP_GRAM",
];

#[test]
fn files_keep_strings_and_tables() {
    let model = lookup();
    let bytes = model.to_bytes();
    let read = Model::read(bytes.clone().into()).unwrap();
    assert_eq!(read, model);
    assert_eq!(read.to_bytes(), bytes);
}

#[test]
fn a_run_names_all_that_has_no_kernel() {
    let error = Plan::new(&lookup(), &Options::default()).unwrap_err();
    assert!(matches!(&error, RunError::NoKernel { operators } if *operators == FOREIGN));
    let text = error.to_string();
    assert!(FOREIGN.iter().all(|name| text.contains(name)), "{text}");
}

#[test]
fn a_conversion_names_them_too_unless_it_needs_no_run() {
    let model = lookup();
    let sample = vec![vec![0; 8], vec![0; 8]];
    let result = convert(&model, &[sample][..], &Recipe::default(), 1, &|_, _| {});
    assert!(matches!(
        result,
        Err(ConvertError::Run(RunError::NoKernel { operators })) if operators == FOREIGN
    ));
    let recipe = Recipe::new(Mode::DynamicRange);
    let (converted, _) = convert(&model, &[][..], &recipe, 1, &|_, _| {}).unwrap();
    assert_eq!(converted, model);
}
