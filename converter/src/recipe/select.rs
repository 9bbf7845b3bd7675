//! Which entries of a recipe fit which operators.

use bantam_model::{Model, Subgraph};

use super::{Entry, Recipe, Settings};

impl Recipe {
    /// What becomes of each operator of `subgraph`, which is the model's subgraph `number`.
    pub fn settings(&self, number: usize, subgraph: &Subgraph) -> Vec<Settings> {
        let mut settings = vec![self.default_settings(); subgraph.nodes.len()];
        for entry in self.entries_for(number) {
            let settings = settings.iter_mut().zip(entry.selected(subgraph));
            settings
                .filter(|(_, selected)| *selected)
                .for_each(|(settings, _)| entry.apply(settings));
        }
        settings
    }

    /// A warning for each entry that fits no operator of the subgraphs `numbers`.
    pub(crate) fn idle(&self, model: &Model, numbers: &[usize]) -> Vec<String> {
        let fits = |entry: &Entry| {
            let mut numbers = numbers.iter().filter(|&&n| self.is_for(entry, n));
            numbers.any(|&n| entry.selected(&model.subgraphs[n]).contains(&true))
        };
        let entries = self.ops.iter().enumerate();
        entries
            .filter(|(_, entry)| !fits(entry))
            .map(|(at, _)| format!("entry {at} of the recipe fits no operator"))
            .collect()
    }

    fn entries_for(&self, number: usize) -> impl Iterator<Item = &Entry> {
        let entries = self.ops.iter();
        entries.filter(move |entry| self.is_for(entry, number))
    }

    /// Whether `entry` is for operators of subgraph `number`.
    fn is_for(&self, entry: &Entry, number: usize) -> bool {
        // A place says nothing without its subgraph.
        let of_place = entry.index.map(|_| self.subgraph);
        entry.subgraph.or(of_place).is_none_or(|n| n == number)
    }
}

impl Entry {
    /// For each operator of `subgraph`, which it is for, whether all other selectors fit it.
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
        let model = Model {
            subgraphs: vec![chain(), chain()],
            ..Model::default()
        };
        let settings = recipe.settings(0, &model.subgraphs[0]);
        let warnings = recipe.idle(&model, &[0, 1]);
        (settings.iter().map(|s| s.scheme).collect(), warnings.len())
    }

    #[test]
    fn a_place_is_one_in_the_subgraph_that_is_selected_or_entered() {
        use Scheme::{Float, Int8};
        let entries = "[[ops]]\nindex = 1\nmode = 'float'\n\
                       [[ops]]\nsubgraph = 1\nindex = 0\nmode = 'float'\n\
                       [[ops]]\nsubgraph = 2\nmode = 'float'";
        let mut recipe = Recipe::from_toml(entries).unwrap();
        let schemes = |recipe: &Recipe, number| -> Vec<Scheme> {
            let settings = recipe.settings(number, &chain());
            settings.iter().map(|s| s.scheme).collect()
        };
        assert_eq!(schemes(&recipe, 0), [Int8, Float]);
        assert_eq!(schemes(&recipe, 1), [Float, Int8]);
        assert_eq!(schemes(&recipe, 2), [Float, Float]);
        recipe.subgraph = 1;
        assert_eq!(schemes(&recipe, 0), [Int8, Int8]);
        assert_eq!(schemes(&recipe, 1), [Float, Float]);
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
