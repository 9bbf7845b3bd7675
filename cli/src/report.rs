//! The report of a conversion as one self-contained page: what was done, what it cost and where, and the graph.

mod lanes;

use std::fmt::{Display, Write};

use bantam_converter::{KeptFloat, Report, TensorError, Verification};
use bantam_model::{Model, Node, Subgraph};

use crate::output;
use lanes::Lanes;

/// Height of a row of the graph, and the distance of its lanes, in pixels.
const ROW: usize = 26;
const LANE: usize = 14;

/// Beyond this the graph's lanes are drawn closer, so that the table keeps its place.
const WIDEST: usize = 180;

/// How many of the worst tensors are shown with their histograms.
const WORST: usize = 9;

/// What a page tells.
pub struct Page<'a> {
    /// The float model.
    pub float: &'a Model,
    /// The float model's file.
    pub model: String,
    /// The converted model's file.
    pub output: String,
    /// The mode.
    pub mode: String,
    /// Bytes of both files.
    pub bytes: (u64, u64),
    /// The samples, in words.
    pub data: String,
    /// What the conversion did.
    pub report: &'a Report,
    /// How the result compares; `None` without samples.
    pub verification: Option<&'a Verification>,
}

/// Text in which no character is markup.
pub struct Text<T>(pub T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl Page<'_> {
    /// The page.
    pub fn html(&self) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut page);
        page
    }

    fn write(&self, w: &mut String) -> std::fmt::Result {
        write!(
            w,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{} – Bantam</title>\n<style>{}</style></head>\n\
             <body><header><h1>{}</h1><p>{} → {}, mode {}</p></header>\n",
            Text(&self.output),
            include_str!("report/page.css"),
            Text(file_name(&self.output)),
            Text(&self.model),
            Text(&self.output),
            Text(&self.mode),
        )?;
        self.summary(w)?;
        self.warnings(w)?;
        self.gains(w)?;
        if let Some(verification) = self.verification {
            worst(w, &verification.comparison.tensors)?;
        }
        for &number in &self.report.subgraphs {
            if let Some(subgraph) = self.float.subgraphs.get(number) {
                self.graph(w, number, subgraph)?;
            }
        }
        if let Some(verification) = self.verification {
            non_integer(w, verification)?;
            all(w, &verification.comparison.tensors)?;
        }
        w.push_str("</body></html>\n");
        Ok(())
    }

    fn summary(&self, w: &mut String) -> std::fmt::Result {
        let (before, after) = self.bytes;
        let share = after as f64 / before.max(1) as f64;
        w.push_str("<section class=\"cards\">");
        card(
            w,
            "size",
            &format!("{} → {}", output::bytes(before), output::bytes(after)),
            &format!("{:.0} % of the float model", share * 100.0),
        )?;
        let kept = self.report.kept_float.len();
        card(
            w,
            "operators",
            &format!("{} of {} integer", self.report.quantized, self.report.ops),
            &format!("{kept} kept float"),
        )?;
        let Some(verification) = self.verification else {
            w.push_str("</section>\n");
            return Ok(());
        };
        for error in &verification.comparison.outputs {
            card(
                w,
                &format!("output {}", short(&error.name)),
                &format!("{:.1} dB", error.sqnr_db),
                &format!(
                    "signal to noise; cosine {:.5}, at most {:.3e} off",
                    error.cosine, error.max_abs
                ),
            )?;
        }
        let floats = verification.non_integer.len();
        let integer = match floats {
            0 => "yes".to_owned(),
            1 => "no, 1 float tensor".to_owned(),
            _ => format!("no, {floats} float tensors"),
        };
        card(w, "integer throughout", &integer, "listed below where not")?;
        card(w, "samples", &verification.samples.to_string(), &self.data)?;
        w.push_str("</section>\n");
        Ok(())
    }

    fn warnings(&self, w: &mut String) -> std::fmt::Result {
        if self.report.warnings.is_empty() {
            return Ok(());
        }
        w.push_str("<section><h2>Warnings</h2><ul class=\"warnings\">");
        for warning in &self.report.warnings {
            write!(w, "<li>{}</li>", Text(warning))?;
        }
        w.push_str("</ul></section>\n");
        Ok(())
    }

    /// What options of the recipe gained: for the outputs, and for single operators.
    fn gains(&self, w: &mut String) -> std::fmt::Result {
        let Report { totals, gains, .. } = self.report;
        if totals.is_empty() && gains.is_empty() {
            return Ok(());
        }
        w.push_str(
            "<section><h2>Gains</h2><p>Signal to noise on the samples, without and with an option.</p>\n",
        );
        if !totals.is_empty() {
            w.push_str(
                "<table class=\"list\"><tr><th>option<th>for the outputs<th class=\"number\">without\
                 <th class=\"number\">with</tr>\n",
            );
            for total in totals {
                writeln!(
                    w,
                    "<tr><td>{}<td class=\"name\">{}<td class=\"number\">{:.2} dB\
                     <td class=\"number\">{:.2} dB</tr>",
                    Text(total.option),
                    Text(&total.choice),
                    total.before_db,
                    total.after_db,
                )?;
            }
            w.push_str("</table>\n");
        }
        if gains.is_empty() {
            w.push_str("</section>\n");
            return Ok(());
        }
        w.push_str(
            "<details><summary>Operator by operator</summary><p>Of results before the activation, with \
             bias-correction only of the mean of each channel. The last column is what is left of the \
             squared error.</p>\n<table class=\"list\"><tr><th>option<th>operator<th class=\"number\">without\
             <th class=\"number\">with<th class=\"number\">left</tr>\n",
        );
        for gain in gains {
            write!(
                w,
                "<tr><td>{}<td class=\"name\" title=\"{}\">{}, {}",
                Text(gain.option),
                Text(&gain.name),
                gain.index,
                Text(short(&gain.name)),
            )?;
            match gain.db {
                Some((before, after)) => write!(
                    w,
                    "<td class=\"number\">{before:.1} dB<td class=\"number\">{after:.1} dB"
                )?,
                None => w.push_str("<td><td>"),
            }
            writeln!(w, "<td class=\"number\">{:.1} %</tr>", 100.0 * gain.ratio)?;
        }
        w.push_str("</table></details></section>\n");
        Ok(())
    }

    /// The float model's operators, one a row, with their tensors as lines at the left.
    fn graph(&self, w: &mut String, number: usize, subgraph: &Subgraph) -> std::fmt::Result {
        let which = match self.float.subgraphs.len() {
            1 => String::new(),
            _ => format!(" of subgraph {number}"),
        };
        write!(
            w,
            "<section><h2>Operators{which}</h2><p>In order of execution; a line is a tensor. \
             <span class=\"key integer\"></span> integer <span class=\"key float\"></span> float \
             <span class=\"key plain\"></span> no float data. The bar is the signal to noise of the \
             operator's result, against the float model.</p>\n<div class=\"graph\">"
        )?;
        drawing(w, subgraph, &|row| self.class(number, subgraph, row))?;
        w.push_str("<table>");
        let errors = self.verification.map_or(&[][..], |v| &v.comparison.tensors);
        for (row, node) in subgraph.nodes.iter().enumerate() {
            let error = errors
                .iter()
                .find(|e| (e.subgraph, e.node) == (number, Some(row)));
            self.row(w, subgraph, (number, row), node, error)?;
        }
        w.push_str("</table></div></section>\n");
        Ok(())
    }

    /// The operator of a subgraph at a row, if it is kept float.
    fn kept(&self, number: usize, row: usize) -> Option<&KeptFloat> {
        let mut kept = self.report.kept_float.iter();
        kept.find(|k| (k.subgraph, k.index) == (number, row))
    }

    fn class(&self, number: usize, subgraph: &Subgraph, row: usize) -> &'static str {
        let node = &subgraph.nodes[row];
        let ids = node.inputs.iter().flatten().chain(&node.outputs);
        let mut dtypes = ids.map(|&id| subgraph[id].dtype);
        if self.kept(number, row).is_some() {
            "float"
        } else if dtypes.any(|dtype| dtype == bantam_model::DType::F32) {
            "integer"
        } else {
            "plain"
        }
    }

    fn row(
        &self,
        w: &mut String,
        subgraph: &Subgraph,
        (number, row): (usize, usize),
        node: &Node,
        error: Option<&TensorError>,
    ) -> std::fmt::Result {
        let output = node.outputs.first().map(|&id| &subgraph[id]);
        let name = output.map_or("", |t| &t.name);
        let shape = output.map_or_else(String::new, |t| output::dims(&t.shape));
        write!(
            w,
            "<tr><td class=\"number\">{row}<td class=\"op\">{}<td class=\"shape\">{shape}\
             <td class=\"name\" title=\"{}\">{}",
            Text(&node.op),
            Text(name),
            Text(short(name)),
        )?;
        match error {
            Some(error) => write!(
                w,
                "<td>{}<td class=\"number\">{:.1} dB",
                bar(error.sqnr_db),
                error.sqnr_db
            )?,
            None => w.push_str("<td><td>"),
        }
        let note = match (self.kept(number, row), error.and_then(TensorError::advice)) {
            (Some(kept), _) => format!("float: {}", kept.reason),
            (None, Some(advice)) => advice.to_string(),
            (None, None) => String::new(),
        };
        let note = Text(note);
        write!(w, "<td class=\"note\" title=\"{note}\">{note}")?;
        w.push_str("</tr>\n");
        Ok(())
    }
}

