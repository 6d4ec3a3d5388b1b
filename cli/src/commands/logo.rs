//! `glmeval logo`: a motif, or the map of a sequence, as letters in an SVG file.

use crate::output::complain;
use crate::sequences::SequenceArguments;
use crate::writing;
use clap::{ArgGroup, Args};
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::readers::motifs;
use glmeval_worker::importance::read_maps;
use glmeval_worker::logo::{attribution_logo, information_logo};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `logo`.
#[derive(Args)]
#[command(group(ArgGroup::new("drawn").required(true).args(["motifs", "maps"])))]
#[command(mut_group("sequences", |group| group.required(false)))]
#[command(after_help = "Examples:
  glmeval logo --motifs JASPAR.meme.gz --id MA0139.1 --out ctcf.svg
      Letters of height probability times information, in bits.
  glmeval logo --maps maps.safetensors --maps-name saliency --fasta top.fa --record seq384 --out map.svg
      The base at each place as high as the map's value there; negative values hang upside down.

Letters are paths: no font is needed. Colours are told apart with any colour vision, light and dark.")]
pub(crate) struct Arguments {
    /// MEME or JASPAR file, plain or gzip.
    #[arg(long, value_name = "FILE")]
    motifs: Option<PathBuf>,
    /// Identifier or name of the motif [default: the first].
    #[arg(long, requires = "motifs")]
    id: Option<String>,
    /// Maps of the sequences, safetensors [sequences, length], found by id where the file has ids.
    #[arg(long, value_name = "FILE", requires = "sequences")]
    maps: Option<PathBuf>,
    /// Tensor of --maps [default: the only one].
    #[arg(long, value_name = "NAME", requires = "maps")]
    maps_name: Option<String>,
    #[command(flatten)]
    sequences: SequenceArguments,
    /// Id of the sequence [default: the first].
    #[arg(long, value_name = "ID", requires = "maps")]
    record: Option<String>,
    /// The file to write.
    #[arg(long, value_name = "SVG")]
    out: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let drawn = [("--motifs", &arguments.motifs), ("--maps", &arguments.maps)];
    let drawn = drawn.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?)));
    let inputs: Vec<_> = drawn.chain(arguments.sequences.file()).collect();
    writing::check_outputs(&[("--out", &arguments.out)], &inputs)?;
    let logo = match (&arguments.motifs, &arguments.maps) {
        (Some(path), _) => {
            let set = motifs::read(path)?;
            let is_it = |motif: &&motifs::Motif| match &arguments.id {
                Some(id) => motif.id == *id || motif.name.as_ref() == Some(id),
                None => true,
            };
            let motif = set.motifs.iter().find(is_it).ok_or_else(|| {
                let id = arguments.id.as_deref().unwrap_or_default();
                let found = format!("none among {} motifs", set.motifs.len());
                Error::from(InputError::new(path.display(), "", format!("motif {id}"), found))
            })?;
            information_logo(motif)
        }
        (None, Some(path)) => {
            let all = arguments.sequences.read()?;
            let (place, sequence) = all.pick(arguments.record.as_deref())?;
            let maps = read_maps(path, arguments.maps_name.as_deref(), &all.ids)?;
            let id = all.ids.get(place).map_or("", String::as_str);
            attribution_logo(sequence, maps.of((place, id), sequence.len())?, id)?
        }
        (None, None) => return Err(Error::bug("neither --motifs nor --maps")),
    };
    writing::text(&arguments.out, &logo)?;
    complain(&format!("1 logo: {}", arguments.out.display()));
    Ok(ExitCode::SUCCESS)
}
