//! The report of the whole study in a real browser, and how large it is.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::study::Study;
use crate::webdriver::Browser;
use glmeval_worker::report::{ReportFile, ReportInput, render};
use std::path::{Path, PathBuf};

const MIB: usize = 1 << 20;

/// Where the page and its pictures are left for people.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("report")
}

fn rendered(study: &Study) -> Vec<ReportFile> {
    let cost = [("Device time of the results".to_owned(), "61.2 h cpu".to_owned())];
    let failed = ["rep-cnn on full of HepG2: out of <memory>".to_owned()];
    let Study { plan, fits, attributions } = study;
    render(&ReportInput { plan, fits, attributions, precisions: &[], failed: &failed, cost: &cost })
        .unwrap()
}

fn size(files: &[ReportFile], name: &str) -> usize {
    files.iter().find(|file| file.name == name).unwrap().bytes.len()
}

#[test]
fn the_report_of_the_whole_grid_stays_small() {
    let study = Study::new("All of it");
    assert!(study.fits.len() > 5_000, "{}", study.fits.len());
    let with_predictions = study.fits.iter().filter(|fit| !fit.predictions.ids.is_empty()).count();
    assert!(with_predictions < 2_500, "{with_predictions} predictions are read");
    let files = rendered(&study);
    assert!(size(&files, "report.html") < 8 * MIB, "{}", size(&files, "report.html"));
    let figures = files.iter().filter(|file| file.name.ends_with(".svg"));
    assert!(figures.clone().count() > 100);
    for figure in figures {
        assert!(figure.bytes.len() < MIB / 4, "{}: {}", figure.name, figure.bytes.len());
    }
    for table in ["agreement", "attributions", "orderings", "scores", "summary", "comparisons"] {
        assert!(size(&files, &format!("{table}.csv")) > 0);
        assert!(size(&files, &format!("{table}.parquet")) > 0);
    }
}

#[tokio::test]
async fn the_report_is_read_in_a_browser() {
    let Some(browser) = Browser::start("the report in a browser").await else { return };
    let folder = folder();
    std::fs::create_dir_all(folder.join("figures")).unwrap();
    for file in rendered(&Study::new("The whole study <made up>")) {
        std::fs::write(folder.join(&file.name), &file.bytes).unwrap();
    }
    browser.size(1_280, 1_000).await;
    browser.prefer("light").await;
    browser.open(&format!("file://{}/report.html", folder.display())).await;
    browser.wait("document.querySelector('th button')").await;
    assert_eq!(browser.run("return document.title").await, "The whole study <made up>");
    browser.picture(&folder.join("light.png")).await;
    every_task_has_its_place(&browser).await;
    tables_are_sorted_by_their_heads(&browser).await;
    figures_are_saved(&browser).await;
    logos_stand_beside_their_correlations(&browser, &folder, "light").await;
    let light = browser.run("return getComputedStyle(document.body).backgroundColor").await;
    browser.prefer("dark").await;
    let dark = browser.run("return getComputedStyle(document.body).backgroundColor").await;
    assert_ne!(light, dark);
    browser.picture(&folder.join("dark.png")).await;
    logos_stand_beside_their_correlations(&browser, &folder, "dark").await;
    it_fits_a_phone(&browser, &folder).await;
    let fetched = "return performance.getEntriesByType('resource').map((entry) => entry.name)
        .filter((name) => !name.startsWith('data:') && !name.startsWith('blob:'))";
    assert_eq!(browser.run(fetched).await, serde_json::json!([]));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}

async fn every_task_has_its_place(browser: &Browser) {
    let tasks =
        "return [...document.querySelectorAll('.card h3 a')].map((link) => link.hash.slice(1))";
    let tasks = browser.run(tasks).await;
    let expected = ["lenti-mpra", "chip-seq", "variant-effect", "splicing", "insert-seq", "eclip"];
    assert_eq!(tasks, serde_json::json!(expected));
    let counts = "return [...document.querySelectorAll('.card')].every((card) =>
        document.querySelector(card.querySelector('a').hash) && /\\d+ agree/.test(card.textContent))";
    assert_eq!(browser.run(counts).await, true);
    // A link to a folded data set opens it.
    browser.run("location.hash = 'd3'").await;
    browser.wait("document.getElementById('d3').closest('details').open").await;
}

