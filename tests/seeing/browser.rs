//! The dashboard in a real browser while a real job runs.

use crate::webdriver::Browser;
use crate::world::{HOSTILE_NAME, World};
use std::path::PathBuf;

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const COMMITTED: &str = "Number(document.querySelector('.bar[aria-label=extract]')?.ariaValueNow)";

/// Where pictures of the page are left for people.
fn picture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("dashboard-{name}.png"))
}

#[tokio::test]
async fn a_running_job_is_seen_in_a_browser() {
    let Some(browser) = Browser::start("the dashboard in a browser").await else { return };
    let world = World::start(&[]).await;
    browser.size(1400, 1000).await;
    browser.prefer("light").await;
    browser.open(&format!("http://{}/", world.dashboard)).await;
    browser.wait("!document.getElementById('jobs-none').hidden").await;
    world.submit(HOSTILE_NAME).await;
    let workers = [world.worker(&[]), world.worker(&[])];
    browser.wait("document.querySelector('.job h3')").await;
    the_hostile_name_is_text(&browser).await;
    browser.wait(&format!("{COMMITTED} >= 1")).await;
    let before = browser.run(&format!("return {COMMITTED}")).await.as_u64().unwrap_or(0);
    browser.wait(&format!("{COMMITTED} > {before}")).await;
    browser.wait("document.querySelectorAll('#worker-rows tr').length === 2").await;
    browser.wait("document.querySelector('.rate .line').getAttribute('d')").await;
    browser.wait("document.getElementById('tile-spent').textContent.includes('USD')").await;
    browser.wait("!document.querySelector('.failures').hidden").await;
    a_failure_opens_by_keyboard(&browser).await;
    browser.picture(&picture("light")).await;
    the_page_follows_the_system_and_the_button(&browser).await;
    it_fits_a_small_screen(&browser).await;
    let foreign = "return performance.getEntriesByType('resource')
        .map((entry) => entry.name).filter((name) => !name.startsWith(location.origin) && !name.startsWith('data:'))";
    assert_eq!(browser.run(foreign).await, serde_json::json!([]));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    drop(workers);
    it_tells_what_it_knew_when_the_coordinator_is_gone(&browser, world).await;
    browser.quit().await;
}

async fn the_hostile_name_is_text(browser: &Browser) {
    let shown = browser.run("return document.querySelector('.job h3').textContent").await;
    assert_eq!(shown, HOSTILE_NAME);
    assert_eq!(browser.run("return document.querySelectorAll('img').length").await, 0);
    assert_eq!(browser.run("return document.title").await, "glmeval");
}

/// Tab leads to the failures, Enter opens them, and an update a second later closes nothing.
async fn a_failure_opens_by_keyboard(browser: &Browser) {
    browser.run("document.activeElement?.blur(); scrollTo(0, 0)").await;
    let mut path = Vec::new();
    for wanted in ["skip", "theme", "failures"] {
        for _ in 0..20 {
            browser.press(TAB).await;
            let at = "const at = document.activeElement;
                return `${at.id} ${at.className} ${at.parentElement?.className}`";
            let at = browser.run(at).await.as_str().unwrap_or_default().to_owned();
            path.push(at.clone());
            if at.contains(wanted) {
                break;
            }
        }
        assert!(path.last().is_some_and(|at| at.contains(wanted)), "{wanted}: {path:?}");
        let outline = "return getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(browser.run(outline).await, "solid", "focus is seen");
    }
    browser.press(ENTER).await;
    browser.wait("document.querySelector('.failures').open").await;
    browser.press(TAB).await;
    browser.press(ENTER).await;
    browser.wait("document.querySelector('.failures li details').open").await;
    let chain = "return document.querySelector('.failures pre').innerText";
    let chain = browser.run(chain).await.as_str().unwrap_or_default().to_owned();
    assert!(chain.contains("gone.tsv"), "{chain}");
    let heard = browser.run("return heardAt").await;
    browser.wait(&format!("heardAt > {heard} + 1500")).await;
    assert_eq!(
        browser.run("return document.querySelector('.failures li details').open").await,
        true
    );
    let focus = "return document.activeElement.parentElement.matches('.failures li details')";
    assert_eq!(browser.run(focus).await, true, "an update takes the focus away");
}

async fn the_page_follows_the_system_and_the_button(browser: &Browser) {
    let colour = "return getComputedStyle(document.body).backgroundColor";
    let light = browser.run(colour).await;
    browser.prefer("dark").await;
    let dark = browser.run(colour).await;
    assert_ne!(light, dark);
    browser.picture(&picture("dark")).await;
    browser.run("document.getElementById('theme').focus()").await;
    browser.press(ENTER).await;
    assert_eq!(browser.run(colour).await, light, "the button wins over the system");
    browser.press(ENTER).await;
    assert_eq!(browser.run(colour).await, dark);
}

async fn it_fits_a_small_screen(browser: &Browser) {
    browser.size(320, 900).await;
    let fits = "return document.documentElement.scrollWidth <= 320";
    assert_eq!(browser.run(fits).await, true);
    browser.picture(&picture("small")).await;
    browser.size(1400, 1000).await;
}

async fn it_tells_what_it_knew_when_the_coordinator_is_gone(browser: &Browser, world: World) {
    let World { folder, coordinator, dashboard } = world;
    let listen = coordinator.address.clone();
    coordinator.process.kill().await;
    let told = "document.getElementById('connection-text').textContent";
    browser.wait(&format!("/^connection lost \\d+ s ago/.test({told})")).await;
    the_hostile_name_is_text(browser).await;
    browser.picture(&picture("lost")).await;
    let again = World::start_in(folder, &listen, &dashboard, &[]).await;
    browser.wait(&format!("{told} === 'live'")).await;
    browser.wait("document.getElementById('coordinator').textContent.includes('epoch 2')").await;
    drop(again);
}
