//! `glmeval embed`: ad hoc embeddings of one source by one gLM.

use crate::commands::control::{self, complain_of_failures};
use crate::connecting::TrustArguments;
use crate::embedded::{self, Embedding};
use crate::model_arguments::ModelArguments;
use crate::output::{complain, say};
use crate::planning::plan_job;
use crate::source_arguments::SourceArguments;
use clap::{Args, ValueEnum};
use glmeval_common::control::JobPhase;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::job::{Job, JobSpec, LayerChoice, RepresentationSpec};
use glmeval_common::representation::{FullRows, MeanOver, Pooling, StoredDtype, Strands};
use glmeval_common::store::Store;
use std::process::ExitCode;

/// How token states become rows.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pool {
    /// Token 0.
    Cls,
    /// Mean over tokens, by the model's published habit.
    Mean,
    /// Every token.
    Full,
}

/// Number format on disk.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Dtype {
    /// IEEE single.
    #[default]
    F32,
    /// IEEE half; an error where a value does not fit.
    F16,
    /// bfloat16; numpy cannot read it.
    Bf16,
}

/// Tokens that a mean is over.
#[derive(Clone, Copy, ValueEnum)]
enum MeanTokens {
    /// As in the published study (NT: all but CLS).
    Published,
    /// Tokens that stand for nucleotides.
    Nucleotides,
    /// Every token.
    All,
}

impl From<MeanTokens> for MeanOver {
    fn from(tokens: MeanTokens) -> Self {
        match tokens {
            MeanTokens::Published => Self::Published,
            MeanTokens::Nucleotides => Self::Nucleotides,
            MeanTokens::All => Self::All,
        }
    }
}

/// Arguments of `embed`.
#[derive(Args)]
#[command(after_help = "Examples:
  glmeval embed --model my-nt --fasta regions.fa --pool mean --out embeddings
  glmeval embed --model my-nt --bed peaks.bed --genome hg38.fa --window 200 --out embeddings
  glmeval embed --model my-nt --genome hg38.fa --window 1000 --stride 500 --dtype f16 --out s3://lab/hg38
  glmeval embed --model my-nt --tsv oligos.tsv:sequence --layer 10 --layer 12 --pool full --out embeddings

Run again = resume. Read a shard with safetensors.numpy.load_file, or see `glmeval export`.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    source: SourceArguments,
    /// Layers: 1 is the first block's output, 0 its input; repeat for more [default: last].
    #[arg(long = "layer", value_name = "LAYER")]
    layers: Vec<u32>,
    /// Poolings; repeat for more.
    #[arg(long = "pool", value_enum, default_value = "mean")]
    pools: Vec<Pool>,
    /// Number format on disk.
    #[arg(long, value_enum, default_value_t)]
    dtype: Dtype,
    /// Average with the representation of the reverse complement.
    #[arg(long)]
    both_strands: bool,
    /// Tokens of --pool mean [default: published].
    #[arg(long, value_enum)]
    mean_over: Option<MeanTokens>,
    /// With --pool full: one row for each nucleotide instead of each token.
    #[arg(long)]
    per_nucleotide: bool,
    /// Examples per shard [default: sized by time].
    #[arg(long)]
    shard_rows: Option<u64>,
    /// Compute on a cluster: address of its coordinator.
    #[arg(long, value_name = "HOST:PORT")]
    coordinator: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
    /// Folder or URL to write to; with --coordinator the cluster's store.
    #[arg(long, value_name = "URL")]
    out: String,
    #[command(flatten)]
    machine: embedded::MachineArguments,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    check(&arguments)?;
    arguments.machine.start_threads()?;
    let job = job(&arguments)?;
    // A cluster's workers have their own devices; only the kind of them matters here.
    let devices = match &arguments.coordinator {
        Some(_) => Vec::new(),
        None => arguments.machine.open_devices()?,
    };
    let kind = match &arguments.coordinator {
        Some(_) => arguments.machine.device_kind()?,
        None => embedded::kind(&devices),
    };
    let planned = tokio::task::block_in_place(|| plan_job(job, &kind))?;
    let Embedding { set, rows } = Embedding::of(&planned.plan)?;
    let (phase, code) = match &arguments.coordinator {
        Some(address) => {
            let status = control::submit_and_follow(address, &arguments.trust, &planned).await?;
            (status.phase, ExitCode::from(status.phase.exit_code()))
        }
        None => {
            let store = Store::open(&arguments.out)?;
            let finished = embedded::run(&store, &planned, (&arguments.machine, devices)).await?;
            complain_of_failures(&finished.status);
            (finished.status.phase, embedded::exit_code(&finished))
        }
    };
    if phase == JobPhase::Finished {
        let lazy = planned.plan.datasets.iter().any(|dataset| dataset.source.is_lazy());
        let what = if lazy { "windows looked at" } else { "examples embedded" };
        complain(&format!("{rows} {what}"));
        say(&format!("{}/embeddings/{set}", arguments.out.trim_end_matches('/')));
    }
    Ok(code)
}

/// Refuses options that would change nothing.
fn check(arguments: &Arguments) -> Result<()> {
    let pools = &arguments.pools;
    let idle = if arguments.per_nucleotide && !pools.contains(&Pool::Full) {
        Some(("--per-nucleotide", "--pool full"))
    } else if arguments.mean_over.is_some() && !pools.contains(&Pool::Mean) {
        Some(("--mean-over", "--pool mean"))
    } else if arguments.coordinator.is_none() {
        arguments.trust.given().map(|flag| (flag, "--coordinator"))
    } else {
        None
    };
    let Some((flag, other)) = idle else { return Ok(()) };
    let expected = format!("{other} beside it");
    Err(InputError::new("command line", flag, expected, format!("no {other}")).into())
}

/// The job file that these arguments stand for.
fn job(arguments: &Arguments) -> Result<Job> {
    let layers =
        (!arguments.layers.is_empty()).then(|| LayerChoice::List(arguments.layers.clone()));
    let spec = JobSpec {
        name: "embed".to_owned(),
        seed: 0,
        protocol: glmeval_common::job::Protocol::default(),
        precision: None,
        shard_rows: arguments.shard_rows,
        models: vec![arguments.model.spec()],
        datasets: vec![arguments.source.spec(None)],
        representations: vec![RepresentationSpec {
            model: Some("model".to_owned()),
            layers,
            pooling: Some(arguments.pools.iter().map(|&pool| pooling(pool)).collect()),
            dtype: Some(match arguments.dtype {
                Dtype::F32 => StoredDtype::F32,
                Dtype::F16 => StoredDtype::F16,
                Dtype::Bf16 => StoredDtype::Bf16,
            }),
            strands: arguments.both_strands.then_some(Strands::Averaged),
            mean_over: arguments.mean_over.map(MeanOver::from),
            full_rows: arguments.per_nucleotide.then_some(FullRows::Nucleotides),
            ..RepresentationSpec::default()
        }],
        probes: Vec::new(),
        cost: None,
        schedule: None,
        attributions: Vec::new(),
    };
    let folder = std::env::current_dir()
        .map_err(|e| Error::unavailable("find the current folder").with_source(e))?;
    Job::from_spec(spec, "command line", &folder)
}

fn pooling(pool: Pool) -> Pooling {
    match pool {
        Pool::Cls => Pooling::Cls,
        Pool::Mean => Pooling::Mean,
        Pool::Full => Pooling::Full,
    }
}
