//! Any input terminates, none panics, and the order of files changes nothing.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lazuli_check::{Config, Input, Options, Report, check, rules, walk};
use proptest::prelude::*;

fn judge(files: Vec<(&str, Vec<u8>)>) -> Report {
    let inputs = files.into_iter().map(|(p, b)| Input { path: p.into(), bytes: Ok(b) }).collect();
    check(inputs, &Options::default(), &Config::default(), &HashSet::new())
}

fn messages(r: &Report) -> Vec<String> {
    r.findings.iter().map(|f| f.message.clone()).collect()
}

#[test]
fn odd_encodings_are_said() {
    let utf16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain(
            "resource \"azurerm_kubernetes_cluster\" \"k\" {\n}\n"
                .encode_utf16()
                .flat_map(u16::to_le_bytes),
        )
        .collect();
    let r = judge(vec![
        ("utf16.tf", utf16),
        ("binary.tf", vec![0, 1, 2, 3, 0]),
        ("latin.tf", b"# caf\xe9\n".to_vec()),
        ("bom.tf", "\u{feff}locals {\n}\n".into()),
    ]);
    let m = messages(&r);
    assert!(
        m.iter().any(|m| m.contains("binary")) && m.iter().any(|m| m.contains("not UTF-8")),
        "{m:?}"
    );
    assert!(m.iter().any(|m| m.contains("Kubernetes")), "UTF-16 is read: {m:?}");
    assert_eq!(r.findings.len(), 3, "{m:?}");
}

#[test]
fn deep_and_endless_input_ends() {
    let deep = |open: &str, n: usize| open.repeat(n).into_bytes();
    judge(vec![
        ("staticwebapp.config.json", deep("[", 1_000_000)),
        (
            "azure-pipelines.yml",
            [b"steps:\n- script: a\nx: ".to_vec(), deep("[", 100_000)].concat(),
        ),
        ("pyproject.toml", [b"x = ".to_vec(), deep("[", 100_000)].concat()),
        ("a.tf", deep("a {", 100_000)),
        ("a.py", deep("f(", 300_000)),
        ("requirements.txt", deep("-", 1_000_000)),
        ("b.sh", deep("$(", 300_000)),
    ]);
}

/// What fuzzing found (`fuzz/run`), each as the kind of file that it was found in.
#[test]
fn what_fuzzing_found_ends() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions");
    let mut count = 0;
    for target in std::fs::read_dir(found).unwrap().map(|e| e.unwrap()) {
        let name = match target.file_name().to_str().unwrap() {
            "hcl" => "main.tf",
            "pipelines" => "azure-pipelines.yml",
            "manifest" => "lazuli.yaml",
            "plan" => "plan.json",
            other => panic!("{other} is no target whose inputs are one file"),
        };
        for input in std::fs::read_dir(target.path()).unwrap().map(|e| e.unwrap()) {
            count += 1;
            let began = Instant::now();
            judge(vec![(name, std::fs::read(input.path()).unwrap())]);
            // A hang took hours; without optimisation and on a busy machine this takes seconds.
            assert!(began.elapsed().as_secs() < 60, "{:?}: {:?}", input.path(), began.elapsed());
        }
    }
    assert!(count >= 3, "{count} inputs");
}

/// Four times as much takes about four times as long: a search for each among all takes sixteen.
/// Both sizes are measured in turns and the best of each counts, as the machine may be busy.
#[test]
fn time_grows_as_the_input_does() {
    type Make = fn(usize) -> Vec<(&'static str, Vec<u8>)>;
    let inputs: [(&str, usize, Make); 5] = [
        ("resources that refer to one another", 60, |n| vec![("prod/main.tf", dense(n).into())]),
        ("beginnings of a merge conflict", 20_000, |n| {
            vec![("a.tf", "<<<<<<< x\n".repeat(n).into())]
        }),
        ("a function with a long name", 20_000, |n| {
            vec![("a.tf", format!("x = {}a()\n", "a::".repeat(n)).into())]
        }),
        ("steps of a pipeline", 500, |n| {
            let steps = "- script: |\n    set -e\n    echo ok\n".repeat(n);
            vec![("azure-pipelines.yml", format!("trigger: [main]\nsteps:\n{steps}").into())]
        }),
        ("settings", 2_000, |n| {
            let one =
                |i| format!("{{\"name\": \"S{i}\", \"value\": \"v\", \"slotSetting\": false}}");
            let all: Vec<String> = (0..n).map(one).collect();
            vec![("settings.json", format!("[{}]", all.join(",")).into())]
        }),
    ];
    for (what, n, make) in inputs {
        let (mut apart, mut together) = (f64::MAX, f64::MAX);
        for _ in 0..3 {
            let began = processor_seconds();
            for _ in 0..8 {
                judge(make(n));
            }
            let between = processor_seconds();
            judge(make(8 * n));
            apart = apart.min(between - began);
            together = together.min(processor_seconds() - between);
        }
        // Were it quadratic, it would be eight times. Below a few ticks of the clock nothing is told.
        assert!(
            together < (3.5 * apart).max(0.15),
            "{what}: eight times {n} in {apart:.2} s, {} at once in {together:.2} s",
            8 * n
        );
    }
}

/// What this process has used of the processor: unlike the time of day, it is no matter how busy the
/// machine is.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has /proc");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    // utime and stime, in hundredths of a second.
    let ticks: f64 =
        fields.split_whitespace().skip(11).take(2).map(|f| f.parse::<f64>().expect("ticks")).sum();
    ticks / 100.0
}

