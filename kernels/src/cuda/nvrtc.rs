//! From a source to a cubin: NVRTC, and a folder of what was compiled before.
//!
//! Leaves out: loading. Invariant: a file of the folder is whole or absent, and its name tells source, defines, target and
//! compiler.

pub mod sources;

use super::launch::Source;
use crate::error::{KernelError, Result};
use cudarc::nvrtc::{result, sys};
use sha2::{Digest, Sha256};
use std::ffi::CString;
use std::path::{Path, PathBuf};

const PRELUDE: &str = include_str!("device/prelude.cuh");
const COMMON: &str = include_str!("device/common.cuh");

/// A compiled source.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What the device loads.
    pub cubin: Vec<u8>,
    /// What the compiler says of registers and memory; empty if it was found compiled.
    pub log: String,
}

/// Whether NVRTC can be opened.
pub(super) fn check_present() -> Result<()> {
    // SAFETY: looks for the library and opens it.
    if unsafe { sys::is_culib_present() } {
        return Ok(());
    }
    Err(KernelError::NoDevice {
        device: "NVRTC".to_owned(),
        reason: "libnvrtc was not found; it comes with CUDA and with the Python package \
                 nvidia-cuda-nvrtc, whose folder LD_LIBRARY_PATH must name"
            .to_owned(),
    })
}

/// Its version, as "13.0".
pub(super) fn version() -> Result<String> {
    check_present()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are valid to write.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }.result().map_err(|error| {
        KernelError::NoDevice { device: "NVRTC".to_owned(), reason: format!("{error}") }
    })?;
    Ok(format!("{major}.{minor}"))
}

/// Compiles for a target such as "sm_90".
///
/// # Errors
/// `NoDevice` without NVRTC; `Compile` with its log.
pub fn compile(source: &Source, defines: &[(&str, i64)], target: &str) -> Result<Compiled> {
    check_present()?;
    let failed = |log: String| KernelError::Compile {
        source_name: format!("{}.cu", source.name),
        target: target.to_owned(),
        log,
    };
    let text = CString::new(text(source)).map_err(|error| failed(error.to_string()))?;
    let name =
        CString::new(format!("{}.cu", source.name)).map_err(|error| failed(error.to_string()))?;
    let program =
        result::create_program(&text, Some(&name)).map_err(|error| failed(error.to_string()))?;
    let compiled = compile_program(program, &options(defines, target));
    // SAFETY: the program was created above and is not used afterwards.
    let _ = unsafe { result::destroy_program(program) };
    compiled.map_err(failed)
}

fn text(source: &Source) -> String {
    format!("{PRELUDE}\n{COMMON}\n#line 1 \"{}.cu\"\n{}", source.name, source.text)
}

fn options(defines: &[(&str, i64)], target: &str) -> Vec<String> {
    let mut options = vec![
        format!("--gpu-architecture={target}"),
        "--std=c++17".to_owned(),
        "--ptxas-options=-v".to_owned(),
    ];
    options.extend(defines.iter().map(|(name, value)| format!("-D{name}={value}")));
    options
}

fn compile_program(program: sys::nvrtcProgram, options: &[String]) -> Result<Compiled, String> {
    // SAFETY: the caller created the program and destroys it later.
    let done = unsafe { result::compile_program(program, options) };
    // SAFETY: as above.
    let log = unsafe { result::get_program_log(program) }.map_err(|error| error.to_string())?;
    let log: Vec<u8> = log.iter().take_while(|&&letter| letter != 0).map(|&l| l as u8).collect();
    let log = String::from_utf8_lossy(&log).into_owned();
    if let Err(error) = done {
        return Err(format!("{error}: {log}"));
    }
    let mut size = 0;
    // SAFETY: the size is valid to write.
    unsafe { sys::nvrtcGetCUBINSize(program, &raw mut size) }
        .result()
        .map_err(|error| error.to_string())?;
    let mut cubin = vec![0_u8; size];
    // SAFETY: as many bytes as NVRTC said.
    unsafe { sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()) }
        .result()
        .map_err(|error| error.to_string())?;
    Ok(Compiled { cubin, log })
}

/// Compiles, or reads what was compiled before; a folder that cannot be written is done without.
pub(super) fn compile_cached(
    source: &Source,
    defines: &[(&str, i64)],
    target: &str,
    cache: Option<&Path>,
) -> Result<Compiled> {
    let Some(cache) = cache else { return compile(source, defines, target) };
    let path = place(source, defines, target, &version()?, cache);
    if let Ok(cubin) = std::fs::read(&path)
        && !cubin.is_empty()
    {
        return Ok(Compiled { cubin, log: String::new() });
    }
    let compiled = compile(source, defines, target)?;
    keep(&path, &compiled.cubin);
    Ok(compiled)
}

/// Where a compiled source lies.
fn place(
    source: &Source,
    defines: &[(&str, i64)],
    target: &str,
    version: &str,
    cache: &Path,
) -> PathBuf {
    let mut digest = Sha256::new();
    for part in [version.to_owned(), text(source), options(defines, target).join(" ")] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let digest: String =
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    cache.join(format!("{}-{target}-{digest}.cubin", source.name))
}

/// Writes beside and renames, so that no reader sees half a file.
pub(super) fn keep(path: &Path, bytes: &[u8]) {
    let Some(folder) = path.parent() else { return };
    let staging = path.with_extension(format!("{}.staging", std::process::id()));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&staging, bytes))
        .and_then(|()| std::fs::rename(&staging, path));
    if written.is_err() {
        // Without it the work is done again, which is only slower.
        drop(std::fs::remove_file(&staging));
    }
}
