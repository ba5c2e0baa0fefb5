//! Published calls of others, when they are there (`MARROWFLAG_SAMPLES`).

use std::path::{Path, PathBuf};

use super::{
    app::{TestApp, send},
    ehr::{ORDER_CHECK, SERVICE},
};

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push(path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_published_call_breaks_the_service() {
    let Some(samples) = std::env::var_os("MARROWFLAG_SAMPLES") else {
        eprintln!("skipped: MARROWFLAG_SAMPLES is not set");
        return;
    };
    let mut all = Vec::new();
    files(&Path::new(&samples).join("cds-hooks"), &mut all);
    assert!(all.len() > 50, "{}", all.len());
    let app = TestApp::spawn().await;
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for file in all {
        let bytes = std::fs::read(&file).unwrap();
        for path in [
            SERVICE,
            ORDER_CHECK,
            "/cds-services/marrowflag-cytopenia/feedback",
        ] {
            let request = app.fhir(reqwest::Method::POST, path).body(bytes.clone());
            let status = send(request).await.status.as_u16();
            assert!(
                [200, 400, 412, 413].contains(&status),
                "{} {status}",
                file.display()
            );
            *statuses.entry(status).or_default() += 1;
        }
    }
    eprintln!("{statuses:?}");
    assert!(statuses[&412] > 0, "{statuses:?}");
}
