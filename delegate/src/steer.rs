//! What a user wants on the driver and what not, by kind, name or place of the operators.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use bantam_model::{NodeId, Subgraph};
use regex::Regex;

use crate::partition::Economy;

/// What a user says of the cut; by default nothing.
#[derive(Debug, Clone, Default)]
pub struct Steering {
    /// Only operators that one of these selects are offloaded; empty for all.
    pub allow: Vec<Selector>,
    /// Operators that one of these selects are not; stronger than `allow`.
    pub deny: Vec<Selector>,
    /// The fewest operators of a partition, in place of the driver's own figure.
    pub min_ops: Option<usize>,
    /// Drops partitions that do less than moving their data costs.
    pub economy: Option<Economy>,
}

/// Selects operators.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Selector {
    /// `op:CONV_2D`: those of a kind, or custom ones of a name.
    Kind(String),
    /// `tensor:REGEX`: those with a result whose name matches somewhere.
    Tensor(Regex),
    /// `index:3`, `index:3-9`, `index:1/3-9`: those at a place, in a subgraph other than the first
    /// with its number in front.
    Index {
        /// The subgraph.
        subgraph: usize,
        /// The places.
        nodes: RangeInclusive<u32>,
    },
}

/// Why a text selects no operators.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// It does not start as one does.
    #[error("{0:?} is not of the form op:KIND, tensor:REGEX or index:[SUBGRAPH/]FIRST[-LAST]")]
    Form(String),
    /// The expression is not one.
    #[error("{text:?} is no regular expression")]
    Regex {
        /// What was given.
        text: String,
        /// What is wrong.
        #[source]
        source: regex::Error,
    },
}

impl Selector {
    /// Whether it selects `node` of `subgraph`, which is the one of number `number`.
    pub fn selects(&self, number: usize, subgraph: &Subgraph, node: NodeId) -> bool {
        match self {
            Self::Kind(kind) => subgraph[node].op.to_string() == *kind,
            Self::Tensor(regex) => {
                let mut outputs = subgraph[node].outputs.iter();
                outputs.any(|&output| regex.is_match(&subgraph[output].name))
            }
            Self::Index { subgraph, nodes } => *subgraph == number && nodes.contains(&node.0),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let form = || SelectorError::Form(text.to_owned());
        let (by, what) = text.split_once(':').ok_or_else(form)?;
        match by {
            _ if what.is_empty() => Err(form()),
            "op" => Ok(Self::Kind(what.to_owned())),
            "tensor" => Regex::new(what)
                .map(Self::Tensor)
                .map_err(|source| SelectorError::Regex {
                    text: what.to_owned(),
                    source,
                }),
            "index" => {
                let (subgraph, nodes) = what.split_once('/').unwrap_or(("0", what));
                let (first, last) = nodes.split_once('-').unwrap_or((nodes, nodes));
                let number = |text: &str| text.parse().map_err(|_| form());
                Ok(Self::Index {
                    subgraph: subgraph.parse().map_err(|_| form())?,
                    nodes: number(first)?..=number(last)?,
                })
            }
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "op:{kind}"),
            Self::Tensor(regex) => write!(f, "tensor:{regex}"),
            Self::Index { subgraph, nodes } => {
                f.write_str("index:")?;
                if *subgraph != 0 {
                    write!(f, "{subgraph}/")?;
                }
                write!(f, "{}", nodes.start())?;
                if nodes.start() != nodes.end() {
                    write!(f, "-{}", nodes.end())?;
                }
                Ok(())
            }
        }
    }
}

impl Steering {
    /// Why `node` shall not be offloaded, or `None` where it may be.
    pub fn objection(&self, number: usize, subgraph: &Subgraph, node: NodeId) -> Option<String> {
        let selects = |selector: &&Selector| selector.selects(number, subgraph, node);
        if let Some(selector) = self.deny.iter().find(selects) {
            return Some(format!("it is denied by {selector}"));
        }
        match self.allow.is_empty() || self.allow.iter().any(|s| selects(&s)) {
            true => None,
            false => Some("nothing that is allowed selects it".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bantam_model::tensor::DType;
    use bantam_model::{Node, Tensor, ops};

    use super::*;

    fn selected(text: &str) -> Vec<u32> {
        let selector: Selector = text.parse().unwrap();
        let mut s = Subgraph::default();
        let names = ["x", "block_1/relu", "block_1/tanh", "block_2/relu"];
        let ids = names.map(|name| s.add_tensor(Tensor::new(name, DType::F32, [1])));
        s.nodes = vec![
            Node::new(ops::Relu, &[ids[0]], &[ids[1]]),
            Node::new(ops::Tanh, &[ids[1]], &[ids[2]]),
            Node::new(ops::Relu, &[ids[2]], &[ids[3]]),
        ];
        (0..3)
            .filter(|&node| selector.selects(0, &s, NodeId(node)))
            .collect()
    }

    #[test]
    fn selects_by_kind_name_and_place() {
        assert_eq!(selected("op:RELU"), [0, 2]);
        assert_eq!(selected("tensor:^block_1/"), [0, 1]);
        assert_eq!(selected("tensor:relu$"), [0, 2]);
        assert_eq!(selected("index:1"), [1]);
        assert_eq!(selected("index:1-7"), [1, 2]);
        assert!(selected("index:1/0-9").is_empty());
    }

    #[test]
    fn writes_what_it_reads() {
        for text in [
            "op:ADD",
            "tensor:a|b",
            "index:3",
            "index:3-4",
            "index:2/0-1",
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_selects_nothing() {
        for text in [
            "", "ADD", "op:", "kind:ADD", "index:x", "index:1-", "index:-1", "tensor:(",
        ] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    #[test]
    fn deny_is_stronger_than_allow() {
        let selectors = |text: &str| vec![text.parse().unwrap()];
        let steering = Steering {
            allow: selectors("op:RELU"),
            deny: selectors("index:0"),
            ..Steering::default()
        };
        let mut s = Subgraph::default();
        let [x, y, z] = [0, 1, 2].map(|_| s.add_tensor(Tensor::new("", DType::F32, [1])));
        s.nodes = vec![
            Node::new(ops::Relu, &[x], &[y]),
            Node::new(ops::Relu, &[x], &[y]),
            Node::new(ops::Tanh, &[y], &[z]),
        ];
        let objection = |node| steering.objection(0, &s, NodeId(node));
        assert_eq!(objection(0).unwrap(), "it is denied by index:0");
        assert_eq!(objection(1), None);
        assert_eq!(objection(2).unwrap(), "nothing that is allowed selects it");
    }
}