/// A figure with a title and a note.
pub fn card(w: &mut String, title: &str, value: &str, note: &str) -> std::fmt::Result {
    write!(
        w,
        "<div><h3>{}</h3><strong>{}</strong><p>{}</p></div>",
        Text(title),
        Text(value),
        Text(note)
    )
}

/// A bar that is full at 60 dB, coloured by how bad its value is.
fn bar(db: f64) -> String {
    let class = match db {
        db if db < 15.0 => "bad",
        db if db < 25.0 => "poor",
        _ => "good",
    };
    let width = (db / 60.0 * 100.0).clamp(0.0, 100.0);
    format!("<div class=\"bar\"><div class=\"{class}\" style=\"width:{width:.0}%\"></div></div>")
}

/// The lines and operators of `subgraph`; `class` names what a row's operator is.
/// The lines of `subgraph`'s tensors and a dot a row, whose class is that of its operator.
pub fn drawing(
    w: &mut String,
    subgraph: &Subgraph,
    class: &dyn Fn(usize) -> &'static str,
) -> std::fmt::Result {
    let lanes = Lanes::of(subgraph);
    let pitch = LANE.min(WIDEST / lanes.count.max(1)).max(3);
    let x = |lane: usize| lane * pitch + 8;
    // The first row is that of the inputs.
    let y = |row: Option<usize>| row.map_or(2, |row| row * ROW + ROW / 2);
    let (width, height) = (x(lanes.count), subgraph.nodes.len() * ROW);
    write!(
        w,
        "<svg width=\"{width}\" height=\"{height}\" aria-hidden=\"true\">"
    )?;
    for line in &lanes.lines {
        let start = line.from.map_or(line.lane, |row| lanes.nodes[row]);
        for &to in &line.to {
            let (x0, x1, x2) = (x(start), x(line.lane), x(lanes.nodes[to]));
            let (y0, y2) = (y(line.from), y(Some(to)));
            let (near, far) = (y0 + ROW / 2, y2.saturating_sub(ROW / 2).max(y0 + ROW / 2));
            write!(
                w,
                "<path d=\"M{x0} {y0}C{x0} {near} {x1} {y0} {x1} {near}V{far}C{x1} {y2} {x2} {far} {x2} {y2}\"/>"
            )?;
        }
    }
    for (row, &lane) in lanes.nodes.iter().enumerate() {
        write!(
            w,
            "<circle class=\"{}\" cx=\"{}\" cy=\"{}\" r=\"4.5\"/>",
            class(row),
            x(lane),
            y(Some(row))
        )?;
    }
    w.push_str("</svg>");
    Ok(())
}

