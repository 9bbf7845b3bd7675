//! Operators that the format knows only by a name: kept byte for byte, and run where the name is one of a list.

use super::detection_postprocess::DetectionPostprocess;
use super::{OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::tensor::{Bytes, Shape};

/// An operator known only by a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Custom {
    /// The name that finds its kernel.
    pub name: String,
    /// Its version.
    pub version: i32,
    /// Its options, in a format of its own.
    pub options: Bytes,
}

/// Reads an operator's options.
type Read = fn(&[u8]) -> Result<Box<dyn Operator>, OpError>;

const KNOWN: &[(&str, Read)] = &[("TFLite_Detection_PostProcess", |options| {
    Ok(Box::new(DetectionPostprocess::read(options)?))
})];

impl Custom {
    /// Whether there is a kernel for its name.
    pub fn is_known(&self) -> bool {
        KNOWN.iter().any(|&(name, _)| name == self.name)
    }

    fn resolve(&self) -> Result<Box<dyn Operator>, OpError> {
        match KNOWN.iter().find(|&&(name, _)| name == self.name) {
            Some((_, read)) => read(&self.options),
            None => Err(OpError::NoKernel(self.name.clone())),
        }
    }
}

impl Operator for Custom {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        self.resolve()?.infer_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        self.version
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        self.resolve()?.prepare(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;

    #[test]
    fn only_known_names_have_kernels() {
        let custom = |name: &str| {
            let (name, options) = (name.to_owned(), Bytes::from(Vec::new()));
            Op::Custom(Box::new(Custom {
                name,
                version: 1,
                options,
            }))
        };
        assert!(custom("TFLite_Detection_PostProcess").operator().is_ok());
        assert!(
            matches!(custom("Mine").operator(), Err(OpError::NoKernel(name)) if name == "Mine")
        );
    }
}
