//! A driver to start from: takes `MAXIMUM`, `MINIMUM` and `RELU` on int8 and computes them on the CPU.
//!
//! What to change: `judge` says what the chip takes, [`Vendor::compile`] translates the partition, [`Executable::run`] runs it,
//! [`Vendor::devices`] finds devices. The rest is the same for every driver.

use std::ffi::CStr;
use std::sync::Mutex;

use bantam_driver_abi::{Device, Error, Executable, Info, Kind, Vendor, Verdict};
use bantam_model::tensor::{DType, element_count};
use bantam_model::{Bytes, Model, Node, Op, Subgraph, TensorId};

bantam_driver_abi::export!(Template);

/// One opened driver. A real one holds the connection to its chip here.
pub struct Template;

/// A partition that is ready to run: where the value of each tensor goes, and what is computed in which order.
pub struct Program {
    sizes: Vec<usize>,
    zero_points: Vec<i8>,
    steps: Vec<(Kernel, Vec<usize>, usize)>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    values: Mutex<Vec<Vec<i8>>>,
}

#[derive(Clone, Copy)]
enum Kernel {
    Maximum,
    Minimum,
    Relu,
}

fn unsupported(rule: &str, reason: &str) -> Verdict {
    Verdict::Unsupported {
        rule: rule.to_owned(),
        reason: reason.to_owned(),
        measured: None,
        limit: None,
    }
}

fn kernel(op: &Op) -> Option<Kernel> {
    match op {
        Op::Maximum(_) => Some(Kernel::Maximum),
        Op::Minimum(_) => Some(Kernel::Minimum),
        Op::Relu(_) => Some(Kernel::Relu),
        _ => None,
    }
}

/// Whether an operator is taken, and if not, why.
fn judge(graph: &Subgraph, node: &Node) -> Verdict {
    let Some(kernel) = kernel(&node.op) else {
        return unsupported("operator", "only MAXIMUM, MINIMUM and RELU are taken");
    };
    let operands: Option<Vec<TensorId>> = node.inputs.iter().copied().collect();
    let count = if matches!(kernel, Kernel::Relu) { 1 } else { 2 };
    let (Some(operands), &[result]) = (operands.filter(|o| o.len() == count), &node.outputs[..])
    else {
        return unsupported("operands", "the number of operands or results is not usual");
    };
    let result = &graph[result];
    for tensor in operands.iter().map(|&id| &graph[id]).chain([result]) {
        let parameters = tensor.quantization.as_ref().map(|q| q.per_tensor());
        if tensor.dtype != DType::I8 || !matches!(parameters, Some(Ok(_))) {
            return unsupported("int8", "operands and results must be int8 with one scale");
        }
        if tensor.quantization != result.quantization {
            return unsupported("one-scale", "operands and result must have the same scale");
        }
        if tensor.is_constant() {
            return unsupported("no-constants", "no operand may be a constant");
        }
        if tensor.shape != result.shape {
            return Verdict::Unsupported {
                rule: "no-broadcast".to_owned(),
                reason: "operands and result must have the same shape".to_owned(),
                measured: Some(format!("{:?}", tensor.shape)),
                limit: Some(format!("{:?}", result.shape)),
            };
        }
    }
    Verdict::Supported
}

fn read(model: &[u8]) -> Result<Model, Error> {
    Model::read(Bytes::from(model.to_vec())).map_err(|error| Error::new(Kind::Refused, error))
}

impl Vendor for Template {
    type Executable = Program;
    const NAME: &'static CStr = c"example driver in Rust";
    const VERSION: &'static CStr = c"1.0";

    fn open(options: &[(&str, &str)]) -> Result<Self, Error> {
        match options {
            [] => Ok(Self),
            [(key, _), ..] => Err(Error::new(
                Kind::BadOption,
                format!("there is no option {key}"),
            )),
        }
    }

    fn info(&self) -> Info {
        Info {
            parallel: true,
            ..Info::default()
        }
    }

    fn devices(&self) -> Result<Vec<Device>, Error> {
        Ok(vec![Device {
            id: "cpu:0".to_owned(),
            description: "the CPU, in place of a chip".to_owned(),
        }])
    }

