//! AnnData: pooled embeddings with what is known of each example, as one `.h5ad` file.
//!
//! ```text
//! X      [E, S * D] f32, the sequences of an example side by side
//! obs    ids as index; split, chrom, start, end, strand where known; one column per target
//! var    names of the dimensions: 0 to D - 1, with the sequence's name before where there are several
//! uns    glmeval: where the rows came from, as text
//! ```
//!
//! Leaves out: tokens of `full`, which are no observations. Invariant: rows stand in the order they
//! were pushed; the file is built in memory, so its size is bounded.
//!
//! Source: anndata documentation, "On-disk format", AnnData 0.1.0.

use crate::error::{Error, ErrorKind, InputError, Result};
use crate::example::Example;
use hdf5_pure::{AttrValue, FileBuilder};
use std::collections::BTreeMap;
use std::io::Write;

/// Bytes of embeddings at most; the file is written from memory, which holds them twice.
const BYTES_MAX: u64 = 8 << 30;
/// Columns of `obs` that are ours; a target of such a name has `target_` put before it.
const OWN_COLUMNS: [&str; 6] = ["_index", "split", "chrom", "start", "end", "strand"];

/// Gathers the rows of an `.h5ad` file.
pub struct AnnDataExport {
    width: usize,
    sequences: Vec<String>,
    columns: Vec<String>,
    target_names: Vec<String>,
    ids: Vec<String>,
    values: Vec<f32>,
    examples: Vec<Described>,
}

/// What `obs` tells of one example.
struct Described {
    split: Option<&'static str>,
    place: Option<(String, u64, u64, &'static str)>,
    targets: Vec<f32>,
}

impl AnnDataExport {
    /// Starts a file of `rows` examples with `width` values for each of `sequences`.
    ///
    /// # Errors
    /// `Invalid` where that is more than fits in memory.
    pub fn new(
        rows: u64,
        width: usize,
        sequences: Vec<String>,
        target_names: Vec<String>,
    ) -> Result<Self> {
        let bytes = rows.saturating_mul(4).saturating_mul(width as u64);
        let bytes = bytes.saturating_mul(sequences.len().max(1) as u64);
        if bytes > BYTES_MAX {
            let expected = format!("at most {BYTES_MAX} bytes of embeddings in one h5ad file");
            let found = format!("{bytes}: export as parquet");
            return Err(InputError::new("command line", "--format", expected, found).into());
        }
        let (ids, values, examples) = (Vec::new(), Vec::new(), Vec::new());
        let columns = Vec::new();
        Ok(Self { width, sequences, columns, target_names, ids, values, examples })
    }

    /// Calls the values of a row `names`, if there are as many.
    pub fn name_columns(&mut self, names: &[String]) {
        if names.len() == self.width {
            self.columns = names.to_vec();
        }
    }

    /// Adds rows: `values` is `[E, S, D]`.
    pub fn push(&mut self, ids: &[String], values: &[f32]) {
        self.ids.extend_from_slice(ids);
        self.values.extend_from_slice(values);
    }

    /// Tells of the next examples, in the order of the rows; without, `obs` has ids alone.
    pub fn describe(&mut self, examples: &[Example]) {
        self.examples.extend(examples.iter().map(|example| Described {
            split: example.split.map(crate::example::Split::name),
            place: example.interval.as_ref().map(|interval| {
                let strand = interval.strand.symbol();
                (interval.chromosome.clone(), interval.start, interval.end, strand)
            }),
            targets: example.targets.clone(),
        }));
    }

