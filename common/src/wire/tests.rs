use super::convert::{decode, encode, encode_named, from_status, report_in, report_out};
use crate::attribution::MapKind;
use crate::control::{Failure, FitFailure, LeaseKey, Outcome, Report};
use crate::dataset::{DatasetSource, Hdf5Layout, TaskName};
use crate::error::ErrorKind;
use crate::ids::{DatasetId, FitId, Generation, JobId, ModelId, SetId, WorkerId};
use crate::model::ModelOptions;
use crate::plan::{EntrySpec, PlanEntry};
use crate::representation::{FeatureSource, FullRows, Pooling, SequenceFeature};
use crate::score::FitIdentity;
use crate::unit::{
    AttributionSpec, ExtractUnit, Fit, FitUnit, MaskedModel, ModelRef, PrepareUnit, ProbeSpec,
    SetSpec, WorkUnit,
};
use proptest::prelude::*;

fn fit(probe: ProbeSpec, features: FeatureSource) -> FitUnit {
    let identity = FitIdentity {
        fit: FitId::new("f"),
        task: "eclip".into(),
        dataset: "D".into(),
        dataset_id: DatasetId::new("d"),
        model: None,
        model_id: None,
        layer: None,
        representation: "one-hot".into(),
        probe: probe.name().into(),
        factor: 1.0,
        fraction: 0.1,
        repeat: 0,
        seed: u64::MAX,
        protocol: "published".into(),
        trained_on: None,
    };
    let fits = vec![Fit { identity, probe }];
    FitUnit {
        dataset: DatasetId::new("d"),
        task: TaskName::Eclip,
        features,
        fits,
        validated_on: None,
        training_class: None,
    }
}

fn sources() -> [DatasetSource; 2] {
    let windows = DatasetSource::Windows {
        genome: "/g.fa".into(),
        window: 200,
        stride: 1,
        undefined_share_max: 0.5,
    };
    let keyed = DatasetSource::Hdf5 {
        path: "/x.h5".into(),
        layout: Hdf5Layout::Key("seqs".into()),
        length: Some(7),
    };
    [windows, keyed]
}

fn units() -> Vec<WorkUnit> {
    let set = SetSpec {
        id: SetId::new("s"),
        model: ModelRef {
            id: ModelId::new("m"),
            name: "NT".into(),
            source: "/nt".into(),
            options: ModelOptions::default(),
        },
        dataset: DatasetId::new("d"),
        layers: vec![0, 24],
        poolings: Pooling::ALL.to_vec(),
        dtype: crate::representation::StoredDtype::Bf16,
        options: Default::default(),
        numeric_class: "f32.cpu.1".into(),
        effects: None,
    };
    let [windows, keyed] = sources();
    let embedding =
        FeatureSource::Embedding { set: SetId::new("s"), layer: 3, pooling: Pooling::Cls };
    let logistic = ProbeSpec::Logistic { c: 0.1, iterations_max: 100 };
    let one_hot = FeatureSource::Sequence(SequenceFeature::OneHot);
    let maps = |masked: Option<MaskedModel>| {
        ProbeSpec::Attribution(Box::new(AttributionSpec {
            explained: vec![FitId::new("a"), FitId::new("b")],
            of_states: Vec::new(),
            masked,
            top: 500,
            kinds: MapKind::ALL.to_vec(),
            logos: 3,
            state_rows: vec![FullRows::Nucleotides],
        }))
    };
    // A field of the options that is left out stands before others.
    let masked = MaskedModel { model: set.model.clone(), numeric_class: "f32.cpu.1".into() };
    vec![
        WorkUnit::Fit(fit(maps(None), one_hot.clone())),
        WorkUnit::Fit(fit(maps(Some(masked)), one_hot)),
        WorkUnit::Prepare(PrepareUnit {
            dataset: DatasetId::new("d"),
            name: "D".into(),
            source: keyed,
            task: TaskName::ChipSeq,
            rows: 9,
        }),
        WorkUnit::Extract(ExtractUnit {
            set,
            lazy_source: Some(windows),
            task: TaskName::None,
            start: 1,
            end: u64::MAX,
        }),
        WorkUnit::Fit(fit(logistic, FeatureSource::Sequence(SequenceFeature::kmer(5)))),
        WorkUnit::Fit(FitUnit {
            validated_on: Some(Pooling::AfterCls),
            ..fit(ProbeSpec::LeastSquares, embedding.clone())
        }),
        // A field that is left out of records stands before it.
        WorkUnit::Fit(FitUnit {
            training_class: Some("f32.cuda-sm90.1".into()),
            ..fit(ProbeSpec::LeastSquares, embedding)
        }),
        WorkUnit::Fit(fit(
            ProbeSpec::Ridge { alpha: 1e-3 },
            FeatureSource::Sequence(SequenceFeature::OneHot),
        )),
    ]
}

