//! A whole job in one process: what it leaves, and that neither repetition nor machine changes it.

use glmeval_tests::glmeval::{glmeval, model, succeeds};
use glmeval_tests::jobs::write_small_job;
use glmeval_tests::results::{check_committed_once, listing, results};

#[tokio::test]
async fn a_job_prints_scores_and_a_second_run_computes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write_small_job(folder.path(), 64);
    let run = ["run", "job.toml", "--store", "store", "--report", "report"];
    let first = glmeval(folder.path(), &run).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    for wanted in ["binding", "activity", "AUROC", "Pearson r", "one-hot", "3-mer", "NT, layer 4"] {
        assert!(first.stdout.contains(wanted), "{wanted}: {}", first.stdout);
    }
    for file in ["report.html", "scores.csv", "scores.parquet", "scores.txt"] {
        assert!(folder.path().join("report").join(file).is_file(), "{file}");
    }
    check_committed_once(&folder.path().join("store")).await;
    let before = listing(&folder.path().join("store"));
    let second = glmeval(folder.path(), &run).await;
    assert_eq!((second.code, &second.stdout), (Some(0), &first.stdout));
    assert_eq!(listing(&folder.path().join("store")), before, "a second run touched the store");
}

#[tokio::test]
async fn workers_threads_and_shard_sizes_change_no_bit() {
    let mut expected = None;
    for (shard_rows, workers, threads) in
        [(64, "1", "2"), (64, "3", "1"), (1000, "1", "1"), (7, "2", "3")]
    {
        let folder = tempfile::tempdir().unwrap();
        write_small_job(folder.path(), shard_rows);
        let run =
            ["run", "job.toml", "--store", "store", "--workers", workers, "--threads", threads];
        succeeds(folder.path(), &run).await;
        let found = results(&folder.path().join("store")).await;
        assert_eq!(
            &found,
            expected.get_or_insert(found.clone()),
            "{shard_rows} {workers} {threads}"
        );
    }
}

#[tokio::test]
async fn scores_are_printed_in_three_formats() {
    let folder = tempfile::tempdir().unwrap();
    write_small_job(folder.path(), 64);
    let json = succeeds(folder.path(), &["run", "job.toml", "--format", "json"]).await;
    let scores: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let tsv = succeeds(folder.path(), &["run", "job.toml", "--format", "tsv"]).await;
    let statistics = scores.iter().map(|fit| fit["statistics"].as_array().unwrap().len());
    assert_eq!(tsv.lines().count(), 1 + statistics.sum::<usize>(), "{tsv}");
    let report = ["report", "job.toml", "--store", "glmeval-store", "--out", "again"];
    succeeds(folder.path(), &report).await;
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("again/scores.csv"), read("glmeval-report/scores.csv"));
}

#[tokio::test]
async fn a_gl_m_in_two_precisions_is_compared_whatever_the_shards() {
    let mut expected = None;
    for shard_rows in [64, 23] {
        let folder = tempfile::tempdir().unwrap();
        write_small_job(folder.path(), shard_rows);
        let job = std::fs::read_to_string(folder.path().join("job.toml")).unwrap();
        let path = model().display().to_string();
        let coarse =
            format!("[[model]]\nname = \"NT in bf16\"\npath = {path:?}\nprecision = \"bf16\"\n");
        let read =
            "[[representation]]\nmodel = \"NT in bf16\"\nlayers = [4]\npooling = [\"mean\"]\n";
        std::fs::write(folder.path().join("job.toml"), job + &coarse + read).unwrap();
        succeeds(folder.path(), &["run", "job.toml", "--report", "report"]).await;
        let file = std::fs::read_to_string(folder.path().join("report/precisions.csv")).unwrap();
        let mut lines = file.lines();
        let heads: Vec<&str> = lines.next().unwrap().split(',').collect();
        let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
        let field = |row: &[&str], name: &str| {
            row[heads.iter().position(|head| *head == name).unwrap()].to_owned()
        };
        let number = |row: &[&str], name: &str| field(row, name).parse::<f64>().unwrap();
        // Logistic on one data set, ridge and least squares on the other.
        assert_eq!(rows.len(), 3, "{file}");
        for row in &rows {
            assert_eq!(field(row, "precision_coarse"), "bf16");
            assert_eq!(field(row, "vectors"), "200");
            let (mean, least) = (number(row, "cosine_mean"), number(row, "cosine_min"));
            assert!(least <= mean && mean < 1.0 && least > 0.999, "{row:?}");
            // Names of probes have commas of their own.
            let [fine, coarse, difference] =
                [3, 2, 1].map(|back| row[row.len() - back].parse::<f64>().unwrap());
            assert_eq!(difference, coarse - fine);
        }
        // The job's id tells how it was cut.
        let found: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().skip(1).map(|f| f.to_string()).collect()).collect();
        assert_eq!(&found, expected.get_or_insert(found.clone()));
    }
}