/// Maps of both gLMs of a sequence are one figure; verdicts are those of the published correlations.
async fn logos_stand_beside_their_correlations(browser: &Browser, folder: &Path, theme: &str) {
    let verdicts =
        "const heading = document.getElementById('chip-seq-maps'); heading.scrollIntoView();
        const rows = [...heading.nextElementSibling.querySelectorAll('tbody tr')];
        return rows.map((row) => row.cells[0].dataset.v)";
    let verdicts = browser.run(verdicts).await;
    let verdicts = verdicts.as_array().unwrap();
    assert!(verdicts.len() == 4 && verdicts.iter().any(|one| one == "agrees"), "{verdicts:?}");
    browser.picture(&folder.join(format!("maps-{theme}.png"))).await;
    let shown = "const logos = [...document.querySelectorAll('#chip-seq figure svg')]
            .filter((svg) => svg.querySelector('path.la'));
        logos[0].scrollIntoView();
        return [logos.length, logos[0].querySelectorAll('path[class^=l]').length,
            logos[0].getBoundingClientRect().right <= innerWidth,
            getComputedStyle(logos[0].querySelector('.lc')).fill]";
    let shown = browser.run(shown).await;
    assert_eq!((&shown[0], &shown[2]), (&3.into(), &true.into()), "{shown}");
    // Five tracks of 80 letters, but for those that nobody would see.
    assert!((200..=400).contains(&shown[1].as_u64().unwrap()), "{shown}");
    let blue = if theme == "dark" { "rgb(86, 180, 233)" } else { "rgb(0, 114, 178)" };
    assert_eq!(shown[3], blue);
    browser.picture(&folder.join(format!("logo-{theme}.png"))).await;
    browser.run("scrollTo(0, 0)").await;
}

async fn tables_are_sorted_by_their_heads(browser: &Browser) {
    let table = "const table = document.querySelector('#lenti-mpra table');
        const heads = [...table.tHead.rows[0].cells];
        const column = heads.findIndex((head) => head.textContent.startsWith('Obtained'));
        const shown = () => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.v).join();";
    let before = browser.run(&format!("{table} return shown()")).await;
    let sorted = |sign: &str| {
        format!(
            "{table} heads[column].querySelector('button').click();
             const values = shown().split(',').map(Number);
             return values.every((value, i) => i === 0 || {sign} * (value - values[i - 1]) >= 0)
                 && heads[column].ariaSort"
        )
    };
    assert_eq!(browser.run(&sorted("-1")).await, "descending");
    assert_eq!(browser.run(&sorted("1")).await, "ascending");
    let third = format!("{table} heads[column].querySelector('button').click(); return shown()");
    assert_eq!(browser.run(&third).await, before, "the third click brings the first order back");
}

async fn figures_are_saved(browser: &Browser) {
    let link = "const link = document.querySelector('figure .save');
        link.addEventListener('click', (event) => event.preventDefault()); link.click(); return link.href";
    let address = browser.run(link).await;
    assert!(address.as_str().unwrap().starts_with("blob:"), "{address}");
    let all = "return [...document.querySelectorAll('figure')].every((figure) =>
        figure.querySelector('svg title').textContent && figure.querySelector('.save').download.endsWith('.svg'))";
    assert_eq!(browser.run(all).await, true);
}

async fn it_fits_a_phone(browser: &Browser, folder: &Path) {
    browser.size(390, 844).await;
    browser
        .run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        .await;
    let fits = "return document.documentElement.scrollWidth";
    assert!(browser.run(fits).await.as_u64().unwrap() <= 390);
    browser.run("location.hash = ''; scrollTo(0, 0)").await;
    browser.picture(&folder.join("phone-dark.png")).await;
    browser.prefer("light").await;
    browser.picture(&folder.join("phone-light.png")).await;
}
