use proptest::strategy::Strategy as _;

use super::*;

fn now() -> Timestamp {
    "2026-11-27T12:00:00Z".parse().expect("a time")
}

fn rows() -> Vec<Vec<Value>> {
    let record = |hour: u8, operation: &str, status: u16, secret: &str| {
        json!({
            "time": format!("2026-11-27T{hour:02}:00:00Z"), "category": "AuditEvent", "operationName": operation,
            "resultType": if status < 300 { "Success" } else { "Failure" },
            "resourceId": "/subscriptions/S/resourceGroups/G/providers/Microsoft.KeyVault/vaults/notes-kv",
            "callerIpAddress": "127.0.0.1", "identity": {"claim": {"oid": "o", "appid": "a"}},
            "properties": {"id": format!("https://notes-kv.vault.azure.net/secrets/{secret}"), "httpStatusCode": status},
        })
    };
    [
        record(8, "SecretGet", 200, "jwt-secret"),
        record(9, "SecretGet", 403, "jwt-secret"),
        record(10, "SecretSet", 200, "salt"),
        record(11, "SecretList", 404, ""),
    ]
    .iter()
    .map(|record| Table::Diagnostics.row(record, "c1"))
    .collect()
}

fn ask(text: &str) -> Answer {
    parse(text, now()).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}")).run(rows())
}

