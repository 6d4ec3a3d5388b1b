//! Arguments that name a gLM and say how it is opened.

use clap::{Args, ValueEnum};
use glmeval_common::error::{InputError, Result};
use glmeval_common::job::ModelSpec;
use glmeval_common::model::{Padding, Precision, SpecialTokens, UndefinedBase, UnknownLetters};
use glmeval_worker::device::{Device, DeviceChoice};
use std::path::PathBuf;

/// Number format of matrix products.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PrecisionName {
    /// IEEE single: the reference's numbers.
    F32,
    /// bfloat16 operands, f32 sums: several times as fast on CPUs with AMX.
    Bf16,
    /// f32 operands multiplied with 10 bits of fraction, f32 sums: on CUDA devices only.
    Tf32,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Self::F32,
            PrecisionName::Bf16 => Self::Bf16,
            PrecisionName::Tf32 => Self::Tf32,
        }
    }
}

/// What happens to letters outside the vocabulary.
#[derive(Clone, Copy, ValueEnum)]
enum UnknownName {
    /// An error that names letter and column.
    Refuse,
    /// Unknown tokens, as in the published tokenizer.
    Replace,
}

/// Special tokens around a sequence.
#[derive(Clone, Copy, ValueEnum)]
enum SpecialName {
    /// As published with this form of the checkpoint.
    Checkpoint,
    /// As the authors' first code (HyenaDNA: `[CLS]` … `[SEP]`).
    Original,
    /// As the Hugging Face port (HyenaDNA: … `[SEP]`).
    HuggingFace,
}

/// What `N` becomes.
#[derive(Clone, Copy, ValueEnum)]
enum UndefinedName {
    /// The unknown token, where there is one.
    Unknown,
    /// The padding token, as in the published study.
    Pad,
}

/// Where the gLM of a command that runs no units computes.
#[derive(Args)]
pub(crate) struct DeviceArguments {
    /// Where the gLM runs: cpu, cuda, cuda:N, or emulated (slow, for tests).
    #[arg(long, default_value = "cpu", requires = "model")]
    device: DeviceChoice,
}

impl DeviceArguments {
    /// Opens the device.
    ///
    /// # Errors
    /// As [`DeviceChoice::open`]; `Invalid` for several.
    pub(crate) fn open(&self) -> Result<Device> {
        if let DeviceChoice::Cuda(ordinals) = &self.device
            && ordinals.len() != 1
        {
            let found = format!("{} devices", ordinals.len());
            return Err(InputError::new("--device", "", "one device", found).into());
        }
        Ok(self.device.open()?.into_iter().next().unwrap_or_default())
    }
}

/// Whether padding is seen.
#[derive(Clone, Copy, ValueEnum)]
enum PaddingName {
    /// Padding is read like any other token, as in the published study.
    Attended,
    /// Padding is hidden by a mask; its states are zeros.
    Masked,
}

/// A gLM and how it is opened.
#[derive(Args)]
pub(crate) struct ModelArguments {
    /// Folder in Hugging Face layout, a published file (.ckpt, .pth, .h5), or `hf://org/name@revision`.
    #[arg(long)]
    model: PathBuf,
    /// Number format of matrix products [default: f32].
    #[arg(long, value_enum)]
    precision: Option<PrecisionName>,
    /// Letters outside the vocabulary [default: refuse].
    #[arg(long, value_enum)]
    unknown_letters: Option<UnknownName>,
    /// Special tokens, where a gLM was published with two habits [default: checkpoint].
    #[arg(long, value_enum)]
    special_tokens: Option<SpecialName>,
    /// What N becomes for GPN [default: unknown].
    #[arg(long, value_enum)]
    undefined_bases: Option<UndefinedName>,
    /// Pad every sequence to so many tokens.
    #[arg(long, value_name = "TOKENS")]
    pad_to: Option<u32>,
    /// Whether the gLM sees that padding [default: attended].
    #[arg(long, value_enum)]
    padding: Option<PaddingName>,
    /// Epsilon of every layer norm [default: the config's].
    #[arg(long, value_name = "EPS")]
    layer_norm_eps: Option<f64>,
}

impl ModelArguments {
    /// The `[[model]]` table these arguments stand for, named `model`.
    pub(crate) fn spec(&self) -> ModelSpec {
        ModelSpec {
            name: "model".to_owned(),
            path: self.model.clone(),
            layer_norm_eps: self.layer_norm_eps,
            unknown_letters: self.unknown_letters.map(|name| match name {
                UnknownName::Refuse => UnknownLetters::Refuse,
                UnknownName::Replace => UnknownLetters::Replace,
            }),
            special_tokens: self.special_tokens.map(|name| match name {
                SpecialName::Checkpoint => SpecialTokens::Checkpoint,
                SpecialName::Original => SpecialTokens::Original,
                SpecialName::HuggingFace => SpecialTokens::HuggingFace,
            }),
            undefined_bases: self.undefined_bases.map(|name| match name {
                UndefinedName::Unknown => UndefinedBase::Unknown,
                UndefinedName::Pad => UndefinedBase::Pad,
            }),
            pad_to: self.pad_to,
            padding: self.padding.map(|name| match name {
                PaddingName::Attended => Padding::Attended,
                PaddingName::Masked => Padding::Masked,
            }),
            precision: self.precision.map(Precision::from),
            ..ModelSpec::default()
        }
    }
}