    /// Writes the file; `provenance` becomes `uns["glmeval"]`.
    ///
    /// # Errors
    /// `Bug` when rows, values and examples disagree; `Invalid` for a target whose name no HDF5 link has;
    /// `Unavailable` when writing fails.
    pub fn finish(self, out: impl Write, provenance: &BTreeMap<String, String>) -> Result<()> {
        let rows = self.ids.len();
        let columns = self.width.saturating_mul(self.sequences.len().max(1));
        let told = self.examples.len();
        if rows.checked_mul(columns) != Some(self.values.len()) || (told != 0 && told != rows) {
            let found = self.values.len();
            let message = format!("h5ad of {rows} x {columns}: {found} values, {told} examples");
            return Err(Error::bug(message));
        }
        let mut file = FileBuilder::new();
        for (name, value) in encoding("anndata", "0.1.0") {
            file.set_attr(name, value);
        }
        let x = file.create_dataset("X");
        x.with_f32_data(&self.values).with_shape(&[rows as u64, columns as u64]);
        for (name, value) in encoding("array", "0.2.0") {
            x.set_attr(name, value);
        }
        self.add_observations(&mut file)?;
        let mut names = Frame::new(&mut file, "var", &self.dimension_names());
        names.finish(&mut file);
        for name in ["layers", "obsm", "obsp", "varm", "varp"] {
            let mut group = file.create_group(name);
            encoding("dict", "0.1.0")
                .into_iter()
                .for_each(|(name, value)| group.set_attr(name, value));
            file.add_group(group.finish());
        }
        add_provenance(&mut file, provenance);
        file.finish_to(out).map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("write the export: {error}"))
        })
    }

    /// `0`, `1`, … or what the values are called; `left_0`, … where an example has several sequences.
    fn dimension_names(&self) -> Vec<String> {
        if self.sequences.len() < 2 && !self.columns.is_empty() {
            return self.columns.clone();
        }
        if self.sequences.len() < 2 {
            return (0..self.width).map(|dimension| dimension.to_string()).collect();
        }
        let of = |name: &String| -> Vec<String> {
            (0..self.width).map(|dimension| format!("{name}_{dimension}")).collect()
        };
        self.sequences.iter().flat_map(of).collect()
    }

    fn add_observations(&self, file: &mut FileBuilder) -> Result<()> {
        let mut frame = Frame::new(file, "obs", &self.ids);
        let all =
            |is: fn(&Described) -> bool| !self.examples.is_empty() && self.examples.iter().all(is);
        if all(|example| example.split.is_some()) {
            let splits = self.examples.iter().map(|example| example.split.unwrap_or_default());
            frame.texts("split", &splits.collect::<Vec<_>>());
        }
        if all(|example| example.place.is_some()) {
            let places: Vec<_> = self.examples.iter().filter_map(|e| e.place.as_ref()).collect();
            let texts: Vec<&str> = places.iter().map(|place| place.0.as_str()).collect();
            frame.texts("chrom", &texts);
            frame.whole("start", &places.iter().map(|place| place.1 as i64).collect::<Vec<_>>());
            frame.whole("end", &places.iter().map(|place| place.2 as i64).collect::<Vec<_>>());
            frame.texts("strand", &places.iter().map(|place| place.3).collect::<Vec<_>>());
        }
        for (index, target) in self.target_names.iter().enumerate() {
            if self.examples.is_empty() {
                break;
            }
            let is_link = !target.is_empty() && target != "." && !target.contains('/');
            if !is_link {
                let expected = "names of targets that HDF5 can hold: not empty, without /";
                let found = format!("{target:?}");
                return Err(InputError::new("data set", "targets", expected, found).into());
            }
            let is_ours = OWN_COLUMNS.contains(&target.as_str());
            let name = if is_ours { format!("target_{target}") } else { target.clone() };
            let values = self.examples.iter();
            let values = values.map(|e| e.targets.get(index).copied().unwrap_or(f32::NAN));
            frame.numbers(&name, &values.collect::<Vec<_>>());
        }
        frame.finish(file);
        Ok(())
    }
}

