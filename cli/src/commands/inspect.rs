//! `glmeval inspect MODEL`.

use crate::output::{Format, Table, say, say_json};
use clap::Args;
use glmeval_common::error::Result;
use glmeval_common::model::{ModelFacts, ModelOptions};
use glmeval_worker::models;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `inspect`.
#[derive(Args)]
#[command(after_help = "Examples:
  glmeval inspect examples/models/nt-v1-random
  glmeval inspect my-nt --format json | jq .facts.id")]
pub(crate) struct Arguments {
    /// Folder in Hugging Face layout, a published file (.ckpt, .pth, .h5), or `hf://org/name@revision`.
    model: PathBuf,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    file: String,
}

#[derive(Serialize)]
struct Inspection {
    /// None for a folder that cannot be run.
    facts: Option<ModelFacts>,
    missing: Vec<String>,
    mis_shaped: Vec<String>,
    unexpected: Vec<String>,
    tensors: Vec<Tensor>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let model = crate::planning::fetching::fetch(&arguments.model)?;
    let (weights, expected) = models::inspect(&model)?;
    let comparison = weights.compare(&expected);
    let names = |tensors: &[glmeval_worker::weights::ExpectedTensor]| {
        tensors.iter().map(|tensor| format!("{} {:?}", tensor.name, tensor.shape)).collect()
    };
    let missing: Vec<String> = names(&comparison.missing);
    let mis_shaped: Vec<String> = comparison
        .mis_shaped
        .iter()
        .map(|(tensor, found)| {
            format!("{} expected {:?}, found {found:?}", tensor.name, tensor.shape)
        })
        .collect();
    if arguments.format != Format::Json {
        print_defects(&missing, &mis_shaped, &comparison.unexpected);
    }
    let tensors = weights.tensors().map(|(name, tensor)| Tensor {
        name: name.to_owned(),
        dtype: tensor.dtype().name(),
        shape: tensor.shape().to_vec(),
        file: tensor.file().display().to_string(),
    });
    let (facts, defect) = match models::describe(&model, &ModelOptions::default()) {
        Ok(facts) => (Some(facts), None),
        Err(error) => (None, Some(error)),
    };
    let inspection = Inspection {
        facts,
        missing,
        mis_shaped,
        unexpected: comparison.unexpected,
        tensors: tensors.collect(),
    };
    if arguments.format == Format::Json {
        say_json(&inspection)?;
    } else {
        print(&inspection, arguments);
    }
    defect.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn tokens_max(count: u64) -> String {
    if count == u64::MAX { "any number".to_owned() } else { count.to_string() }
}

fn print_defects(missing: &[String], mis_shaped: &[String], unexpected: &[String]) {
    for (what, lines) in
        [("missing", missing), ("mis-shaped", mis_shaped), ("unexpected", unexpected)]
    {
        for line in lines {
            say(&format!("{what}: {line}"));
        }
    }
}

fn print(inspection: &Inspection, arguments: &Arguments) {
    let Some(facts) = &inspection.facts else { return };
    let mut table = Table::new(&["property", "value"]);
    let rows = [
        ("architecture", facts.architecture.clone()),
        ("digest", facts.id.to_string()),
        ("parameters", facts.parameters.to_string()),
        ("layers", facts.layer_count.to_string()),
        ("width", facts.width.to_string()),
        ("tokens at most", tokens_max(facts.tokens_max)),
        ("tokens of 1,000 nt", facts.tokens(1000).to_string()),
        ("GFLOP per 1,000 tokens", format!("{:.1}", facts.flops(1000, facts.layer_count) / 1e9)),
        ("tensors", inspection.tensors.len().to_string()),
    ];
    for (property, value) in rows {
        table.row(vec![property.to_owned(), value]);
    }
    say(&table.text(arguments.format));
    if arguments.tensors {
        let mut table = Table::new(&["tensor", "dtype", "shape"]);
        for tensor in &inspection.tensors {
            let shape = format!("{:?}", tensor.shape);
            table.row(vec![tensor.name.clone(), tensor.dtype.to_owned(), shape]);
        }
        say("");
        say(&table.text(arguments.format));
    }
}
