use super::*;
use crate::job::{Job, NetworkChoice, NetworkKind, ProbeChoice};
use crate::network::Architecture;
use std::path::Path;

#[test]
fn a_name_stands_for_its_network_in_plans_and_jobs() {
    for network in ALL {
        let architecture = Architecture::Named(network);
        let text = serde_json::to_string(&architecture).unwrap();
        assert_eq!(text, format!("\"{}\"", network.name));
        assert_eq!(serde_json::from_str::<Architecture>(&text).unwrap(), architecture);
        let packed = rmp_serde::to_vec(&architecture).unwrap();
        assert_eq!(rmp_serde::from_slice::<Architecture>(&packed).unwrap(), architecture);
    }
    let error = serde_json::from_str::<Architecture>("\"no-such\"").unwrap_err();
    assert!(!error.to_string().is_empty());
}

/// The example is one file and two lines, and a job can ask for it.
#[test]
fn a_network_of_ones_own_is_known_to_jobs_by_its_name() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/inoue2017_hepg2.tsv.gz");
    let text = format!(
        "name = \"a\"\n[[dataset]]\nname = \"d\"\ntask = \"lenti-mpra\"\ntable = {file:?}\n\
         columns = {{ sequence = \"seq\", targets = [\"log2_ratio\"] }}\n\
         [[representation]]\none_hot = true\n[[probe]]\nkind = \"tiny-cnn\"\n"
    );
    let job = Job::parse(&text, "job.toml", Path::new("/")).unwrap();
    let expected = NetworkChoice::of(NetworkKind::Named(&tiny_cnn::NETWORK));
    assert_eq!(job.probes[0].choice, ProbeChoice::Network(expected));
    let extents = [Extent::Sequence { length: 171, channels: 4 }];
    let network = Architecture::Named(&tiny_cnn::NETWORK).network(&extents, 2).unwrap();
    assert_eq!(network.resolve(&extents).unwrap().output(), Extent::Vector { channels: 2 });
}