fn operations(text: &str) -> Vec<String> {
    let answer = ask(&format!("{text} | project OperationName"));
    answer.rows.iter().map(|row| row[0].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn conditions_choose_rows() {
    for (condition, expected) in [
        (r#"OperationName == "SecretGet""#, 2),
        (r#"OperationName == "secretget""#, 0),
        (r#"OperationName =~ "secretget""#, 2),
        (r#"OperationName != "SecretGet""#, 2),
        (r#"OperationName !~ "secretget""#, 2),
        ("OperationName in ('SecretGet', 'SecretSet')", 3),
        ("OperationName in~ ('secretset')", 1),
        ("id_s contains 'JWT'", 2),
        ("id_s !contains 'jwt'", 2),
        ("id_s has 'secret'", 2),
        ("id_s has 'secre'", 0),
        ("OperationName startswith 'secretl'", 1),
        ("id_s endswith 'SALT'", 1),
        ("httpStatusCode_d >= 300", 2),
        ("httpStatusCode_d < 300 and OperationName == 'SecretSet'", 1),
        ("httpStatusCode_d == 403 or httpStatusCode_d == 404", 2),
        (
            "httpStatusCode_d == 200 and (OperationName == 'SecretSet' or OperationName == 'SecretList')",
            1,
        ),
        ("not(httpStatusCode_d == 200)", 2),
        ("TimeGenerated > ago(2h30m)", 0),
        ("TimeGenerated >= ago(2h)", 2),
        ("TimeGenerated between (1)", 0),
        ("TimeGenerated < datetime(2026-11-27T09:00:00Z)", 1),
        ("TimeGenerated < datetime(2026-11-28)", 4),
        ("TimeGenerated >= '2026-11-27T10:00:00Z'", 2),
        ("TimeGenerated < now()", 4),
        ("isempty(ResultDescription)", 4),
        ("isnotempty(CallerIPAddress)", 4),
        ("ResourceProvider == 'MICROSOFT.KEYVAULT' and Category == 'AuditEvent'", 4),
        (
            "_ResourceId == '/subscriptions/s/resourcegroups/g/providers/microsoft.keyvault/vaults/notes-kv'",
            4,
        ),
        ("ResultSignature == \"Forbidden\"", 1),
    ] {
        let text = format!("AzureDiagnostics | where {condition}");
        match parse(&text, now()) {
            Ok(query) => assert_eq!(query.run(rows()).rows.len(), expected, "{condition}"),
            // What is not understood is refused, and answers nothing.
            Err(_) => assert_eq!(expected, 0, "{condition}"),
        }
    }
}

#[test]
fn rows_are_ordered_cut_counted_and_their_columns_chosen() {
    let newest = "AzureDiagnostics // the newest\n| order by TimeGenerated | take 2";
    assert_eq!(operations(newest), ["SecretList", "SecretSet"]);
    assert_eq!(operations("AzureDiagnostics | sort by TimeGenerated asc | limit 1"), ["SecretGet"]);
    assert_eq!(
        operations("AzureDiagnostics | top 2 by httpStatusCode_d desc"),
        ["SecretList", "SecretGet"]
    );
    let answer = ask("AzureDiagnostics | project When = TimeGenerated, httpStatusCode_d | take 1");
    assert_eq!(
        answer.columns,
        [("When".to_owned(), Type::Time), ("httpStatusCode_d".to_owned(), Type::Real)]
    );
    assert_eq!(answer.rows, [[json!("2026-11-27T08:00:00.0000000Z"), json!(200)]]);
    let answer = ask("AzureDiagnostics | where httpStatusCode_d == 200 | count");
    assert_eq!((answer.columns[0].0.as_str(), &answer.rows[0][0]), ("Count", &json!(2)));
}

#[test]
fn what_is_wrong_is_said_in_azures_words() {
    let wrong = |text: &str| parse(text, now()).expect_err(text).body()["innererror"].clone();
    let said = wrong("completely invalid syntax");
    assert_eq!(said["message"], "Query could not be parsed at 'invalid' on line [1,11]");
    let said = wrong("AzureDiagnostics wher");
    assert_eq!(said["code"], "SYN0002");
    assert_eq!(said["message"], "Query could not be parsed at 'wher' on line [1,17]");
    let said = wrong("Heartbeat | take 1");
    assert_eq!(
        said["message"],
        "'take' operator: Failed to resolve table or column expression named 'Heartbeat'"
    );
    let said = wrong("AzureDiagnostics\n| where Nope == 1");
    assert_eq!(
        said["message"],
        "'where' operator: Failed to resolve scalar expression named 'Nope'"
    );
    let said = wrong("AzureDiagnostics | summarize count() by OperationName");
    assert!(said["message"].as_str().expect("a text").contains("'summarize' operator"), "{said}");
    let said = wrong("AzureDiagnostics | where httpStatusCode_d == 'x'");
    assert!(said["message"].as_str().expect("a text").contains("types real and string"), "{said}");
    for text in [
        "",
        "|",
        "AzureDiagnostics |",
        "AzureDiagnostics | take",
        "AzureDiagnostics | take -1",
        "AzureDiagnostics | where",
        "AzureDiagnostics | where (Category == 'a'",
        "AzureDiagnostics | where Category ==",
        "AzureDiagnostics | where Category == 'a",
        "AzureDiagnostics | order TimeGenerated",
        "AzureDiagnostics | project",
        "AzureDiagnostics; drop",
        "AzureDiagnostics | where TimeGenerated > ago(1y)",
        "AzureDiagnostics | where TimeGenerated > ago(",
        "AzureDiagnostics | where Category in ()",
        "AzureDiagnostics | take 1e99",
        "\u{0}",
        "AzureDiagnostics | where Category == \"\\",
    ] {
        parse(text, now()).expect_err(text);
    }
}

#[test]
fn a_query_that_is_too_deep_or_too_long_ends() {
    let deep =
        format!("AzureDiagnostics | where {}Category == 'a'{}", "(".repeat(9999), ")".repeat(9999));
    parse(&deep, now()).expect_err("too deep");
    let nots = format!(
        "AzureDiagnostics | where {}Category == 'a'{}",
        "not(".repeat(9999),
        ")".repeat(9999)
    );
    parse(&nots, now()).expect_err("too deep");
    parse(&"AzureDiagnostics ".repeat(9999), now()).expect_err("too long");
    let wide =
        format!("AzureDiagnostics | where {}Category == 'a'", "Category == 'b' or ".repeat(1000));
    parse(&wide, now()).expect("many are fine");
}

proptest::proptest! {
    #[test]
    fn no_query_is_more_than_refused(
        words in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::sample::select(vec![
                    "AzureDiagnostics", "|", "where", "project", "take", "order", "by", "top", "count", "(", ")", ",",
                    "==", "=~", "in", "!contains", "has", "and", "or", "not", "ago", "1h", "3", "'a'", "\"", "@'",
                    "datetime", "2026-11-27", "OperationName", "TimeGenerated", "httpStatusCode_d", "=", "//", "\n",
                ]).prop_map(str::to_owned),
                "\\PC{0,4}",
            ],
            0..24,
        )
    ) {
        for text in [words.join(" "), format!("AzureDiagnostics | where {}", words.join(" "))] {
            match parse(&text, now()) {
                Ok(query) => drop(query.run(rows())),
                Err(wrong) => drop(wrong.body()),
            }
        }
    }
}