/// What has most to do with one another, `n` times: plans, sites, slots, subnets, groups, vaults.
fn dense(n: usize) -> String {
    let one = |i: usize| {
        format!(
            r#"
resource "azurerm_service_plan" "p{i}" {{
  sku_name = "P2v3"
}}
resource "azurerm_monitor_autoscale_setting" "s{i}" {{
  target_resource_id = azurerm_service_plan.p{i}.id
}}
resource "azurerm_linux_web_app" "w{i}" {{
  service_plan_id           = azurerm_service_plan.p{i}.id
  virtual_network_subnet_id = azurerm_subnet.n{i}.id
  identity {{
    type = "SystemAssigned"
  }}
  site_config {{
  }}
  app_settings = {{
    DB = "@Microsoft.KeyVault(SecretUri=${{azurerm_key_vault_secret.k{i}.versionless_id}})"
  }}
}}
resource "azurerm_linux_web_app_slot" "t{i}" {{
  name           = "staging"
  app_service_id = azurerm_linux_web_app.w{i}.id
  site_config {{
  }}
}}
resource "azurerm_subnet" "n{i}" {{
  virtual_network_name = "v{i}"
  address_prefixes     = ["10.{}.{}.0/24"]
}}
resource "azurerm_network_security_group" "g{i}" {{
}}
resource "azurerm_subnet_network_security_group_association" "a{i}" {{
  subnet_id                 = azurerm_subnet.n{i}.id
  network_security_group_id = azurerm_network_security_group.g{i}.id
}}
resource "azurerm_key_vault" "v{i}" {{
  rbac_authorization_enabled = true
}}
resource "azurerm_key_vault_secret" "k{i}" {{
  name         = "app-db-password"
  key_vault_id = azurerm_key_vault.v{i}.id
}}
resource "azurerm_role_assignment" "r{i}" {{
  scope                = azurerm_key_vault.v{i}.id
  role_definition_name = "Key Vault Secrets User"
  principal_id         = azurerm_linux_web_app.w{i}.identity[0].principal_id
}}
resource "azurerm_private_endpoint" "e{i}" {{
  subnet_id = azurerm_subnet.n{i}.id
  private_service_connection {{
    private_connection_resource_id = azurerm_key_vault.v{i}.id
    subresource_names              = ["vault"]
  }}
}}
resource "azurerm_postgresql_flexible_server" "d{i}" {{
  delegated_subnet_id = azurerm_subnet.n{i}.id
}}
resource "azurerm_postgresql_flexible_server_configuration" "c{i}" {{
  name      = "pgbouncer.enabled"
  server_id = azurerm_postgresql_flexible_server.d{i}.id
}}
resource "azurerm_monitor_diagnostic_setting" "m{i}" {{
  target_resource_id = azurerm_linux_web_app.w{i}.id
}}
resource "azurerm_monitor_metric_alert" "ma{i}" {{
  scopes = [azurerm_linux_web_app.w{i}.id]
  criteria {{
    metric_name = "Http5xx"
  }}
}}
"#,
            i / 250 % 250,
            i % 250
        )
    };
    (0..n).map(one).collect()
}

#[test]
fn links_in_a_circle_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("main.tf"), "locals {}\n").unwrap();
    std::fs::create_dir(dir.path().join("a")).unwrap();
    std::os::unix::fs::symlink("..", dir.path().join("a/up")).unwrap();
    std::os::unix::fs::symlink("self", dir.path().join("self")).unwrap();
    std::os::unix::fs::symlink("../main.tf", dir.path().join("a/main.tf")).unwrap();
    let mut found: Vec<PathBuf> =
        walk::collect(&[".".into()], dir.path()).unwrap().into_iter().map(|i| i.path).collect();
    found.sort();
    assert_eq!(found, [PathBuf::from("a/main.tf"), PathBuf::from("main.tf")]);
}

#[test]
fn a_huge_file_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let f = std::fs::File::create(dir.path().join("huge.tf")).unwrap();
    f.set_len(100 << 20).unwrap();
    let inputs = walk::collect(&[".".into()], dir.path()).unwrap();
    assert!(inputs[0].bytes.as_ref().unwrap_err().contains("100 MiB"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_examples_terminate(rule in 0usize..1000, at in 0.0f64..1.0, len in 0usize..30, with in "[\\[\\](){}\"'$%<>=:#&*|\\n,. \\-a-z\u{e9}\u{1F600}]{0,8}") {
        let all: Vec<_> = rules::all().collect();
        let r = all[rule % all.len()];
        for example in [r.bad, r.good] {
            let files = example.iter().map(|(p, t)| {
                let mut t = (*t).to_owned();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a text")]
                let mut start = (at * t.len() as f64) as usize;
                while !t.is_char_boundary(start) { start -= 1; }
                let mut end = (start + len).min(t.len());
                while !t.is_char_boundary(end) { end += 1; }
                t.replace_range(start..end, &with);
                (*p, t.into_bytes())
            }).collect();
            let report = judge(files);
            for f in &report.findings {
                let s = report.project.sources.get(f.span.file);
                prop_assert!((f.span.end as usize) <= s.text.len() && f.span.start <= f.span.end, "{}: {:?}", f.rule.id, f.span);
                prop_assert!(s.text.is_char_boundary(f.span.start as usize) && s.text.is_char_boundary(f.span.end as usize));
            }
            let _ = lazuli_check::output::human::findings(&report, false, None);
            let _ = lazuli_check::output::human::fixes(&report);
            let _ = lazuli_check::output::sarif::render(&report);
        }
    }

    #[test]
    fn any_bytes_terminate(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        judge(["a.tf", "b.yml", "staticwebapp.config.json", "settings.job", "a.py", "requirements.txt", "pyproject.toml", "s.sh", ".env", "x.tfvars"].into_iter().map(|p| (p, bytes.clone())).collect());
    }
}
