//! `glmeval`: what genomic language models know of gene regulation, on a laptop or a cluster.
//!
//! Leaves out: everything but parsing, wiring and printing. Invariant: data goes to stdout, progress
//! and logs to stderr; the exit code says what to do next.

use clap::{Parser, Subcommand};
use glmeval_common::error::Error;
use std::process::ExitCode;
use telemetry::LogFormat;

mod commands;
mod connecting;
mod discovery;
mod embedded;
mod exit;
mod full_disk;
mod host;
mod interruption;
mod memory;
mod model_arguments;
mod opening;
mod output;
mod planning;
mod progress;
mod report_folder;
mod sequences;
mod source_arguments;
mod stopping;
mod telemetry;
mod writing;

use commands::{
    attribute, bench, certs, completions, control, coordinator, doctor, embed, export, gia,
    inspect, logo, plan, report, run, scan_motifs, score_variants, store, worker,
};

const EXAMPLES: &str = "\
Examples:
  glmeval run examples/quickstart.toml
      A whole job in this process: read, embed, fit, report. Run again = resume.
  glmeval embed --model my-nt --fasta regions.fa --pool mean --out embeddings
      Embeddings of your own sequences, as safetensors.
  glmeval score-variants --model my-nt --genome hg38.fa --variants calls.vcf --out scores.tsv
      Zero-shot effects of variants.
  glmeval attribute --probe store/probes/FIT --model my-nt --tsv test.tsv:sequence --out maps
      Which nucleotides a trained network and a gLM rest on.
  glmeval plan job.toml
      What a job would do and cost; nothing is run.
  glmeval certs new certificates
  glmeval coordinator --listen 0.0.0.0:7070 --store s3://lab/glmeval --tls certificates
  glmeval worker --coordinator host:7070 --store s3://lab/glmeval --tls certificates
      The two halves of a cluster; any number of workers, any of which may vanish.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 finished with failed units, 42 do not start this again (a worker
that is refused, a coordinator that was replaced), 75 stopped with work left (replace me), 130 interrupted
(run again to resume).";

/// Embed DNA with genomic language models, probe the embeddings, report the scores.
#[derive(Parser)]
#[command(name = "glmeval", version, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    /// How log lines are written on stderr; RUST_LOG says which.
    #[arg(long, global = true, value_enum, default_value_t, env = "GLMEVAL_LOG_FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole job in this process: coordinator, workers and store embedded.
    Run(run::Arguments),
    /// Print units, shards, bytes, FLOPs and time of a job; run nothing.
    Plan(plan::Arguments),
    /// Embed sequences with a gLM into safetensors.
    Embed(Box<embed::Arguments>),
    /// Score variants by what a gLM makes of them, without training.
    ScoreVariants(Box<score_variants::Arguments>),
    /// Map which nucleotides a trained network or a gLM rests on.
    Attribute(Box<attribute::Arguments>),
    /// Ask a trained network what motifs add to its predictions, averaged over shuffled backgrounds.
    Gia(Box<gia::Arguments>),
    /// Find motifs in sequences, or at the peaks of their maps, and tell which are enriched there.
    ScanMotifs(Box<scan_motifs::Arguments>),
    /// Draw a motif, or the map of a sequence, as an SVG logo.
    Logo(logo::Arguments),
    /// Write score tables, figures and one HTML page of a job from the store.
    Report(report::Arguments),
    /// Copy an embedding set into one Parquet or npy file per tensor.
    Export(export::Arguments),
    /// Say what a gLM folder holds: architecture, tensors, tokenizer, digest.
    Inspect(inspect::Arguments),
    /// Measure how fast this machine embeds: sequences/s, GFLOP/s, share of its peak.
    Bench(bench::Arguments),
    /// Check this machine and a store: devices, kernels, create-only writes under a race.
    Doctor(doctor::Arguments),
    /// Serve jobs to workers over gRPC.
    Coordinator(coordinator::Arguments),
    /// Compute units for a coordinator, or a static share of a job without one.
    Worker(worker::Arguments),
    /// Hand a job to a coordinator.
    Submit(control::SubmitArguments),
    /// Show one job's progress, or the workers.
    #[command(
        after_help = "Examples:\n  glmeval status JOB --coordinator head:7070 --format json\n  \
        glmeval status --workers --coordinator head:7070"
    )]
    Status(control::StatusArguments),
    /// Follow one job until it ends.
    #[command(after_help = "Example:\n  glmeval watch JOB --coordinator head:7070")]
    Watch(control::JobArguments),
    /// Cancel a job.
    #[command(after_help = "Example:\n  glmeval cancel JOB --coordinator head:7070")]
    Cancel(control::JobArguments),
    /// List the jobs of a coordinator.
    #[command(after_help = "Example:\n  glmeval jobs --coordinator head:7070")]
    Jobs(control::JobsArguments),
    /// Ask a worker, or every worker of a host, to finish its unit and leave.
    #[command(after_help = "Example:\n  glmeval drain node17 --coordinator head:7070")]
    Drain(control::DrainArguments),
    /// Make certificates and tokens for a cluster.
    #[command(
        subcommand,
        after_help = "Examples:\n  glmeval certs new certificates\n  glmeval certs token token"
    )]
    Certs(certs::Command),
    /// Look after a store.
    #[command(subcommand)]
    Store(store::Command),
    /// Print a completion script for a shell.
    Completions(completions::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    memory::return_large_blocks();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Error::unavailable("start threads").with_source(error)),
    };
    let entered = runtime.enter();
    let flush = telemetry::logs::start(cli.log_format, cli.command.role());
    drop(entered);
    let code = match runtime.block_on(dispatch(cli.command)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    };
    drop(flush);
    code
}

impl Command {
    /// What traces call a process that runs it.
    fn role(&self) -> &'static str {
        match self {
            Self::Coordinator(_) => "coordinator",
            Self::Worker(_) => "worker",
            Self::Run(_) => "run",
            _ => "cli",
        }
    }
}

async fn dispatch(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Run(arguments) => run::run(arguments).await,
        Command::Plan(arguments) => plan::run(arguments),
        Command::Embed(arguments) => embed::run(*arguments).await,
        Command::ScoreVariants(arguments) => score_variants::run(*arguments).await,
        Command::Attribute(arguments) => attribute::run(*arguments).await,
        Command::Gia(arguments) => gia::run(*arguments).await,
        Command::ScanMotifs(arguments) => scan_motifs::run(*arguments).await,
        Command::Logo(arguments) => logo::run(&arguments),
        Command::Report(arguments) => report::run(arguments).await,
        Command::Export(arguments) => export::run(arguments).await,
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Doctor(arguments) => doctor::run(arguments).await,
        Command::Coordinator(arguments) => coordinator::run(arguments).await,
        Command::Worker(arguments) => worker::run(arguments).await,
        Command::Submit(arguments) => control::submit(arguments).await,
        Command::Status(arguments) => control::status(arguments).await,
        Command::Watch(arguments) => control::watch(arguments).await,
        Command::Cancel(arguments) => control::cancel(arguments).await,
        Command::Jobs(arguments) => control::jobs(arguments).await,
        Command::Drain(arguments) => control::drain(arguments).await,
        Command::Certs(command) => certs::run(command),
        Command::Store(command) => store::run(command).await,
        Command::Completions(arguments) => {
            use clap::CommandFactory;
            completions::run(&arguments, &mut Cli::command())
        }
    }
}

fn failed(error: &Error) -> ExitCode {
    output::complain(&format!("error: {}", error.chain()));
    ExitCode::from(error.kind().exit_code())
}
