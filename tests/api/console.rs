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

#[tokio::test]
async fn each_finding_leads_to_the_counts_of_its_patient() {
    let app = TestApp::spawn().await;
    let mut results = pancytopenia("p1");
    results[0]["identifier"][0]["value"] = "<b>7</b>".into();
    app.post("/fhir", &batch(&results)).await;
    let list = app.get("/").await;
    let place = list.text.split("href=\"/patients/").nth(1).unwrap();
    let number = place.split('"').next().unwrap();
    let page = app.get(&format!("/patients/{number}")).await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    for said in [
        "Patient/p1",
        "Haemoglobin (g/L)",
        "Platelets (x10^9/L)",
        "low below",
        "class=\"low\"",
        "not a diagnosis",
        "/fhir/Flag/mf-",
    ] {
        assert!(page.text.contains(said), "{said}: {}", page.text);
    }
    for never in ["<b>7</b>", "style=\"", "<script>", "src=\"http"] {
        assert!(!page.text.contains(never), "{never}");
    }
    for nobody in [
        "/patients/4711",
        "/patients/x",
        "/patients/-1",
        "/patients/99999999999999999999",
    ] {
        assert_eq!(app.get(nobody).await.status, 404, "{nobody}");
    }
}
