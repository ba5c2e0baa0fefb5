//! Asking a running service to change something: it alone writes.

use std::time::Duration;

use serde_json::Value;

use super::{Exit, complain, print};

/// Time for the service to answer; a large copy takes a while.
const PATIENCE: Duration = Duration::from_hours(1);
/// Time for it to be there at all.
const CONNECT: Duration = Duration::from_secs(5);

/// Posts to the admin API and says what came of it; `what` begins a complaint.
pub(super) async fn ask(
    server: &reqwest::Url,
    path: &str,
    body: Option<&Value>,
    what: &str,
    done: impl FnOnce(&Value) -> String,
) -> Exit {
    let url = format!("{}/admin/{path}", server.as_str().trim_end_matches('/'));
    let answer = async {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(PATIENCE)
            .build()?;
        let mut request = client.post(url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let success = answer.status().is_success();
        Ok::<_, reqwest::Error>((success, answer.json::<Value>().await?))
    };
    match answer.await {
        Ok((true, answer)) => print(done(&answer)),
        Ok((false, outcome)) => {
            let text = outcome
                .pointer("/issue/0/details/text")
                .and_then(Value::as_str);
            complain(format!("{what}: {}", text.unwrap_or("refused")));
            Exit::Failed
        }
        Err(error) => {
            complain(format!("{server}: {}", error.without_url()));
            Exit::Io
        }
    }
}
