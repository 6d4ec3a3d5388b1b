//! The subcommands: one file each.

pub(crate) mod attribute;
pub(crate) mod bench;
pub(crate) mod certs;
pub(crate) mod completions;
pub(crate) mod control;
pub(crate) mod coordinator;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod export;
pub(crate) mod gia;
pub(crate) mod inspect;
pub(crate) mod logo;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod scan_motifs;
pub(crate) mod score_variants;
pub(crate) mod store;
pub(crate) mod worker;
