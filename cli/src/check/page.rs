//! The answer as one self-contained page: the graph coloured by placement, the reason at each operator, the
//! partitions and the memory; and as an overlay for Model Explorer.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::Checked;
use crate::output;
use crate::report::{Text, card, drawing, file_name, short};

/// The colours of the page, for Model Explorer.
const TARGET: &str = "#0b7a75";
const OUTSIDE: &str = "#9aa5b1";
const CPU: &str = "#d9822b";

impl Checked<'_> {
    /// The page.
    pub(super) fn html(&self) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_page(&mut page);
        page
    }

    fn write_page(&self, w: &mut String) -> std::fmt::Result {
        write!(
            w,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{} on {} – Bantam</title>\n<style>{}</style></head>\n\
             <body><header><h1>{} on {}</h1><p>{}</p></header>\n<section class=\"cards\">",
            Text(file_name(&self.path)),
            Text(self.target.title()),
            include_str!("../report/page.css"),
            Text(file_name(&self.path)),
            Text(self.target.title()),
            Text(&self.path),
        )?;
        let (ops, mapped) = (self.check.ops.len(), self.check.mapped());
        let share = 100.0 * mapped as f64 / ops.max(1) as f64;
        card(
            w,
            "operators offloaded",
            &format!("{mapped} of {ops}"),
            &format!("{share:.0} %"),
        )?;
        let partitions = self.check.partitions.len();
        card(
            w,
            "partitions",
            &partitions.to_string(),
            "each is one call of the device",
        )?;
        if let Some(memory) = &self.check.memory {
            let [low, high] = memory.on_chip.map(output::bytes);
            let fits = match memory.fits() {
                Some(true) => "fit the cache of",
                Some(false) => "do not fit the cache of",
                None => "may not fit the cache of",
            };
            let note = format!(
                "estimated on the chip; they {fits} {}",
                output::bytes(memory.cache)
            );
            card(w, "parameters", &format!("{low} – {high}"), &note)?;
        }
        w.push_str("</section>\n");
        self.reasons(w)?;
        self.rows(w)?;
        self.ends(w)?;
        w.push_str("</body></html>\n");
        Ok(())
    }

    fn reasons(&self, w: &mut String) -> std::fmt::Result {
        let whys = self.whys();
        if whys.is_empty() {
            return Ok(());
        }
        w.push_str(
            "<section><h2>Why operators stay on the CPU</h2><table class=\"list\">\
             <tr><th>rule<th>operators<th>what the first has<th>evidence</tr>\n",
        );
        for (indices, reason) in whys {
            writeln!(
                w,
                "<tr><td>{}{}<td>{}<td>{}<td class=\"note\">{}</tr>",
                Text(reason.rule.as_deref().unwrap_or("unknown")),
                if reason.is_inferred { " (learned)" } else { "" },
                indices.len(),
                Text(&reason.text),
                Text(reason.evidence.as_deref().unwrap_or("")),
            )?;
        }
        w.push_str("</table></section>\n");
        Ok(())
    }

    /// The operators, one a row, with their tensors as lines at the left.
    fn rows(&self, w: &mut String) -> std::fmt::Result {
        write!(
            w,
            "<section><h2>Operators</h2><p>In order of execution; a line is a tensor. \
             <span class=\"key integer\"></span> {} <span class=\"key float\"></span> not taken \
             <span class=\"key plain\"></span> taken, but outside of the partitions</p>\n<div class=\"graph\">",
            Text(self.target.title()),
        )?;
        let class = |row: usize| match self.color(row) {
            TARGET => "integer",
            OUTSIDE => "plain",
            _ => "float",
        };
        drawing(w, self.graph, &class)?;
        w.push_str("<table>");
        for (row, (node, op)) in self.graph.nodes.iter().zip(&self.check.ops).enumerate() {
            let output = node.outputs.first().map(|&id| &self.graph[id]);
            let name = output.map_or("", |t| &t.name);
            let shape = output.map_or_else(String::new, |t| output::dims(&t.shape));
            let place = op
                .partition
                .map_or("cpu".to_owned(), |p| format!("partition {p}"));
            let why = op.reason.as_ref().map_or(String::new(), |reason| {
                let rule = reason.rule.as_deref().unwrap_or("unknown");
                format!("{rule}: {}", reason.text)
            });
            writeln!(
                w,
                "<tr><td class=\"number\">{row}<td class=\"op\">{}<td class=\"shape\">{shape}\
                 <td class=\"name\" title=\"{}\">{}<td>{place}<td class=\"note\" title=\"{why}\">{why}</tr>",
                Text(&node.op),
                Text(name),
                Text(short(name)),
                why = Text(&why),
            )?;
        }
        w.push_str("</table></div></section>\n");
        Ok(())
    }

    fn ends(&self, w: &mut String) -> std::fmt::Result {
        w.push_str("<section><h2>Partitions and memory</h2>");
        for (index, partition) in self.check.partitions.iter().enumerate() {
            let names = |ids: &[bantam_model::TensorId]| {
                let tensor = |&id: &bantam_model::TensorId| {
                    let tensor = &self.graph[id];
                    format!(
                        "{} {} {}",
                        short(&tensor.name),
                        output::dims(&tensor.shape),
                        tensor.dtype
                    )
                };
                ids.iter().map(tensor).collect::<Vec<_>>().join(", ")
            };
            write!(
                w,
                "<p><strong>Partition {index}</strong>: {} operators; reads {}; gives {}</p>",
                partition.nodes.len(),
                Text(names(&partition.inputs)),
                Text(names(&partition.outputs)),
            )?;
        }
        for line in self.memory_lines() {
            write!(w, "<p>{}</p>", Text(line))?;
        }
        w.push_str("</section>\n");
        Ok(())
    }

    fn color(&self, row: usize) -> &'static str {
        let op = &self.check.ops[row];
        match (op.partition, op.verdict.is_supported()) {
            (Some(_), _) => TARGET,
            (None, true) => OUTSIDE,
            (None, false) => CPU,
        }
    }

    /// Node data for Model Explorer, by the names of the operators' results: where each runs.
    pub(super) fn overlay(&self) -> Value {
        let mut results = Map::new();
        for (row, (node, op)) in self.graph.nodes.iter().zip(&self.check.ops).enumerate() {
            let place = match (op.partition, &op.reason) {
                (Some(partition), _) => format!("{} {partition}", self.target.name()),
                (None, reason) => {
                    let rule = reason.as_ref().and_then(|r| r.rule.as_deref());
                    format!("cpu: {}", rule.unwrap_or("unknown"))
                }
            };
            let data = json!({ "bgColor": self.color(row), "textColor": "white", "value": place });
            for &output in &node.outputs {
                results.insert(self.graph[output].name.clone(), data.clone());
            }
        }
        json!({ "results": results })
    }
}
