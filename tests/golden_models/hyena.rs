//! The pieces of Hyena mixers against the tensors that fixtures store of them, and checkpoints that
//! stand alone.
//!
//! Leaves out: states and logits, which the general tests compare.

use super::{assert_close, cases, folders, layers, open_lenient};
use glmeval_kernels::ops::hyena::{
    Affine, FilterWeights, HyenaOperator, HyenaWeights, ImplicitFilter,
};
use glmeval_kernels::ops::layer_norm::layer_norm;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use glmeval_kernels::ops::precision::Precision;
use glmeval_tests::golden::{self, Tensor};
use glmeval_worker::model::{Model, ModelOptions};
use glmeval_worker::models;
use glmeval_worker::tokenizer::UnknownLetters;
use glmeval_worker::weights::Weights;
use std::path::{Path, PathBuf};

fn hyena_folders() -> Vec<PathBuf> {
    let is_hyena = |folder: &PathBuf| {
        models::recognise(folder).is_ok_and(|architecture| architecture.name() == "hyenadna")
    };
    folders().into_iter().filter(is_hyena).collect()
}

/// The tensors of one block, by the end of their published names.
struct Block<'a> {
    weights: &'a Weights,
    start: String,
}

impl<'a> Block<'a> {
    fn new(weights: &'a Weights, index: usize) -> Self {
        let end = format!("backbone.layers.{index}.norm1.weight");
        let name = weights.names().find(|name| name.ends_with(&end)).expect("a block");
        let start = name.strip_suffix("norm1.weight").expect("just found").to_owned();
        Self { weights, start }
    }

    /// Its name in the file: the authors' training code has a level more in some.
    fn stored(&self, name: &str) -> Option<String> {
        let names = [name.to_owned(), name.replacen("mixer.", "mixer.layer.", 1)];
        let mut names = names.map(|name| format!("{}{name}", self.start)).into_iter();
        names.find(|name| self.weights.contains(name))
    }

    fn take(&self, name: &str) -> Vec<f32> {
        let name = self.stored(name).unwrap_or_else(|| panic!("{}{name}", self.start));
        let tensor = self.weights.tensor(&name).unwrap_or_else(|| panic!("{name}"));
        self.weights.take_f32(&name, tensor.shape()).unwrap_or_else(|e| panic!("{}", e.chain()))
    }

    fn filter(&self) -> ImplicitFilter {
        let of = |name: &str| self.take(&format!("mixer.filter_fn.{name}"));
        let layer = |index: usize| {
            let name = format!("implicit_filter.{index}");
            (of(&format!("{name}.weight")), of(&format!("{name}.bias")))
        };
        // Sines stand between the layers; the last has no bias.
        let has_bias = |index: &usize| {
            self.stored(&format!("mixer.filter_fn.implicit_filter.{index}.bias")).is_some()
        };
        let inner: Vec<_> = (2..).step_by(2).take_while(has_bias).map(layer).collect();
        let last = 2 * inner.len() + 2;
        let inner: Vec<Affine<'_>> = inner.iter().map(|(w, b)| (&w[..], &b[..])).collect();
        let first = layer(0);
        let weights = FilterWeights {
            features: &of("pos_emb.z"),
            times: &of("pos_emb.t"),
            deltas: &of("modulation.deltas"),
            frequency: &of("implicit_filter.1.freq"),
            first: (&first.0, &first.1),
            inner: &inner,
            last: &of(&format!("implicit_filter.{last}.weight")),
        };
        ImplicitFilter::new(&weights).expect("shapes fit")
    }

    fn operator(&self) -> HyenaOperator {
        let weights = HyenaWeights {
            projection: &self.take("mixer.in_proj.weight"),
            projection_bias: &self.take("mixer.in_proj.bias"),
            precision: Precision::F32,
            short: &self.take("mixer.short_filter.weight"),
            short_bias: &self.take("mixer.short_filter.bias"),
            skip: &self.take("mixer.filter_fn.bias"),
            filter: self.filter(),
        };
        HyenaOperator::new(weights, 1 << 20).expect("shapes fit")
    }

    /// The projection `[N, 3 D]` of the normalised states.
    fn projected(&self, states: &[f32], width: usize, eps: f32) -> Vec<f32> {
        let (scale, shift) = (self.take("norm1.weight"), self.take("norm1.bias"));
        let mut normed = vec![0.0; states.len()];
        layer_norm(states, &scale, Some(&shift), eps, &mut normed).expect("shapes fit");
        let (weight, bias) = (self.take("mixer.in_proj.weight"), self.take("mixer.in_proj.bias"));
        let packed =
            PackedLinear::pack(&weight, Some(&bias), 3 * width, width).expect("shapes fit");
        let mut projected = vec![0.0; states.len() * 3];
        linear(&normed, &packed, Epilogue::None, &mut projected).expect("shapes fit");
        projected
    }
}