    fn supports(&self, model: &[u8], subgraph: u32) -> Result<Vec<Verdict>, Error> {
        let model = read(model)?;
        let graph = model.subgraphs.get(subgraph as usize);
        let graph = graph.ok_or_else(|| Error::new(Kind::Invalid, "there is no such subgraph"))?;
        Ok(graph.nodes.iter().map(|node| judge(graph, node)).collect())
    }

    fn compile(&self, device: Option<&str>, model: &[u8]) -> Result<Program, Error> {
        if device.is_some_and(|id| id != "cpu:0") {
            return Err(Error::new(Kind::NoDevice, "cpu:0"));
        }
        let model = read(model)?;
        let graph = model.subgraphs.first();
        let graph = graph.ok_or_else(|| Error::new(Kind::Refused, "there is no subgraph"))?;
        let mut steps = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            match (judge(graph, node), kernel(&node.op)) {
                (Verdict::Supported, Some(kernel)) => steps.push((
                    kernel,
                    node.inputs.iter().flatten().map(|id| id.index()).collect(),
                    node.outputs[0].index(),
                )),
                (Verdict::Unsupported { reason, .. }, _) => {
                    let message = format!("operator {index} ({}): {reason}", node.op);
                    return Err(Error::new(Kind::Refused, message));
                }
                _ => return Err(Error::new(Kind::Refused, format!("operator {index}"))),
            }
        }
        let sizes = graph.tensors.iter().map(|t| element_count(&t.shape));
        let sizes: Option<Vec<usize>> = sizes.collect();
        let sizes = sizes.ok_or_else(|| Error::new(Kind::Refused, "a tensor is too large"))?;
        let zero_point = |tensor: &bantam_model::Tensor| {
            let parameters = tensor.quantization.as_ref()?.per_tensor().ok()?;
            i8::try_from(parameters.zero_point).ok()
        };
        let indices = |ids: &[TensorId]| ids.iter().map(|id| id.index()).collect();
        Ok(Program {
            zero_points: graph
                .tensors
                .iter()
                .map(|t| zero_point(t).unwrap_or(0))
                .collect(),
            values: Mutex::new(sizes.iter().map(|&len| vec![0; len]).collect()),
            sizes,
            steps,
            inputs: indices(&graph.inputs),
            outputs: indices(&graph.outputs),
        })
    }
}

impl Program {
    fn check<'a>(
        &self,
        tensors: &[usize],
        lens: impl Iterator<Item = usize> + 'a,
    ) -> Result<(), Error> {
        let wanted: Vec<usize> = tensors.iter().map(|&t| self.sizes[t]).collect();
        let found: Vec<usize> = lens.collect();
        match found == wanted {
            true => Ok(()),
            false => {
                let message = format!("buffers of {found:?} bytes, not {wanted:?}");
                Err(Error::new(Kind::Invalid, message))
            }
        }
    }
}

impl Executable for Program {
    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), Error> {
        self.check(&self.inputs, inputs.iter().map(|i| i.len()))?;
        self.check(&self.outputs, outputs.iter().map(|o| o.len()))?;
        let values = self.values.lock();
        let mut values = values.map_err(|_| Error::new(Kind::Failed, "an earlier run panicked"))?;
        for (&tensor, bytes) in self.inputs.iter().zip(inputs) {
            values[tensor] = bytes.iter().map(|&byte| byte as i8).collect();
        }
        for (kernel, operands, result) in &self.steps {
            let (first, last) = (&values[operands[0]], &values[operands[operands.len() - 1]]);
            let zero_point = self.zero_points[*result];
            let pairs = first.iter().zip(last);
            values[*result] = match kernel {
                Kernel::Maximum => pairs.map(|(a, b)| *a.max(b)).collect(),
                Kernel::Minimum => pairs.map(|(a, b)| *a.min(b)).collect(),
                Kernel::Relu => first.iter().map(|&a| a.max(zero_point)).collect(),
            };
        }
        for (&tensor, bytes) in self.outputs.iter().zip(outputs) {
            let pairs = bytes.iter_mut().zip(&values[tensor]);
            pairs.for_each(|(byte, &value)| *byte = value as u8);
        }
        Ok(())
    }
}
