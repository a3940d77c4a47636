//! The gate *review*: the commit came in by a pull request that somebody approved. Asked of GitHub or of
//! Azure DevOps where their own variables configure it, else recorded as not checked.
//!
//! <https://docs.github.com/rest/commits/commits#list-pull-requests-associated-with-a-commit>,
//! <https://learn.microsoft.com/rest/api/azure/devops/git/pull-request-query/get>.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Answer, Subject, Verdict};

const LIMIT: Duration = Duration::from_secs(20);

pub(super) async fn ask(subject: &Subject<'_>) -> Answer {
    let Some(commit) = &subject.package.origin.commit else {
        return Answer::not_checked("the project is not under version control");
    };
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    // The names under which GitHub Actions and Azure Pipelines hand these to a job.
    if let (Some(repository), Some(token)) = (set("GITHUB_REPOSITORY"), set("GITHUB_TOKEN")) {
        let api = set("GITHUB_API_URL").unwrap_or_else(|| "https://api.github.com".to_owned());
        return github(subject, &api, &repository, &token, commit).await;
    }
    if let (Some(collection), Some(project), Some(repository), Some(token)) = (
        set("SYSTEM_COLLECTIONURI"),
        set("SYSTEM_TEAMPROJECT"),
        set("BUILD_REPOSITORY_NAME"),
        set("SYSTEM_ACCESSTOKEN"),
    ) {
        let base = format!(
            "{}/{project}/_apis/git/repositories/{repository}",
            collection.trim_end_matches('/')
        );
        return devops(subject, &base, &token, commit).await;
    }
    Answer::not_checked("no provider of reviews is configured")
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Value, String> {
    let answer = request
        .header("User-Agent", "lazuli")
        .timeout(LIMIT)
        .send()
        .await
        .map_err(|error| error.without_url().to_string())?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("it answered {status}"));
    }
    answer.json().await.map_err(|error| error.without_url().to_string())
}

fn unknown(error: &str) -> Answer {
    Answer::new(Verdict::Failed, format!("the provider of reviews: {error}"), Value::Null)
}

async fn github(
    subject: &Subject<'_>,
    api: &str,
    repository: &str,
    token: &str,
    commit: &str,
) -> Answer {
    let http = match subject.cloud.client().outside() {
        Ok(http) => http,
        Err(error) => return unknown(&error.to_string()),
    };
    let get = |path: String| {
        answer(http.get(format!("{api}/repos/{repository}{path}")).bearer_auth(token))
    };
    let pulls = match get(format!("/commits/{commit}/pulls")).await {
        Ok(pulls) => pulls,
        Err(error) => return unknown(&error),
    };
    let merged = pulls.as_array().into_iter().flatten().find(|pull| !pull["merged_at"].is_null());
    let Some(number) = merged.and_then(|pull| pull["number"].as_u64()) else {
        let what = "the commit was not merged by a pull request";
        return Answer::new(Verdict::Failed, what, json!({ "commit": commit }));
    };
    let reviews = match get(format!("/pulls/{number}/reviews")).await {
        Ok(reviews) => reviews,
        Err(error) => return unknown(&error),
    };
    let by = |state: &str| -> Vec<String> {
        let all = reviews.as_array().into_iter().flatten();
        all.filter(|review| review["state"] == state)
            .filter_map(|review| Some(review["user"]["login"].as_str()?.to_owned()))
            .collect()
    };
    judged(number, &by("APPROVED"))
}

async fn devops(subject: &Subject<'_>, base: &str, token: &str, commit: &str) -> Answer {
    let http = match subject.cloud.client().outside() {
        Ok(http) => http,
        Err(error) => return unknown(&error.to_string()),
    };
    let query = json!({ "queries": [{ "type": "lastMergeCommit", "items": [commit] }] });
    let url = format!("{base}/pullrequestquery?api-version=7.1");
    let found = match answer(http.post(url).bearer_auth(token).json(&query)).await {
        Ok(found) => found,
        Err(error) => return unknown(&error),
    };
    let pull = found.pointer("/results/0").and_then(|by_commit| by_commit.get(commit)?.get(0));
    let Some(number) = pull.and_then(|pull| pull["pullRequestId"].as_u64()) else {
        let what = "the commit was not merged by a pull request";
        return Answer::new(Verdict::Failed, what, json!({ "commit": commit }));
    };
    // 10: approved, 5: approved with suggestions.
    let url = format!("{base}/pullRequests/{number}/reviewers?api-version=7.1");
    let reviewers = match answer(http.get(url).bearer_auth(token)).await {
        Ok(reviewers) => reviewers,
        Err(error) => return unknown(&error),
    };
    let approved: Vec<String> = reviewers["value"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|reviewer| reviewer["vote"].as_i64().is_some_and(|vote| vote >= 5))
        .filter_map(|reviewer| Some(reviewer["displayName"].as_str()?.to_owned()))
        .collect();
    judged(number, &approved)
}

fn judged(number: u64, approved: &[String]) -> Answer {
    let evidence = json!({ "pullRequest": number, "approvedBy": approved });
    if approved.is_empty() {
        let what = format!("pull request {number} was merged without an approval");
        return Answer::new(Verdict::Failed, what, evidence);
    }
    let what = format!("pull request {number}, approved by {}", approved.join(", "));
    Answer::new(Verdict::Passed, what, evidence)
}
