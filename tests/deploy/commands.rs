//! Every command line of `glmeval` in `deploy` and in the workflow examples, tried on the program's own parser.
//!
//! Invariant: a flag or a subcommand that the program does not have fails here, whatever file names it.

use crate::manifests::{OVERLAYS, containers, rendered};
use crate::text;
use glmeval_tests::glmeval::glmeval;
use std::collections::BTreeMap;
use std::path::Path;

/// The flags of `glmeval SUBCOMMAND`, from its help.
async fn flags(subcommand: &[String]) -> Vec<String> {
    let mut words = subcommand.to_vec();
    words.push("--help".to_owned());
    let help = glmeval(Path::new("."), &words).await;
    assert_eq!(help.code, Some(0), "glmeval {words:?}: {}", help.stderr);
    let word = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("-h, ").unwrap_or(line);
        let end = line.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'));
        line.starts_with("--").then(|| line[..end.unwrap_or(line.len())].to_owned())
    };
    help.stdout.lines().filter_map(word).collect()
}

/// Words of a line of shell, without comments, quotes and what follows an operator.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" # ").next().unwrap();
    let ends = |word: &&str| !matches!(*word, "|" | "&" | "&&" | "||" | ";" | ">" | "2>");
    let words = line.split_whitespace().take_while(ends);
    let bare = |word: &str| word.trim_matches(['"', '\'', '`', ')', ';']).to_owned();
    words.map(bare).filter(|word| !word.is_empty()).collect()
}

/// Command lines of the program in a text: where a shell would look for a command.
fn lines(text: &str) -> Vec<Vec<String>> {
    const BEFORE: [&str; 6] = ["|", "(", "&&", "||", ";", "supervise"];
    let joined = text.replace("\\\n", " ");
    let mut found = Vec::new();
    for line in joined.lines() {
        for start in ["glmeval ", "\"${GLMEVAL:-glmeval}\" "] {
            for (at, _) in line.match_indices(start) {
                let before = line[..at].trim_end();
                if before.is_empty() || BEFORE.iter().any(|word| before.ends_with(word)) {
                    found.push(words(&line[at + start.len()..]));
                }
            }
        }
    }
    found
}

/// `worker`, or `certs new`: the words before the first flag or argument that are subcommands.
fn subcommand(line: &[String]) -> Vec<String> {
    let count = if matches!(line[0].as_str(), "certs" | "store") { 2 } else { 1 };
    line[..count.min(line.len())].to_vec()
}

async fn check(
    place: &str,
    lines: Vec<Vec<String>>,
    known: &mut BTreeMap<Vec<String>, Vec<String>>,
) {
    for line in lines {
        let is_word = line
            .first()
            .is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        assert!(is_word, "{place}: {line:?}");
        let subcommand = subcommand(&line);
        if !known.contains_key(&subcommand) {
            let flags = flags(&subcommand).await;
            known.insert(subcommand.clone(), flags);
        }
        for word in line.iter().filter(|word| word.starts_with("--")) {
            let flag = word.split('=').next().unwrap().to_owned();
            assert!(known[&subcommand].contains(&flag), "{place}: {subcommand:?} has no {flag}");
        }
    }
}

#[tokio::test]
async fn every_command_in_deploy_is_one_the_program_has() {
    let mut known = BTreeMap::new();
    let mut count = 0;
    for name in [
        "slurm/coordinator.sbatch",
        "slurm/workers.sbatch",
        "slurm/partition.sbatch",
        "skypilot/workers.yaml",
        "README.md",
    ] {
        // A page says more than commands: only its blocks and what it puts in backticks count.
        let text = text(name);
        let text = if name == "README.md" { commands_of_page(&text) } else { uncommented(&text) };
        let lines = lines(&text);
        assert!(!lines.is_empty(), "{name}");
        count += lines.len();
        check(name, lines, &mut known).await;
    }
    for overlay in OVERLAYS {
        let Some(objects) = rendered(overlay, None).await else { return };
        for container in containers(&objects) {
            let texts = |key: &str| -> Vec<String> {
                let items = container[key].as_array().unwrap().iter();
                items.map(|item| item.as_str().unwrap().to_owned()).collect()
            };
            assert_eq!(texts("command"), ["glmeval"]);
            check(overlay, vec![texts("args")], &mut known).await;
            count += 1;
        }
    }
    assert!(count > 30, "{count} command lines were found");
}

#[tokio::test]
async fn every_command_of_the_workflow_examples_is_one_the_program_has() {
    let mut known = BTreeMap::new();
    for name in ["Snakefile", "main.nf"] {
        let lines = lines(&text(&format!("../examples/workflows/{name}")));
        let subcommands: Vec<&str> = lines.iter().map(|line| line[0].as_str()).collect();
        assert_eq!(subcommands, ["plan", "run", "export"], "{name}");
        check(name, lines, &mut known).await;
    }
}

fn uncommented(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n")
}

fn commands_of_page(text: &str) -> String {
    let mut found = String::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            found.push_str(line.trim_start_matches("$ "));
            found.push('\n');
        } else {
            for (index, span) in line.split('`').enumerate() {
                if index % 2 == 1 && span.starts_with("glmeval ") {
                    found.push_str(&span.replace(['[', ']'], ""));
                    found.push('\n');
                }
            }
        }
    }
    found
}
