//! Who may look at the dashboard, and what it tells browsers.

use crate::world::World;
use glmeval_tests::glmeval::{command, ended};
use glmeval_tests::http::{get, request};

const TOKEN: &str = "correct horse battery staple";

#[tokio::test]
async fn with_a_token_nothing_but_health_is_told_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
    let token_file = token_file.display().to_string();
    let world = World::start(&["--dashboard-token-file", &token_file]).await;
    let at = &world.dashboard;
    for path in ["/overview.json", "/events", "/metrics", "/script.js"] {
        assert_eq!(get(at, path).await.status, 401, "{path}");
    }
    let page = get(at, "/").await;
    assert_eq!((page.status, page.header("location")), (303, "/login"));
    assert_eq!(get(at, "/healthz").await.status, 200);
    assert_eq!(get(at, "/readyz").await.status, 200);
    let bearer = [&format!("Authorization: Bearer {TOKEN}")[..]];
    assert_eq!(request(at, "GET", "/metrics", &bearer, "").await.unwrap().status, 200);
    let wrong = request(at, "POST", "/login", &[], "token=wrong").await.unwrap();
    assert_eq!(wrong.status, 401);
    assert!(wrong.body.contains("not the token"));
    let form = format!("token={}", TOKEN.replace(' ', "+"));
    let right = request(at, "POST", "/login", &[], &form).await.unwrap();
    let cookie = right.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("correct"), "{cookie}");
    let session = format!("Cookie: {}", cookie.split(';').next().unwrap());
    assert_eq!(request(at, "GET", "/", &[&session], "").await.unwrap().status, 200);
    request(at, "POST", "/logout", &[&session], "").await.unwrap();
    assert_eq!(request(at, "GET", "/", &[&session], "").await.unwrap().status, 303);
}

#[tokio::test]
async fn off_loopback_without_a_token_the_dashboard_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        ["coordinator", "--listen", "127.0.0.1:0", "--store", "s", "--dashboard", "0.0.0.0:0"];
    let ended = ended(command(folder.path(), &arguments)).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("expected a loopback address or a token file"), "{ended:?}");
}

#[tokio::test]
async fn a_browser_is_told_to_trust_nothing_from_elsewhere() {
    let world = World::start(&[]).await;
    let page = get(&world.dashboard, "/").await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    for forbidden in ["http://", "https://", " style=", "onclick=", "<script>"] {
        let body = page.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!body.contains(forbidden), "{forbidden}");
    }
    let foreign = request(&world.dashboard, "GET", "/", &["Host: evil.example"], "").await;
    assert_eq!(foreign.unwrap().status, 401);
}
