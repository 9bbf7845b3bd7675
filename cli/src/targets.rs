//! `bantam targets`: the accelerators that are known, and what each takes.

use std::path::{Path, PathBuf};

use bantam_model::target::{Target, Which};
use bantam_model::write;

use crate::error::{self, Failure};
use crate::output;

/// List the accelerators that are known, or what one takes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A target, or the .toml file of a pack; without it, all are listed
    target: Option<String>,
    /// Write tiny models on both sides of every limit of the target here, to try on a device or compiler
    #[arg(long, value_name = "FOLDER", requires = "target")]
    probe: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let Some(name) = &args.target else {
        return output::print(&list()?);
    };
    let target = Target::open(name).map_err(|error| error::target(&error))?;
    match &args.probe {
        Some(folder) => probe(&target, folder),
        None => output::print(&format!("# {}\n\n{}", target.title(), target.markdown())),
    }
}

fn list() -> Result<String, Failure> {
    let mut rows = Vec::new();
    for name in Target::builtin_names() {
        let target = Target::open(name).map_err(|error| error::target(&error))?;
        let (rules, learned) = target.rule_count();
        rows.push([
            name.to_owned(),
            target.title().to_owned(),
            target
                .operator_count()
                .map_or("all with a kernel".to_owned(), |n| n.to_string()),
            format!("{rules} ({learned} learned)"),
            match target.policy().which {
                Which::First => "the first",
                Which::All => "all",
            }
            .to_owned(),
        ]);
    }
    Ok(output::table(
        &["target", "chip", "operators", "rules", "partitions"],
        &rows,
    ))
}

fn probe(target: &Target, folder: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| error::cannot_write(path, &error.to_string());
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let probes = target.probes();
    let mut table = "file\trule\toperator\tmeasure\tvalue\texpected\n".to_owned();
    for probe in &probes.made {
        let name = probe.file_name();
        let path = folder.join(&name);
        write::save(&path, &probe.model.to_bytes()).map_err(|error| failed(&path, error))?;
        let expected = if probe.is_inside { "taken" } else { "refused" };
        let (rule, op, measure, value) = (&probe.rule, &probe.op, probe.measure, probe.value);
        table.push_str(&format!(
            "{name}\t{rule}\t{op}\t{measure}\t{value}\t{expected}\n"
        ));
    }
    let path = folder.join("probes.tsv");
    write::save(&path, table.as_bytes()).map_err(|error| failed(&path, error))?;
    for (rule, op) in &probes.missing {
        output::warn(&format!("no model was found for the rule {rule} on {op}"));
    }
    output::warn(&format!(
        "{} models and probes.tsv in {}",
        probes.made.len(),
        folder.display()
    ));
    Ok(())
}
