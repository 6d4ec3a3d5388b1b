use crate::dataset::DatasetSource;
use crate::error::Result;
use crate::job::{Job, ProbeLayers};
use crate::model::{Precision, SpecialTokens};
use std::path::{Path, PathBuf};

const MODELS: &str =
    "[[model]]\nname = \"A\"\npath = \"src\"\n[[model]]\nname = \"B\"\npath = \"src\"\n";
const SETS: &str = "[[dataset]]\ntask = \"chip-seq\"\narchive = \"no/such\"\nnames = [\"X\", \"Y\"]\n\
    [[dataset]]\ntask = \"lenti-mpra\"\narchive = \"no/such\"\nname = \"Z\"\nset = \"K562\"\n";
const FULL: &str = "[[representation]]\nmodel = \"A\"\npooling = [\"full\"]\n";

fn parse(tables: &str) -> Result<Job> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = format!("name = \"a\"\n{tables}");
    Job::parse_with(&text, "job.toml", folder, &|_| vec!["P".to_owned(), "Q".to_owned()])
}

fn job(tables: &str) -> Job {
    parse(&format!("{MODELS}{SETS}{tables}")).map_err(|e| e.chain()).unwrap()
}

fn refused(tables: &str) -> String {
    parse(&format!("{MODELS}{SETS}{tables}")).unwrap_err().chain()
}

fn names(job: &Job) -> Vec<&str> {
    job.datasets.iter().map(|dataset| dataset.name.as_str()).collect()
}

#[test]
fn one_table_gives_a_data_set_for_each_of_its_names() {
    let job = job(FULL);
    assert_eq!(names(&job), ["X", "Y", "Z"]);
    let DatasetSource::Archive { root, set, file, genome } = &job.datasets[2].source else {
        panic!("{:?}", job.datasets[2].source);
    };
    assert!(root.ends_with("no/such") && root.is_absolute());
    assert_eq!((set.as_str(), file, genome), ("K562", &None, &None));
    let all = "[[dataset]]\ntask = \"eclip\"\narchive = \"x\"\nnames = \"all\"\nhdf5 = \"{name}.h5\"\n\
        [[representation]]\none_hot = true\n";
    let job = parse(all).unwrap();
    assert_eq!(names(&job), ["P", "Q"]);
    let DatasetSource::Archive { file, .. } = &job.datasets[1].source else { panic!() };
    assert_eq!(file.as_deref(), Some(Path::new("Q.h5")));
}

