//! Which entries of a recipe fit which operators.

use bantam_model::Subgraph;

use super::{Entry, Recipe, Settings};

impl Recipe {
    /// What becomes of each operator of `subgraph`, and a warning for each entry that fits none.
    pub fn settings(&self, subgraph: &Subgraph) -> (Vec<Settings>, Vec<String>) {
        let mut settings = vec![self.default_settings(); subgraph.nodes.len()];
        let mut warnings = Vec::new();
        for (at, entry) in self.ops.iter().enumerate() {
            let selected = entry.selected(subgraph);
            if !selected.contains(&true) {
                warnings.push(format!("entry {at} of the recipe fits no operator"));
            }
            let settings = settings.iter_mut().zip(selected);
            settings
                .filter(|(_, selected)| *selected)
                .for_each(|(settings, _)| entry.apply(settings));
        }
        (settings, warnings)
    }
}

impl Entry {
    /// For each operator of `subgraph`, whether all selectors fit it.
    fn selected(&self, subgraph: &Subgraph) -> Vec<bool> {
        let downstream = self.after.as_deref().map(|name| downstream(subgraph, name));
        let nodes = subgraph.nodes.iter().enumerate();
        nodes
            .map(|(index, node)| {
                let has_name = |regex: &regex::Regex| {
                    let mut outputs = node.outputs.iter();
                    outputs.any(|&output| regex.is_match(&subgraph[output].name))
                };
                self.index.is_none_or(|wanted| wanted == index)
                    && self
                        .op
                        .as_deref()
                        .is_none_or(|op| op == node.op.to_string())
                    && self.tensor.as_ref().is_none_or(has_name)
                    && downstream.as_ref().is_none_or(|found| found[index])
            })
            .collect()
    }
}

/// For each operator, whether it reads the tensor of that name, or what was computed from it.
fn downstream(subgraph: &Subgraph, name: &str) -> Vec<bool> {
    let mut reached: Vec<bool> = subgraph.tensors.iter().map(|t| t.name == name).collect();
    let nodes = subgraph.nodes.iter();
    nodes
        .map(|node| {
            let mut inputs = node.inputs.iter().flatten();
            let found = inputs.any(|input| reached[input.index()]);
            if found {
                node.outputs.iter().for_each(|o| reached[o.index()] = true);
            }
            found
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bantam_model::{DType, Node, Tensor, ops};

    use super::*;
    use crate::recipe::Scheme;

    /// `a -> RELU -> b -> RELU6 -> c`
    fn chain() -> Subgraph {
        let mut subgraph = Subgraph::default();
        let [a, b, c] =
            ["a", "b", "c"].map(|name| subgraph.add_tensor(Tensor::new(name, DType::F32, [1])));
        subgraph.nodes.push(Node::new(ops::Relu, &[a], &[b]));
        subgraph.nodes.push(Node::new(ops::Relu6, &[b], &[c]));
        subgraph
    }

    fn schemes(ops: &str) -> (Vec<Scheme>, usize) {
        let recipe = Recipe::from_toml(ops).unwrap();
        let (settings, warnings) = recipe.settings(&chain());
        (settings.iter().map(|s| s.scheme).collect(), warnings.len())
    }

    #[test]
    fn each_selector_selects_and_the_last_entry_wins() {
        use Scheme::{Float, Int8, Int16x8};
        let float = |select: &str| schemes(&format!("[[ops]]\n{select}\nmode = \"float\""));
        assert_eq!(float("op = 'RELU6'"), (vec![Int8, Float], 0));
        assert_eq!(float("tensor = '^b$'"), (vec![Float, Int8], 0));
        assert_eq!(float("index = 1"), (vec![Int8, Float], 0));
        assert_eq!(float("after = 'a'"), (vec![Float, Float], 0));
        assert_eq!(float("after = 'b'"), (vec![Int8, Float], 0));
        assert_eq!(float("after = 'b'\nop = 'RELU'"), (vec![Int8, Int8], 1));
        assert_eq!(float("after = 'z'"), (vec![Int8, Int8], 1));
        let both = "[[ops]]\ntensor = '.'\nmode = 'int16x8'\n[[ops]]\nindex = 0\nmode = 'float'";
        assert_eq!(schemes(both), (vec![Float, Int16x8], 0));
    }
}