fn encoding(kind: &str, version: &str) -> [(&'static str, AttrValue); 2] {
    [
        ("encoding-type", AttrValue::VarLenString(kind.to_owned())),
        ("encoding-version", AttrValue::VarLenString(version.to_owned())),
    ]
}

/// A data frame: an index and columns.
struct Frame {
    group: Option<hdf5_pure::GroupBuilder>,
    columns: Vec<String>,
}

impl Frame {
    fn new(file: &mut FileBuilder, name: &str, index: &[String]) -> Self {
        let mut group = file.create_group(name);
        for (name, value) in encoding("dataframe", "0.2.0") {
            group.set_attr(name, value);
        }
        group.set_attr("_index", AttrValue::VarLenString("_index".to_owned()));
        let mut frame = Self { group: Some(group), columns: Vec::new() };
        frame.texts("_index", &index.iter().map(String::as_str).collect::<Vec<_>>());
        // The index is no column.
        frame.columns.clear();
        frame
    }

    fn column(
        &mut self,
        name: &str,
        kind: &str,
        fill: impl FnOnce(&mut hdf5_pure::DatasetBuilder),
    ) {
        let Some(group) = &mut self.group else { return };
        let dataset = group.create_dataset(name);
        fill(dataset);
        for (attribute, value) in encoding(kind, "0.2.0") {
            dataset.set_attr(attribute, value);
        }
        self.columns.push(name.to_owned());
    }

    fn texts(&mut self, name: &str, values: &[&str]) {
        self.column(name, "string-array", |dataset| {
            dataset.with_vlen_strings(values);
        });
    }

    fn whole(&mut self, name: &str, values: &[i64]) {
        self.column(name, "array", |dataset| {
            dataset.with_i64_data(values);
        });
    }

    fn numbers(&mut self, name: &str, values: &[f32]) {
        self.column(name, "array", |dataset| {
            dataset.with_f32_data(values);
        });
    }

    fn finish(&mut self, file: &mut FileBuilder) {
        let Some(mut group) = self.group.take() else { return };
        group.set_attr("column-order", AttrValue::VarLenStringArray(self.columns.clone()));
        file.add_group(group.finish());
    }
}

fn add_provenance(file: &mut FileBuilder, provenance: &BTreeMap<String, String>) {
    let mut group = file.create_group("uns");
    let mut ours = group.create_group("glmeval");
    for (name, value) in encoding("dict", "0.1.0") {
        group.set_attr(name, value.clone());
        ours.set_attr(name, value);
    }
    for (name, text) in provenance {
        let dataset = ours.create_dataset(name);
        dataset.with_vlen_strings(&[text]).with_shape(&[]);
        for (attribute, value) in encoding("string", "0.2.0") {
            dataset.set_attr(attribute, value);
        }
    }
    group.add_group(ours.finish());
    file.add_group(group.finish());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dna::{DnaSequence, Interval, Strand};
    use crate::example::Split;

    fn example(id: &str, targets: &[f32]) -> Example {
        let (chromosome, strand) = ("chr2".to_owned(), Strand::Reverse);
        Example {
            id: id.to_owned(),
            sequences: vec![DnaSequence::new("ACG").unwrap()],
            interval: Some(Interval { chromosome, start: 5, end: 8, strand }),
            split: Some(Split::Test),
            targets: targets.to_vec(),
        }
    }

    #[test]
    fn rows_columns_and_attributes_are_where_the_format_has_them() {
        let names = ["y", "split"].map(str::to_owned).to_vec();
        let sequences = vec!["sequence".to_owned()];
        let mut export = AnnDataExport::new(2, 2, sequences, names).unwrap();
        export.push(&["a".to_owned(), "b".to_owned()], &[1.0, 2.0, 3.0, 4.0]);
        export.describe(&[example("a", &[0.5, 1.0]), example("b", &[f32::NAN, 2.0])]);
        let mut bytes = Vec::new();
        let provenance = BTreeMap::from([("model".to_owned(), "abc".to_owned())]);
        export.finish(&mut bytes, &provenance).unwrap();
        let file = hdf5_pure::File::from_bytes(bytes).unwrap();
        let x = file.dataset("X").unwrap();
        assert_eq!(x.shape().unwrap(), [2, 2]);
        assert_eq!(x.read_f32().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        let texts = |key: &str| file.dataset(key).unwrap().read_string().unwrap();
        assert_eq!(texts("obs/_index"), ["a", "b"]);
        assert_eq!(texts("obs/split"), ["test", "test"]);
        assert_eq!(texts("obs/strand"), ["-", "-"]);
        assert_eq!(texts("var/_index"), ["0", "1"]);
        assert_eq!(file.dataset("obs/target_split").unwrap().read_f32().unwrap(), [1.0, 2.0]);
        assert!(file.dataset("obs/y").unwrap().read_f32().unwrap()[1].is_nan());
        let attributes = file.group("obs").unwrap().attrs().unwrap();
        let order = format!("{:?}", attributes["column-order"]);
        let expected = r#"["split", "chrom", "start", "end", "strand", "y", "target_split"]"#;
        assert!(order.contains(expected), "{order}");
        assert!(file.dataset("uns/glmeval/model").is_ok());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let names = |name: &str| vec![name.to_owned()];
        assert!(AnnDataExport::new(1 << 40, 1024, Vec::new(), Vec::new()).is_err());
        let mut export = AnnDataExport::new(1, 1, Vec::new(), names("a/b")).unwrap();
        export.push(&names("a"), &[1.0]);
        export.describe(&[example("a", &[1.0])]);
        let error = export.finish(Vec::new(), &BTreeMap::new()).unwrap_err().chain();
        assert!(error.contains("\"a/b\""), "{error}");
        let mut export = AnnDataExport::new(1, 2, Vec::new(), Vec::new()).unwrap();
        export.push(&names("a"), &[1.0]);
        assert!(export.finish(Vec::new(), &BTreeMap::new()).is_err());
    }
}