#[test]
fn every_kind_of_unit_returns_from_the_wire() {
    for unit in units() {
        let bytes = encode_named(&unit).unwrap();
        assert_eq!(decode::<WorkUnit>("unit", &bytes).unwrap(), unit);
    }
}

#[test]
fn entries_of_a_plan_return_from_the_short_form() {
    let specs = units().into_iter().map(|unit| match unit {
        WorkUnit::Fit(fit) => EntrySpec::Fit(Box::new(fit)),
        WorkUnit::Extract(unit) => {
            EntrySpec::Extract { set: 1, dataset: 2, start: unit.start, end: unit.end }
        }
        _ => EntrySpec::Prepare { dataset: 3 },
    });
    let run = EntrySpec::Shards { set: 1, dataset: 2, start: 3, end: 9, rows_per_unit: 2 };
    for spec in specs.chain([EntrySpec::Report, run]) {
        let entry = PlanEntry { spec, prerequisites: vec![(0, 7)], flops: 1e15, bytes: 1 };
        let bytes = encode(&entry).unwrap();
        assert_eq!(decode::<PlanEntry>("entry", &bytes).unwrap(), entry);
    }
}

#[test]
fn maps_planned_before_rows_were_told_are_read() {
    /// [`AttributionSpec`] as it was.
    #[derive(serde::Serialize)]
    struct Older {
        explained: Vec<FitId>,
        of_states: Vec<FitId>,
        masked: Option<MaskedModel>,
        top: u32,
        kinds: Vec<MapKind>,
        logos: u32,
    }
    let older = Older {
        explained: vec![FitId::new("a")],
        of_states: vec![FitId::new("b")],
        masked: None,
        top: 5,
        kinds: MapKind::ALL.to_vec(),
        logos: 3,
    };
    let positional: AttributionSpec = decode("maps", &encode(&older).unwrap()).unwrap();
    let named: AttributionSpec = decode("maps", &encode_named(&older).unwrap()).unwrap();
    assert_eq!(positional, named);
    assert_eq!((positional.logos, positional.state_rows), (3, Vec::new()));
}

#[test]
fn every_kind_of_failure_returns_from_the_wire() {
    for kind in [ErrorKind::Invalid, ErrorKind::Unavailable, ErrorKind::Corrupt, ErrorKind::Bug] {
        let lease = LeaseKey { job: JobId::new("j"), unit: 3, generation: Generation::default() };
        let of_all_rows = kind == ErrorKind::Invalid;
        let fits = ["ridge on x; of D", ""].map(|label| FitFailure {
            fit: FitId::new("f"),
            label: label.into(),
            reason: "no targets".into(),
        });
        let (chain, fits) = ("shard: sha256".into(), fits.to_vec());
        let outcome = Outcome::Failed(Failure { kind, chain, of_all_rows, fits });
        let worker = WorkerId::new("w");
        let report = Report { worker, lease, outcome, seconds: 1.5, device_seconds: 1.0 };
        assert_eq!(report_in(report_out(&report)).unwrap(), report);
    }
}

#[test]
fn a_unit_comes_back_with_the_reason_of_an_unfit_worker_or_without_one() {
    let lease = LeaseKey { job: JobId::new("j"), unit: 3, generation: Generation::default() };
    for outcome in [Outcome::HandedBack, Outcome::Unfit { chain: "store: read-only".into() }] {
        let (worker, lease) = (WorkerId::new("w"), lease.clone());
        let report = Report { worker, lease, outcome, seconds: 1.5, device_seconds: 1.0 };
        assert_eq!(report_in(report_out(&report)).unwrap(), report);
    }
}

/// A connection that broke in the middle of a call, as HTTP/2 tells it.
#[derive(Debug)]
struct Broken(tonic::Status);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn a_broken_connection_is_an_absent_coordinator_and_an_answer_is_an_answer() {
    let said = tonic::Status::internal("h2 protocol error");
    assert_eq!(from_status(&said).kind(), ErrorKind::Bug);
    let broken = tonic::Status::from_error(Box::new(Broken(said)));
    assert_eq!(broken.code(), tonic::Code::Internal);
    assert_eq!(from_status(&broken).kind(), ErrorKind::Unavailable);
}

proptest! {
    #[test]
    fn damaged_units_are_refused_or_read_but_never_panic(
        which in 0_usize..5, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let mut bytes = encode_named(&units()[which]).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let _ = decode::<WorkUnit>("unit", &bytes);
    }
}
