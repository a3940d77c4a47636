//! Log Analytics: queries.
//! <https://learn.microsoft.com/azure/azure-monitor/logs/api/overview>

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::client::{Client, Request, encode};
use crate::{Error, ResourceId};

const HOST: &str = "https://api.loganalytics.azure.com";
/// The API's scope, whichever of its hosts is asked.
const SCOPE: &str = "https://api.loganalytics.io/.default";
const WORKSPACES_API: &str = "2023-09-01";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    tables: Vec<Table>,
    /// Present beside the tables when they are not all there is.
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
}

impl Client {
    /// Asks a workspace (a resource) a query in Kusto's language: the rows of its first table, each by
    /// the names of its columns. A partial answer is an error.
    pub async fn query_logs(
        &self,
        workspace: &ResourceId,
        query: &str,
    ) -> Result<Vec<Map<String, Value>>, Error> {
        let resource = self.get(workspace, WORKSPACES_API).await?;
        let customer = resource["properties"]["customerId"].as_str().unwrap_or_default();
        let url = format!("{HOST}/v1/workspaces/{}/query", encode(customer));
        let request = Request::new(Method::POST, url, SCOPE).json(&json!({ "query": query }));
        let answer: Answer = self.send(&request).await?.parse()?;
        if let Some(error) = answer.error {
            let what = error["message"].as_str().unwrap_or("only a part of the rows").to_owned();
            return Err(Error::Unexpected { url: request.place(), what });
        }
        let Some(table) = answer.tables.into_iter().next() else { return Ok(Vec::new()) };
        let names: Vec<String> = table.columns.into_iter().map(|column| column.name).collect();
        Ok(table.rows.into_iter().map(|row| names.iter().cloned().zip(row).collect()).collect())
    }
}
