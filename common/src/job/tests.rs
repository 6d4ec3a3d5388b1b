use super::*;
use crate::network::{
    Architecture, ChipFront, Draws, ExampleOrder, Extent, Loss, Monitor, NetworkSpec, Restore,
    TrainingSpec,
};
use crate::representation::{SequenceFeature, UndefinedInKmers};
use published::{ProbeInput, published_training};

/// A job over one data set of `task`, whose file is any that exists.
fn parse(task: &str, tables: &str) -> Result<Job> {
    let text = format!(
        "name = \"a\"\n[[dataset]]\nname = \"D\"\ntask = \"{task}\"\nfasta = \"Cargo.toml\"\n\
         [[representation]]\none_hot = true\n{tables}"
    );
    Job::parse(&text, "job.toml", Path::new(env!("CARGO_MANIFEST_DIR")))
}

fn probe(task: &str, keys: &str) -> JobProbe {
    let job = parse(task, &format!("[[probe]]\n{keys}"));
    job.map_err(|e| e.chain()).unwrap().probes.remove(0)
}

fn refused(task: &str, keys: &str) -> String {
    parse(task, &format!("[[probe]]\n{keys}")).unwrap_err().chain()
}

#[test]
fn a_network_by_its_name_leaves_everything_to_the_protocol() {
    for name in NetworkChoice::names() {
        let kind = NetworkChoice::find(name).unwrap();
        let task = match name {
            "splicing-cnn" => "splicing",
            _ => "chip-seq",
        };
        let probe = probe(task, &format!("kind = \"{name}\"\n"));
        assert_eq!(probe.choice, ProbeChoice::Network(NetworkChoice::of(kind)));
        assert_eq!(probe.training, TrainingChanges::default());
        assert_eq!((probe.factors, probe.fractions, probe.repeats), (vec![1.0], None, None));
        assert_eq!(probe.dataset_indices, [0], "{name}");
    }
}

