use super::*;
use std::path::PathBuf;

fn written(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn read(name: &str, text: &str, options: &VariantOptions) -> Result<Vec<Variant>> {
    let folder = tempfile::tempdir().unwrap();
    open(&written(&folder, name, text), options)?.read(1_000)
}

fn refusal(name: &str, text: &str) -> String {
    read(name, text, &VariantOptions::default()).unwrap_err().to_string()
}

const HEADER: &str = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";

#[test]
fn alternatives_of_a_site_are_variants_in_their_order() {
    let text = format!("{HEADER}1\t7\trs1\ta\tC,g\t.\t.\t.\n\nX\t9\t.\tT\tA\n");
    let variants = read("a.vcf", &text, &VariantOptions::default()).unwrap();
    let found: Vec<_> = variants
        .iter()
        .map(|v| {
            (v.chromosome.as_str(), v.position, v.alternative.as_str(), v.id.as_deref(), v.line)
        })
        .collect();
    let expected =
        [("1", 7, "C", Some("rs1"), 3), ("1", 7, "G", Some("rs1"), 3), ("X", 9, "A", None, 5)];
    assert_eq!(found, expected);
    assert!(variants.iter().all(|variant| variant.substitution().is_some()));
}

#[test]
fn indels_are_refused_with_their_line_unless_they_are_to_be_skipped() {
    let text = format!("{HEADER}1\t7\t.\tA\tC\n1\t8\t.\tAC\tA,<DEL>\n1\t9\t.\tA\t.\n");
    let message = refusal("a.vcf", &text);
    assert!(message.contains("line 4, column REF: expected a single base"), "{message}");
    let options = VariantOptions { indels: Indels::Skip, ..VariantOptions::default() };
    let variants = read("a.vcf", &text, &options).unwrap();
    let scored: Vec<_> = variants.iter().map(|v| v.substitution().is_some()).collect();
    assert_eq!(scored, [true, false, false, false]);
    assert_eq!(variants[2].alternative, "<DEL>");
    let text = format!("{HEADER}1\t7\t.\t\tC\n");
    read("a.vcf", &text, &options).unwrap_err();
}

#[test]
fn names_in_alternatives_keep_their_case() {
    let text = format!("{HEADER}1\t7\t.\ta\t]chr2_random:100]A,<dup>,t\n1\t8\t.\tac\tg\n");
    let options = VariantOptions { indels: Indels::Skip, ..VariantOptions::default() };
    let variants = read("a.vcf", &text, &options).unwrap();
    let found: Vec<_> =
        variants.iter().map(|v| (v.reference.as_str(), v.alternative.as_str())).collect();
    let expected = [("A", "]chr2_random:100]A"), ("A", "<dup>"), ("A", "T"), ("AC", "G")];
    assert_eq!(found, expected);
}

#[test]
fn columns_of_a_table_are_found_by_usual_names_or_by_those_given() {
    let text = "#CHROM,Position,value,ref,alt,element\nchr1,5,0.5,A,T,LDLR\nchr1,6,,C,T,\n";
    let variants = read("a.csv", text, &VariantOptions::default()).unwrap();
    assert_eq!((variants[0].position, variants[0].effect), (5, None));
    let columns = BTreeMap::from([(VariantColumn::Effect, "value".to_owned())]);
    let options = VariantOptions { columns, ..VariantOptions::default() };
    let variants = read("a.csv", text, &options).unwrap();
    assert_eq!((variants[0].effect, variants[1].effect), (Some(0.5), None));
    assert_eq!(
        (variants[0].element.as_deref(), variants[1].element.as_deref()),
        (Some("LDLR"), None)
    );
    let message = refusal("a.tsv", "chrom\tposs\tref\talt\n1\t2\tA\tC\n");
    assert!(message.contains("column pos: expected a column called pos or position"), "{message}");
    assert!(message.ends_with("found columns chrom, poss, ref, alt"), "{message}");
}

#[test]
fn a_value_that_is_none_is_refused_with_line_and_column() {
    for (row, place) in [
        ("1,0,A,C,1", "line 2, column pos: expected an integer from 1 on"),
        ("1,-3,A,C,1", "column pos"),
        ("1,3,A,A,1", "column alt: expected an alternative that differs"),
        ("1,3,A,C,inf", "column effect: expected a finite number"),
        ("1,3,A,C,NA", "column effect"),
        (",3,A,C,1", "column chrom"),
        ("1,3,A,C", "expected 5 fields"),
    ] {
        let message = refusal("a.csv", &format!("chrom,pos,ref,alt,effect\n{row}\n"));
        assert!(message.contains(place), "{row}: {message}");
    }
    assert!(refusal("a.csv", "chrom,pos,ref,alt\n").ends_with("found 0 rows"));
    assert!(refusal("a.vcf", HEADER).ends_with("found 0 rows"));
}

#[test]
fn names_of_files_tell_their_format() {
    for (name, format) in [
        ("a.vcf", VariantFormat::Vcf),
        ("a.VCF.gz", VariantFormat::Vcf),
        ("a.vcf.bgz", VariantFormat::Vcf),
        ("release_LDLR.tsv", VariantFormat::Cagi),
        ("challenge_MYC-rs6983267.tsv.gz", VariantFormat::Cagi),
        ("release.tsv", VariantFormat::Table),
        ("a.csv", VariantFormat::Table),
        ("CAGI_onehot.h5", VariantFormat::Archive),
    ] {
        assert_eq!(VariantFormat::of(Path::new(name)), format, "{name}");
    }
}

#[test]
fn a_gzip_that_ends_early_is_told_as_such() {
    use std::io::Write;
    let text = format!("{HEADER}{}", "1\t7\t.\tA\tC\t.\t.\t.\n".repeat(500));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let bytes = gzip.finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vcf.gz");
    std::fs::write(&path, &bytes).unwrap();
    let options = VariantOptions::default();
    assert_eq!(open(&path, &options).unwrap().read(1_000).unwrap().len(), 500);
    std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let error = open(&path, &options).and_then(|mut reader| reader.read(1_000)).unwrap_err();
    assert!(error.chain().contains("a.vcf.gz"), "{}", error.chain());
}