/// `[.., C, L]` of one sequence as `[L, C]`.
fn channels_last(tensor: &Tensor) -> Vec<f64> {
    let length = *tensor.shape.last().expect("a length");
    let channels = tensor.values.len() / length;
    let value = |t: usize, c: usize| tensor.values[c * length + t];
    (0..length).flat_map(|t| (0..channels).map(move |c| value(t, c))).collect()
}

#[test]
fn filters_and_convolutions_of_mixers_are_those_of_upstream() {
    let mut compared = 0;
    for folder in hyena_folders() {
        let weights = Weights::open(&folder).unwrap();
        let tensors = golden::tensors(&folder.join("io.safetensors"));
        let model = open_lenient(&folder);
        let width = model.facts().width as usize;
        let stored = tensors.iter().filter_map(|(name, filter)| {
            let (case, layer) = name.strip_suffix(".filter")?.split_once(".debug.layer.")?;
            Some((case, layer, filter))
        });
        for (case, layer, filter) in stored {
            let what = |part: &str| format!("{} {case} layer {layer} {part}", folder.display());
            let block = Block::new(&weights, layer.parse().expect("a number"));
            let operator = block.operator();
            let length = filter.shape[1];
            let response = operator.filter().response(length).unwrap();
            assert_close(&model, &what("filter"), &response, &channels_last(filter));

            let short = &tensors[&format!("{case}.debug.layer.{layer}.short_conv")];
            assert_eq!(short.shape[0], 1, "one sequence");
            let (short, offsets) = (channels_last(short), [0, length]);
            let states = tensors[&format!("{case}.hidden_states.{layer}")].f32();
            let mut found = vec![0.0; short.len()];
            let projected = block.projected(&states, width, eps(&folder));
            operator.short_convolution(&projected, &offsets, &mut found).unwrap();
            assert_close(&model, &what("short_conv"), &found, &short);

            let mut found: Vec<f32> = short
                .chunks_exact(3 * width)
                .flat_map(|row| (0..width).map(|d| (row[width + d] * row[2 * width + d]) as f32))
                .collect();
            operator.long_convolution(&mut found, &offsets).unwrap();
            let long = &tensors[&format!("{case}.debug.layer.{layer}.long_conv")];
            assert_close(&model, &what("long_conv"), &found, &channels_last(long));
            compared += 1;
        }
    }
    assert!(compared > 0 || golden::is_elsewhere(), "no fixture of a mixer's pieces");
}

/// Of its layer norms.
fn eps(folder: &Path) -> f32 {
    let config = folder.join("config.json");
    let eps = config.exists().then(|| golden::json(&config)["layer_norm_epsilon"].as_f64());
    eps.flatten().unwrap_or(1e-5) as f32
}

#[test]
fn a_published_file_alone_gives_the_states_of_its_folder() {
    for folder in hyena_folders() {
        let whole = open_lenient(&folder);
        let weights = Weights::open(&folder).unwrap();
        // A file that is one of several does not stand alone, and none tells what a norm adds.
        if weights.path().extension().is_some_and(|ending| ending == "json") || eps(&folder) != 1e-5
        {
            continue;
        }
        let home = tempfile::tempdir().unwrap();
        let alone = home.path().join(weights.path().file_name().expect("a file"));
        std::fs::copy(weights.path(), &alone).unwrap();
        for path in [alone.as_path(), home.path()] {
            let alone =
                models::open_with(path, &lenient()).unwrap_or_else(|e| panic!("{}", e.chain()));
            assert_same(&folder, &whole, &alone);
        }
    }
}

fn lenient() -> ModelOptions {
    let unknown_letters = UnknownLetters::Replace;
    ModelOptions { unknown_letters, ..ModelOptions::default() }
}

/// The same tokens, states and logits.
fn assert_same(folder: &Path, one: &Model, other: &Model) {
    let place = folder.display();
    assert_eq!(one.facts().parameters, other.facts().parameters, "{place}");
    assert_eq!(one.facts().tokens_max, other.facts().tokens_max, "{place}");
    let text = "ACGTNNGATTACA";
    let ids = |model: &Model| model.tokenizer().encode(text).expect("ids");
    assert_eq!(ids(one), ids(other), "{place}");
    let description = golden::json(&folder.join("sequences.json"));
    let tensors = golden::tensors(&folder.join("io.safetensors"));
    let case = cases(&description, &tensors, one).swap_remove(0);
    assert_eq!(layers(one, &case.batch()), layers(other, &case.batch()), "{place}");
    let logits = |model: &Model| model.logits(&case.batch());
    // Without a config nothing tells that a head is the embedding.
    match (logits(one), logits(other)) {
        (one, Ok(other)) => assert_eq!(one.expect("a head"), other, "{place}"),
        (_, Err(error)) => assert!(golden::is_elsewhere(), "{place}: {}", error.chain()),
    }
}