fn worst(w: &mut String, tensors: &[TensorError]) -> std::fmt::Result {
    let with_histogram = tensors.iter().filter(|t| !t.histogram.is_empty());
    let worst: Vec<&TensorError> = with_histogram.take(WORST).collect();
    if worst.is_empty() {
        return Ok(());
    }
    w.push_str(
        "<section><h2>Worst tensors</h2><p>How the float model's values lie in what the integers can stand \
         for, left to right; the height is the logarithm of their number.</p><div class=\"worst\">\n",
    );
    for error in worst {
        write!(
            w,
            "<figure><figcaption title=\"{}\">{}</figcaption><p><b>{:.1} dB</b>, values {} to {}</p>",
            Text(&error.name),
            Text(short(&error.name)),
            error.sqnr_db,
            figure(error.range.0),
            figure(error.range.1)
        )?;
        histogram(w, &error.histogram)?;
        if let Some((low, high)) = error.covered {
            write!(
                w,
                "<div class=\"ends\"><span>{}</span><span>{}</span></div>",
                figure(low),
                figure(high)
            )?;
        }
        if let Some(advice) = error.advice() {
            write!(w, "<p class=\"note\">{}</p>", Text(advice))?;
        }
        w.push_str("</figure>\n");
    }
    w.push_str("</div></section>\n");
    Ok(())
}

