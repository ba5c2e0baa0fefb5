//! The page for a newcomer.

use crate::app::{TestApp, batch, pancytopenia};

#[tokio::test]
async fn the_page_lists_findings_and_loads_nothing_from_elsewhere() {
    let app = TestApp::spawn().await;
    app.post("/fhir", &batch(&pancytopenia("p1"))).await;
    let page = app.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    assert!(page.text.contains("ancytopenia"), "{}", page.text);
    assert!(page.text.contains("not a medical device"), "{}", page.text);
    for asset in ["/console.css", "/console.js"] {
        assert!(page.text.contains(asset));
        assert_eq!(app.get(asset).await.status, 200);
    }
    for elsewhere in [
        "src=\"http",
        "href=\"http",
        "src=\"//",
        "style=\"",
        "<script>",
    ] {
        assert!(!page.text.contains(elsewhere), "{elsewhere}");
    }
}

#[tokio::test]
async fn what_a_sender_wrote_cannot_become_part_of_the_page() {
    let app = TestApp::spawn().await;
    let mut results = pancytopenia("p1");
    results[0]["identifier"][0]["value"] = "<script>alert(1)</script>".into();
    let answer = app.post("/fhir", &batch(&results)).await;
    assert_eq!(answer.status, 200);
    let page = app.get("/").await;
    assert!(!page.text.contains("<script>alert"), "{}", page.text);
}
