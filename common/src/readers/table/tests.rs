//! Facts about tables: separators, quotes, columns, and what is refused.

use super::*;
use crate::readers::text::TextReader;
use proptest::prelude::*;
use std::io::Cursor;

fn columns() -> TableColumns {
    TableColumns {
        sequence: "seq".to_owned(),
        id: Some("id".to_owned()),
        split: Some("split".to_owned()),
        targets: vec!["y".to_owned()],
        missing: false,
    }
}

fn read(bytes: &[u8], columns: &TableColumns, task: TaskName) -> Result<Vec<Example>> {
    let source = Box::new(Cursor::new(bytes.to_vec()));
    let text = TextReader::from_read(Path::new("t.txt"), source, 1 << 20)?;
    let mut reader = TableReader::new(RecordReader::new(text), columns, task)?;
    let mut examples = Vec::new();
    loop {
        let batch = reader.read(2)?;
        if batch.is_empty() {
            return Ok(examples);
        }
        examples.extend(batch);
    }
}

fn error(text: &str) -> String {
    read(text.as_bytes(), &columns(), TaskName::Classification).unwrap_err().chain()
}

#[test]
fn columns_are_found_by_name_whatever_the_separator() {
    for text in [
        "id\tseq\ty\tsplit\na\tACgt\t1.50\ttrain\n\nb\tN\t-2\tDEV\n",
        "y,split,\"seq\",,id\n1.5,train,ACGT,,a\r\n\"-2\",val,\"n\",\"x\"\",\ny\",b",
    ] {
        let examples = read(text.as_bytes(), &columns(), TaskName::Regression).unwrap();
        let ids: Vec<_> = examples.iter().map(|example| example.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(examples[0].sequences[0].as_str(), "ACGT");
        assert_eq!(examples[1].split, Some(Split::Valid));
        assert_eq!(examples.iter().map(|e| e.targets[0]).collect::<Vec<_>>(), [1.5, -2.0]);
    }
}

#[test]
fn rows_without_an_id_column_are_numbered() {
    let wanted = TableColumns { sequence: "s".to_owned(), ..TableColumns::default() };
    let examples = read(b"s\nA\nC\n", &wanted, TaskName::None).unwrap();
    assert_eq!(examples[1].id, "row1");
    assert_eq!((examples[1].split, examples[1].targets.len()), (None, 0));
}

#[test]
fn targets_that_rows_of_scores_would_not_tell_apart_are_refused() {
    let refused = |targets: &[&str]| {
        let targets = targets.iter().map(|&name| name.to_owned()).collect();
        let wanted = TableColumns { targets, id: None, split: None, ..columns() };
        read(b"seq,y,mean\nA,1,2\n", &wanted, TaskName::Regression).map_err(|e| e.chain())
    };
    let error = refused(&["y", "mean", "y"]).unwrap_err();
    assert!(error.contains("t.txt") && error.contains("column mean: expected another"), "{error}");
    let error = refused(&["y", "y"]).unwrap_err();
    assert!(error.contains("column y: expected targets that differ, found y twice"), "{error}");
    assert_eq!(refused(&["mean"]).unwrap()[0].targets, [2.0], "alone it has no average");
}

#[test]
fn a_binary_task_takes_0_and_1_only() {
    assert!(
        read(b"id,seq,y,split\na,A,1,test\nb,A,0.0,test\n", &columns(), TaskName::ChipSeq).is_ok()
    );
    let message = error("id,seq,y,split\na,A,0.5,test\n");
    assert!(message.contains("line 2, column y: expected 0 or 1"), "{message}");
}

#[test]
fn quotes_that_do_not_close_are_named_with_the_line_that_opened_them() {
    let message = error("id,seq,y,split\na,A,1,test\nb,\"A,1,test\nc,A,1,test\n");
    assert!(message.contains("line 3: expected a closing quote, found end of file"), "{message}");
    let message = error("id,seq,y,split\na,\"A\"C,1,test\n");
    assert!(message.contains("line 2: expected a separator after a closing quote"), "{message}");
}

#[test]
fn a_record_over_several_lines_is_named_by_its_first() {
    let message = error("id,seq,y,split\n\"a\nb\",!,1,test\n");
    assert!(message.contains("line 2, column seq"), "{message}");
}

#[test]
fn missing_and_repeated_columns_are_refused() {
    assert!(error("id,seq,y\n").contains("line 1, header, column split"));
    assert!(error("id,id,seq,y,split\n").contains("id again"));
    assert!(error("id,seq,y,split\n").contains("0 rows"));
    assert!(error("id,seq,y,split\na,A,1\n").contains("line 2: expected 4 fields"));
    assert!(error("").contains("an empty file"));
    assert!(error("id,seq,y,split\n,A,1,test\n").contains("column id: expected an id"));
    assert!(error("id,seq,y,split\na,,1,test\n").contains("column seq: expected a sequence"));
    assert!(error("id,seq,y,split\na,A,1e39,test\n").contains("range"));
}

proptest! {
    #[test]
    fn any_bytes_give_rows_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in "([ACN01,\t\"\n\u{e9}]|test){0,60}",
    ) {
        let _ = read(&bytes, &columns(), TaskName::Regression);
        let table = [b"id,seq,y,split\n".to_vec(), text.into_bytes(), bytes].concat();
        let _ = read(&table, &columns(), TaskName::Regression);
    }

    #[test]
    fn a_quoted_field_is_read_as_it_was_written(id in "[a-z,\"\t\n ]{1,30}") {
        let quoted = id.replace('"', "\"\"");
        let text = format!("id,seq,y,split\n\"{quoted}\",A,1,test\n");
        let examples = read(text.as_bytes(), &columns(), TaskName::Regression).unwrap();
        prop_assert_eq!(&examples[0].id, &id);
    }
}

#[test]
fn missing_targets_are_read_where_the_source_says_there_are_some() {
    let text =
        b"id,seq,y,split\na,A,,test\nb,A,NA,test\nc,A,nan,test\nd,A,1,test\ne,A, null ,test\n";
    let allowed = TableColumns { missing: true, ..columns() };
    for task in [TaskName::Regression, TaskName::Classification] {
        let examples = read(text, &allowed, task).unwrap();
        let known: Vec<bool> = examples.iter().map(|e| !e.targets[0].is_nan()).collect();
        assert_eq!(known, [false, false, false, true, false]);
        let error = read(text, &columns(), task).unwrap_err().chain();
        assert!(error.contains("line 2, column y: expected a finite number"), "{error}");
    }
    assert!(read(text, &allowed, TaskName::ChipSeq).is_err());
    let word = b"id,seq,y,split\na,A,high,test\n";
    assert!(read(word, &allowed, TaskName::Regression).is_err());
}