#[test]
fn every_key_of_training_is_applied() {
    let keys = "kind = \"rep-cnn\"\nfactors = [0.5, 2]\nfractions = [0.1, 1]\nrepeats = 3\n\
        reduce = 64\nloss = \"binary-cross-entropy-of-logits\"\nlearning_rate = 0.01\n\
        learning_rate_min = 0.001\nbatch = 32\nepochs = 7\norder = \"buffered\"\nbuffer = 9\n\
        monitor = \"aupr\"\npatience = 2\nplateau_patience = 1\nplateau_factor = 0.5\n\
        restore = \"always\"\ndraws = \"shared\"\nprecision = \"bf16\"\n";
    let probe = probe("chip-seq", keys);
    assert_eq!((probe.factors, probe.repeats), (vec![0.5, 2.0], Some(3)));
    assert_eq!(probe.fractions, Some(vec![0.1, 1.0]));
    let ProbeChoice::Network(choice) = &probe.choice else { panic!("a network") };
    let architecture = choice.architecture(ProbeInput::OneHot, 2.0, Protocol::Published);
    assert_eq!(architecture, Architecture::RepCnn { factor: 2.0, reduce: 64 });
    let study = published_training(
        TaskName::ChipSeq,
        ProbeInput::OneHot,
        &architecture,
        Protocol::Published,
    );
    let found: TrainingSpec = probe.training.apply(study.clone());
    assert_eq!(found.loss, Loss::BinaryCrossEntropyOfLogits);
    assert_eq!((found.learning_rate, found.batch_rows, found.epochs_max), (0.01, 32, 7));
    assert_eq!(found.order, ExampleOrder::Buffered { rows: 9 });
    assert_eq!((found.monitor, found.stop_patience), (Monitor::Aupr, Some(2)));
    assert_eq!((found.restore, found.draws), (Restore::Always, Draws::Shared));
    assert_eq!(found.precision, Precision::Bf16);
    let plateau = found.plateau.unwrap();
    assert_eq!((plateau.patience, plateau.factor, plateau.learning_rate_min), (1, 0.5, 0.001));
    let said = found.difference(&study);
    for part in
        ["learning rate 0.01", "batch 32", "7 epochs", "buffer of 9", "bf16", "shared draws"]
    {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn stopping_and_lowering_can_be_switched_off() {
    let keys = "kind = \"rep-mlp\"\nearly_stopping = false\nplateau = false\n";
    let training = probe("lenti-mpra", keys).training;
    let study = published_training(
        TaskName::LentiMpra,
        ProbeInput::Pooled,
        &Architecture::RepMlp { factor: 1.0 },
        Protocol::Published,
    );
    let found = training.apply(study);
    assert_eq!((found.stop_patience, found.plateau), (None, None));
}

#[test]
fn keys_of_other_kinds_are_refused() {
    let cases = [
        ("ridge", "batch = 3", "batch on a ridge probe"),
        ("ridge", "repeats = 2", "repeats on a ridge probe"),
        ("rep-cnn", "alpha = 1", "alpha on a rep-cnn probe"),
        ("resnet", "factors = [2]", "factors on a resnet probe"),
        ("resnet", "reduce = 2", "reduce on a resnet probe"),
        ("rep-mlp", "front = \"raw\"", "front on a rep-mlp probe"),
        ("rep-mlp", "layers = []", "layers on a rep-mlp probe"),
        ("rep-mlp", "buffer = 2", "whose order is not buffered"),
        ("rep-mlp", "early_stopping = false\npatience = 2", "without early stopping"),
        ("rep-mlp", "plateau = false\nplateau_factor = 0.5", "without plateau"),
        ("published", "loss = \"mean-squared-error\"", "loss on a published probe"),
    ];
    for (kind, keys, expected) in cases {
        let error = refused("lenti-mpra", &format!("kind = \"{kind}\"\n{keys}\n"));
        assert!(error.contains("no such key") && error.contains(expected), "{error}");
    }
    assert_eq!(probe("eclip", "kind = \"ridge\"\nfractions = [0.5]").fractions, Some(vec![0.5]));
    let error = refused("lenti-mpra", "kind = \"rep-cnn\"\nlearning_rat = 1\n");
    assert!(error.contains("learning_rate") && error.contains("line"), "{error}");
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    let cases = [
        ("factors = [0]", "above 0, at most 64"),
        ("factors = [1, 1]", "different numbers"),
        ("fractions = [1.5]", "above 0, at most 1"),
        ("fractions = []", "different numbers"),
        ("repeats = 0", "1 to 10000"),
        ("learning_rate = -1", "a positive number"),
        ("batch = 0", "1 to 1048576 examples"),
        ("epochs = 0", "at least 1"),
        ("plateau_factor = 1", "below 1"),
        ("reduce = 0", "1 to 65536 channels"),
        ("representations = [\"token\"]", "one-hot, kmer, nucleotides, cls, mean, full"),
    ];
    for (keys, expected) in cases {
        let error = refused("lenti-mpra", &format!("kind = \"rep-cnn\"\n{keys}\n"));
        assert!(error.contains("probe[0].") && error.contains(expected), "{error}");
    }
    let error = refused("eclip", "kind = \"logistic\"\niterations_max = 0\n");
    assert!(error.contains("probe[0].iterations_max: expected at least 1, found 0"), "{error}");
}

#[test]
fn probes_are_fitted_on_tasks_they_suit() {
    for (kind, task) in
        [("chip-cnn", "lenti-mpra"), ("splicing-cnn", "eclip"), ("resnet", "splicing")]
    {
        let keys = format!("kind = \"{kind}\"\n");
        assert!(probe(task, &keys).dataset_indices.is_empty(), "{kind} on {task}");
        let error = refused(task, &format!("{keys}datasets = [\"D\"]\n"));
        assert!(error.contains(&format!("of task {task}")), "{error}");
    }
    let error = refused("eclip", "kind = \"cnn\"\n");
    assert!(error.contains("rep-cnn, rep-mlp") && error.contains("published"), "{error}");
    assert_eq!(
        probe("eclip", "kind = \"chip-cnn\"\nfront = \"normalised\"\n").choice,
        ProbeChoice::Network(NetworkChoice {
            kind: NetworkKind::ChipCnn,
            reduce: None,
            front: Some(ChipFront::Normalised)
        })
    );
}

const OWN: &str = r#"kind = "network"
name = "mine"
layers = [
  { kind = "conv1d", filters = 8, kernel = 5, activation = "relu" },
  { kind = "batch-norm" },
  { kind = "conv1d", name = "wide", filters = 8, kernel = 5, dilation = 2, initializer = "normal" },
  { kind = "add", inputs = ["batch-norm1", "wide"] },
  { kind = "global-average-pool" },
  { kind = "dense", units = 1 },
]
"#;

fn own(keys: &str) -> NetworkSpec {
    match probe("regression", keys).choice {
        ProbeChoice::Network(NetworkChoice { kind: NetworkKind::Own { network, .. }, .. }) => {
            network
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_users_own_network_is_named_and_joined_as_written() {
    let network = own(OWN);
    let names: Vec<_> = network.layers.iter().map(|layer| layer.name.as_str()).collect();
    let expected = ["conv1d1", "batch-norm1", "wide", "add1", "global-average-pool1", "dense1"];
    assert_eq!(names, expected);
    let resolved = network.resolve(&[Extent::Sequence { length: 20, channels: 4 }]).unwrap();
    assert_eq!(resolved.parameters(), (5 * 4 * 8 + 8) + 4 * 8 + (5 * 8 * 8 + 8) + 9);
    let spline = "kind = \"network\"\nlayers = [{ kind = \"spline-weights\" }]\n";
    assert_eq!(own(spline).layers[0].inputs, ["sequence"]);
}

#[test]
fn layers_that_say_too_little_or_too_much_are_refused() {
    let cases = [
        ("{ kind = \"conv2d\" }", "layers[0].kind: expected conv1d, depthwise-conv1d"),
        ("{ kind = \"conv1d\", filters = 2 }", "layers[0].kernel: expected a value for conv1d"),
        ("{ kind = \"dense\", units = 2, kernel = 3 }", "kernel on a dense layer"),
        ("{ kind = \"flatten\", size = 3 }", "no key but kind, name and inputs"),
        (
            "{ kind = \"dense\", units = 2, deviation = 1.0 }",
            "layers[0].deviation: expected no such",
        ),
        ("{ kind = \"dense\", units = 2, initializer = \"he\" }", "he-uniform"),
        ("", "1 to 1000 layers"),
    ];
    for (layer, expected) in cases {
        let error = refused("regression", &format!("kind = \"network\"\nlayers = [{layer}]\n"));
        assert!(error.contains(expected), "{error}");
    }
    let twice = format!("{OWN}[[probe]]\n{OWN}");
    assert!(refused("regression", &twice).contains("probe[1].name"));
    for kind in ["resnet", "ridge", "Logistic", "least-squares", "linear", "network", "published"] {
        let taken = OWN.replace("mine", kind);
        assert!(refused("regression", &taken).contains("no kind of probe has"), "{kind}");
    }
    let applied = OWN.replace("mine", "variant-effect");
    assert!(refused("regression", &applied).contains("found \"variant-effect\""));
    own(&OWN.replace("name = \"mine\"\n", ""));
    let left = "kind = \"network\"\ninputs = [\"left\"]\nlayers = [{ kind = \"flatten\" }]\n";
    assert!(refused("regression", left).contains("[\"left\", \"right\"] for splicing"));
}

#[test]
fn composition_follows_the_protocol() {
    let tables = "[[representation]]\nkmer = 2\n[[representation]]\nkmer = 3\n\
        [[representation]]\nnucleotides = true\n";
    let features = parse("eclip", tables).unwrap().features;
    let read_as_a = UndefinedInKmers::ReadAsA;
    let expected = [
        SequenceFeature::OneHot,
        SequenceFeature::Kmer { k: 2, undefined: read_as_a },
        SequenceFeature::kmer(3),
        SequenceFeature::Nucleotides,
    ];
    assert_eq!(features, expected.map(JobFeature::from));
    let both = "[[representation]]\nkmer = 2\nnucleotides = true\n";
    assert!(parse("eclip", both).unwrap_err().chain().contains("more than one"));
}

#[test]
fn every_example_of_the_repository_is_a_job() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let jobs: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(jobs.len() >= 5, "{jobs:?}");
    for path in jobs {
        // What the archive has is not known here; one set of each task, which examples may name, stands for all.
        let set = |task| match task {
            TaskName::ChipSeq => "CTCF",
            TaskName::Eclip => "TIA1",
            other => other.name(),
        };
        let sets = |task: TaskName| vec![set(task).to_owned()];
        Job::read_with(&path, &sets).map_err(|e| e.chain()).unwrap();
    }
}

/// The data set of a job whose table has `keys`.
fn dataset(keys: &str) -> Result<crate::dataset::DatasetSource, String> {
    let text = format!(
        "name = \"a\"\n[[dataset]]\nname = \"D\"\n{keys}\n[[representation]]\none_hot = true\n"
    );
    let job = Job::parse(&text, "job.toml", Path::new(env!("CARGO_MANIFEST_DIR")));
    job.map(|mut job| job.datasets.remove(0).source).map_err(|e| e.chain())
}

#[test]
fn a_split_rule_wraps_its_source_and_no_source_changes_without_one() {
    let table = "task = \"regression\"\ntable = \"Cargo.toml\"\n\
        columns = { sequence = \"s\", targets = [\"y\"] }\n";
    let plain = dataset(table).unwrap();
    let text = serde_json::to_string(&plain).unwrap();
    assert!(!text.contains("missing") && !text.contains("divided"), "{text}");
    let ruled = dataset(&format!("{table}split = {{ fractions = [0.8, 0.1, 0.1] }}\n")).unwrap();
    let DatasetSource::Divided { source, .. } = &ruled else { panic!("{ruled:?}") };
    assert_eq!(**source, plain);
    let bytes = rmp_serde::to_vec(&ruled).unwrap();
    assert_eq!(rmp_serde::from_slice::<DatasetSource>(&bytes).unwrap(), ruled);
    let bytes = rmp_serde::to_vec(&plain).unwrap();
    assert_eq!(rmp_serde::from_slice::<DatasetSource>(&bytes).unwrap(), plain);
    let keyed = dataset(
        "task = \"regression\"\nhdf5 = \"Cargo.toml\"\nkeys = { sequence = \"x\", missing = true }\n",
    );
    assert!(matches!(keyed.unwrap(), DatasetSource::Hdf5 { layout: Hdf5Layout::Keys(_), .. }));
}

#[test]
fn what_a_data_set_says_twice_or_in_vain_is_refused() {
    let columns = "columns = { sequence = \"s\", split = \"p\" }\n";
    let fractions = "split = { fractions = [0.8, 0.1, 0.1] }\n";
    let cases = [
        (format!("table = \"Cargo.toml\"\n{columns}{fractions}"), "splits from one place"),
        (format!("windows = \"Cargo.toml\"\nwindow = 9\n{fractions}"), "windows over a genome"),
        ("fasta = \"Cargo.toml\"\nkeys = { sequence = \"x\" }".to_owned(), "without hdf5"),
        (
            "hdf5 = \"Cargo.toml\"\nlayout = \"binary\"\nkeys = { sequence = \"x\" }".to_owned(),
            "one of layout and keys",
        ),
        (
            "hdf5 = \"Cargo.toml\"\nkeys = { sequence = \"x_{split}\" }\n".to_owned() + fractions,
            "keys with splits and a rule",
        ),
        (
            "task = \"eclip\"\ntable = \"Cargo.toml\"\ncolumns = { sequence = \"s\", missing = true }"
                .to_owned(),
            "found task eclip",
        ),
        (
            "fasta = \"Cargo.toml\"\nsplit = { fraction = [1, 0, 0] }".to_owned(),
            "`fraction`",
        ),
    ];
    for (keys, expected) in cases {
        let error = dataset(&keys).unwrap_err();
        assert!(error.contains("job.toml") && error.contains(expected), "{error}");
    }
}

#[test]
fn keys_of_other_sources_are_refused_with_what_they_belong_to() {
    let path = "= \"Cargo.toml\"";
    let table = format!("table {path}\ncolumns = {{ sequence = \"s\" }}\n");
    let hdf5 = format!("hdf5 {path}\nlayout = \"binary\"\n");
    let fasta = format!("fasta {path}\n");
    let bed = format!("bed {path}\ngenome {path}\n");
    let variants = format!("variants = [\"Cargo.toml\"]\ngenome {path}\nwindow = 4\n");
    let archive = "task = \"eclip\"\narchive = \"x\"\n".to_owned();
    for source in [&table, &hdf5, &fasta, &bed, &variants, &archive] {
        dataset(source).unwrap();
    }
    let (window, columns) = ("window = 3", "columns = { sequence = \"s\" }");
    let (genome, split) = (format!("genome {path}"), "split = { fractions = [0.8, 0.1, 0.1] }");
    let strays: [(&str, &str, &[&String]); 16] = [
        (window, "bed, narrowpeak, windows, variants or peaks", &[&table, &hdf5, &fasta, &archive]),
        ("stride = 3", "windows", &[&table, &hdf5, &fasta, &bed, &variants, &archive]),
        ("undefined_share_max = 0.1", "windows", &[&table, &hdf5, &fasta, &bed]),
        ("layout = \"binary\"", "hdf5", &[&table, &fasta, &bed, &variants, &archive]),
        ("length = 10", "hdf5", &[&table, &fasta, &bed, &variants, &archive]),
        ("keys = { sequence = \"x\" }", "hdf5", &[&table, &fasta, &archive]),
        (&genome, "bed, narrowpeak, variants, psi, peaks or archive", &[&table, &hdf5, &fasta]),
        (columns, "table or parquet", &[&hdf5, &fasta, &bed, &variants, &archive]),
        ("seed = 3", "peaks", &[&table, &hdf5, &fasta, &bed, &variants, &archive]),
        ("negatives = \"accessible\"", "peaks", &[&table, &variants, &archive]),
        ("same_chromosomes = true", "peaks", &[&fasta, &archive]),
        ("tissues = [\"Liver\"]", "psi", &[&fasta, &archive]),
        ("elements = [\"F9\"]", "variants", &[&fasta, &table, &archive]),
        ("indels = \"skip\"", "variants", &[&fasta, &archive]),
        (split, "tfrecord", &[&variants, &archive]),
        ("set = \"a\"", "archive", &[&fasta, &variants]),
    ];
    for (key, of, sources) in strays {
        let name = key.split_once(' ').map_or(key, |(name, _)| name);
        for source in sources {
            let error = dataset(&format!("{source}{key}\n")).unwrap_err();
            let place = format!("job.toml: dataset[0].{name}: expected no such key, as it belongs");
            assert!(error.contains(&place) && error.contains(&format!("{of}, found")), "{error}");
        }
    }
}

#[test]
fn keys_of_a_gl_m_are_refused_on_features_of_the_sequence() {
    let keys = [
        "layers = \"last\"",
        "pooling = [\"mean\"]",
        "dtype = \"f16\"",
        "strands = \"averaged\"",
        "mean_over = \"all\"",
        "full_rows = \"tokens\"",
        "scores = [\"dot\"]",
        "zero_shot = true",
        "both_strands = true",
        "padding = \"masked\"",
    ];
    for feature in ["kmer = 2", "one_hot = true", "nucleotides = true"] {
        for key in keys {
            let error = parse("eclip", &format!("[[representation]]\n{feature}\n{key}\n"));
            let error = error.unwrap_err().chain();
            let name = key.split_once(' ').map_or(key, |(name, _)| name);
            let expected = format!("representation[1].{name}: expected no such key, as it belongs");
            assert!(error.contains(&expected) && error.contains("to model"), "{error}");
        }
    }
}

#[test]
fn keys_of_a_pooling_are_refused_without_it() {
    let parse = |keys: &str| {
        let model = "[[model]]\nname = \"NT\"\npath = \"Cargo.toml\"\n";
        let table = format!("{model}[[representation]]\nmodel = \"NT\"\n{keys}\n");
        parse("eclip", &table).map_err(|error| error.chain())
    };
    let (over, rows) = ("mean_over = \"all\"\n", "full_rows = \"nucleotides\"\n");
    for (keys, of) in [
        (format!("{over}pooling = [\"cls\", \"full\"]"), "mean"),
        (rows.to_owned(), "full"),
        (format!("{rows}pooling = [\"mean\"]"), "full"),
    ] {
        let error = parse(&keys).unwrap_err();
        let name = keys.split_once(' ').unwrap().0;
        let expected = format!(
            "representation[1].{name}: expected no such key, as it belongs to pooling {of}, found \
             {name} without pooling {of}"
        );
        assert!(error.ends_with(&expected), "{error}");
    }
    for keys in [over.to_owned(), format!("{over}{rows}pooling = [\"mean\", \"full\"]")] {
        parse(&keys).unwrap();
    }
}