#[test]
fn a_name_in_a_path_stands_for_each_file() {
    let tables = "[[dataset]]\ntask = \"eclip\"\nhdf5 = \"{name}.toml\"\nnames = [\"Cargo\"]\n\
        [[representation]]\none_hot = true\n";
    let DatasetSource::Hdf5 { path, .. } = &parse(tables).unwrap().datasets[0].source else {
        panic!()
    };
    assert_eq!(path, &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
}

#[test]
fn filters_leave_what_they_name() {
    let filtered = job("[[representation]]\nmodel = \"A\"\ntasks = [\"chip-seq\"]\n\
         [[representation]]\none_hot = true\ndatasets = [\"Z\", \"Y\"]\ntasks = [\"chip-seq\"]\n\
         [[representation]]\nnucleotides = true\n\
         [[probe]]\nkind = \"rep-mlp\"\ntasks = [\"lenti-mpra\"]\nmodels = [\"B\"]\nlayers = [3, 1]\n");
    let reads = |reads: &dyn Fn(usize) -> bool| (0..3).filter(|&i| reads(i)).collect::<Vec<_>>();
    assert_eq!(reads(&|i| filtered.embeddings[0].reads(i)), [0, 1]);
    assert_eq!(reads(&|i| filtered.features[0].reads(i)), [1]);
    assert_eq!(reads(&|i| filtered.features[1].reads(i)), [0, 1, 2]);
    let probe = &filtered.probes[0];
    assert_eq!(probe.dataset_indices, [2]);
    assert_eq!(probe.models.as_deref(), Some(&["B".to_owned()][..]));
    assert_eq!(probe.layers.as_deref(), Some(&[3, 1][..]));
}

#[test]
fn an_error_on_a_filter_names_what_there_is() {
    for (keys, expected) in [
        (
            "tasks = [\"splicing\"]",
            "representation[0].tasks: expected tasks of [[dataset]] tables: lenti-mpra, chip-seq",
        ),
        ("datasets = [\"W\"]", "names of [[dataset]] tables: X, Y, Z, found \"W\""),
        ("datasets = [\"Z\"]\ntasks = [\"chip-seq\"]", "representation[0].datasets"),
    ] {
        let error = refused(&format!("{FULL}{keys}\n"));
        assert!(error.contains(expected), "{error}");
    }
    let probe = |keys: &str| refused(&format!("{FULL}[[probe]]\nkind = \"ridge\"\n{keys}\n"));
    assert!(probe("models = [\"C\"]").contains("names of [[model]] tables: A, B, found \"C\""));
    assert!(probe("tasks = [\"eclip\"]").contains("probe[0].tasks"));
    assert!(probe("layers = [\"last\"]").contains("layer number"));
}

#[test]
fn layers_of_a_probe_are_numbers_or_tables() {
    let read = |text: &str| {
        #[derive(serde::Deserialize)]
        struct Only {
            layers: ProbeLayers,
        }
        toml::from_str::<Only>(text).map(|only| only.layers)
    };
    assert_eq!(read("layers = [10, 32]").unwrap().numbers(), Some(&[10, 32][..]));
    let tables =
        read("layers = [{ kind = \"dense\", units = 3 }, { kind = \"flatten\" }]").unwrap();
    assert_eq!(tables.tables().map(<[_]>::len), Some(2));
    assert!(
        read("layers = [{ kind = \"dense\", unit = 3 }]").unwrap_err().to_string().contains("unit")
    );
    read("layers = [1, { kind = \"dense\" }]").unwrap_err();
    read("layers = [-1]").unwrap_err();
}

#[test]
fn a_representation_opens_its_gl_m_as_it_says_and_the_unread_one_goes() {
    let job = job("[[representation]]\nmodel = \"A\"\npad_to = 57\ntasks = [\"chip-seq\"]\n\
         [[representation]]\nmodel = \"A\"\npad_to = 59\ntasks = [\"lenti-mpra\"]\n\
         [[representation]]\nmodel = \"B\"\n");
    let models: Vec<_> =
        job.models.iter().map(|model| (model.name.as_str(), model.options.pad_to)).collect();
    assert_eq!(models, [("B", None), ("A", Some(57)), ("A", Some(59))]);
    let indices: Vec<_> = job.embeddings.iter().map(|one| one.model_index).collect();
    assert_eq!(indices, [1, 2, 0]);
    let error = refused("[[representation]]\none_hot = true\npad_to = 3\n");
    assert!(
        error.contains("representation[0].pad_to: expected no such key, as it belongs to model"),
        "{error}"
    );
}

#[test]
fn a_published_gl_m_needs_no_path_and_brings_its_habits() {
    let set = "[[dataset]]\ntask = \"eclip\"\narchive = \"x\"\nname = \"QKI\"\n";
    let model = |keys: &str| {
        parse(&format!(
            "{set}[[model]]\npublished = \"hyenadna-tiny-1k-d256\"\n{keys}\
             [[representation]]\nmodel = \"HyenaDNA-tiny-1k-d256\"\n"
        ))
        .map(|job| job.models[0].clone())
    };
    let plain = model("").unwrap();
    assert!(plain.source.starts_with("hf://LongSafari"), "{:?}", plain.source);
    assert_eq!(plain.options.special_tokens, SpecialTokens::Original);
    let own = model("special_tokens = \"hugging-face\"\npath = \"no/such\"\n").unwrap();
    assert_eq!(own.options.special_tokens, SpecialTokens::HuggingFace);
    assert!(own.source.is_absolute());
    let unknown = parse(&format!("{set}[[model]]\npublished = \"nt\"\n")).unwrap_err().chain();
    assert!(unknown.contains("model[0].published: expected one of nt-2b5-1000g"), "{unknown}");
    let nothing = parse(&format!("{set}[[model]]\nname = \"a\"\n")).unwrap_err().chain();
    assert!(nothing.contains("model[0].path"), "{nothing}");
}

#[test]
fn the_precision_of_a_job_is_that_of_every_gl_m_that_says_none() {
    let table = |keys: &str| {
        let published = "published = \"hyenadna-tiny-1k-d256\"\n";
        format!(
            "[[model]]\n{published}{keys}[[representation]]\nmodel = \"HyenaDNA-tiny-1k-d256\"\n"
        )
    };
    let set = "[[dataset]]\ntask = \"eclip\"\narchive = \"x\"\nname = \"QKI\"\n";
    let of = |job: &str, own: &str| {
        let job = parse(&format!("{job}{set}{}", table(own))).unwrap();
        job.models[0].options.precision
    };
    assert_eq!(of("", ""), Precision::F32);
    assert_eq!(of("precision = \"bf16\"\n", ""), Precision::Bf16);
    assert_eq!(of("precision = \"bf16\"\n", "precision = \"f32\"\n"), Precision::F32);
}

#[test]
fn tables_of_an_archive_that_say_too_much_are_refused() {
    for (keys, place) in [
        ("name = \"a\"\nnames = [\"b\"]", "dataset[0]: expected either name or names"),
        ("names = \"some\"", "dataset[0].names"),
        ("names = []", "dataset[0].names"),
        ("name = \"a\"\nfasta = \"b\"", "dataset[0].fasta"),
        ("name = \"a\"\nlength = 3", "dataset[0].length"),
    ] {
        let text = format!("[[dataset]]\ntask = \"eclip\"\narchive = \"x\"\n{keys}\n{FULL}");
        let error = parse(&text).unwrap_err().chain();
        assert!(error.contains(place), "{error}");
    }
    let twice = "[[dataset]]\ntask = \"eclip\"\narchive = \"x\"\nnames = [\"b\", \"b\"]\n";
    assert!(parse(twice).unwrap_err().chain().contains("\"b\" twice"));
    let set = "[[dataset]]\nname = \"a\"\nfasta = \"Cargo.toml\"\nset = \"b\"\n";
    assert!(parse(set).unwrap_err().chain().contains("dataset[0].set"));
}