fn histogram(w: &mut String, counts: &[u64]) -> std::fmt::Result {
    const HEIGHT: f64 = 60.0;
    let log = |count: u64| (count as f64 + 1.0).log10();
    let highest = counts.iter().copied().map(log).fold(1e-9, f64::max);
    write!(
        w,
        "<svg class=\"histogram\" viewBox=\"0 0 {} {HEIGHT}\">",
        counts.len() * 4
    )?;
    for (index, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = log(count) / highest * HEIGHT;
        write!(
            w,
            "<rect x=\"{}\" y=\"{:.1}\" width=\"3\" height=\"{height:.1}\"><title>{count}</title></rect>",
            index * 4,
            HEIGHT - height
        )?;
    }
    w.push_str("</svg>");
    Ok(())
}

fn non_integer(w: &mut String, verification: &Verification) -> std::fmt::Result {
    if verification.non_integer.is_empty() {
        return Ok(());
    }
    writeln!(
        w,
        "<section><details><summary>{} tensors that are not integer</summary><table class=\"list\">\
         <tr><th>subgraph<th>tensor<th>type<th><th>name</tr>",
        verification.non_integer.len()
    )?;
    for tensor in &verification.non_integer {
        writeln!(
            w,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            tensor.subgraph,
            tensor.index,
            tensor.dtype,
            if tensor.is_constant { "constant" } else { "" },
            Text(&tensor.name)
        )?;
    }
    w.push_str("</table></details></section>\n");
    Ok(())
}

fn all(w: &mut String, tensors: &[TensorError]) -> std::fmt::Result {
    w.push_str(
        "<section><details><summary>All tensors, worst first</summary><table class=\"list\">\
         <tr><th>sqnr dB<th>cosine<th>max abs<th>smallest<th>largest<th>clipped<th>name</tr>\n",
    );
    for error in tensors {
        writeln!(
            w,
            "<tr><td>{:.2}<td>{:.6}<td>{:.3e}<td>{}<td>{}<td>{:.3} %<td>{}</tr>",
            error.sqnr_db,
            error.cosine,
            error.max_abs,
            figure(error.range.0),
            figure(error.range.1),
            error.clipped * 100.0,
            Text(&error.name)
        )?;
    }
    w.push_str("</table></details></section>\n");
    Ok(())
}

/// A number with four digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if !(1e-3..1e5).contains(&v) => format!("{value:.2e}"),
        v => format!(
            "{value:.*}",
            (3 - v.log10().floor() as i32).clamp(0, 6) as usize
        ),
    }
}

/// The part of a tensor's name that tells it apart: converters join the names of fused operators with `;` and
/// put the model's name in front.
pub fn short(name: &str) -> &str {
    const LONGEST: usize = 44;
    let first = name.split(';').next().unwrap_or(name);
    if first.chars().count() <= LONGEST {
        return first;
    }
    let skip = first.chars().count() - LONGEST;
    let start = first.char_indices().nth(skip).map_or(0, |(at, _)| at);
    match first[start..].find('/') {
        Some(slash) => &first[start + slash + 1..],
        None => &first[start..],
    }
}

/// The last part of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_stays_text() {
        assert_eq!(
            Text("<a b=\"c\">&").to_string(),
            "&lt;a b=&quot;c&quot;&gt;&amp;"
        );
    }

    #[test]
    fn names_are_cut_to_what_tells_them_apart() {
        assert_eq!(short("relu/Relu;bn/FusedBatchNorm"), "relu/Relu");
        let long = format!("{}/block_5/conv", "m".repeat(60));
        assert_eq!(short(&long), "block_5/conv");
    }

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(
            [figure(0.0), figure(1.0), figure(-123.456), figure(1e-7)],
            ["0", "1.000", "-123.5", "1.00e-7"]
        );
    }
}
