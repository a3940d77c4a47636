//! No containers, no AKS, no Functions as a back end; with the standard's exceptions.

use super::{Got, SITE, SITES, get};
use crate::rule::{
    Check, Rule,
    Severity::{Error, Warning},
};

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-PLT-001",
        section: "No Containers",
        erratum: None,
        severity: Warning,
        title: "Apps run on the platform's Python, not in a container",
        why: "A container brings an image to build, scan and patch. A project that needs one for other reasons uses Container Apps.",
        fix: "Use `application_stack { python_version = \"3.14\" }`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  site_config {\n    application_stack {\n      docker_image_name = \"notes:latest\"\n    }\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_container_app\" \"gpu\" {\n  name = \"needs-a-gpu\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                for path in [
                    "site_config.application_stack.docker_image_name",
                    "site_config.application_stack.docker_image",
                    "site_config.linux_fx_version",
                ] {
                    if let Got::Written(e) = get(r, path) {
                        let t = e.value.known_text();
                        if path.ends_with("fx_version")
                            && !t.to_ascii_uppercase().starts_with("DOCKER")
                            && !t.to_ascii_uppercase().starts_with("COMPOSE")
                        {
                            continue;
                        }
                        o.entry(e, "a container on App Service: the standard runs native Python, and containers on Container Apps");
                    }
                }
                o.judged();
            }
        }),
    },
    Rule {
        id: "LZ-PLT-002",
        section: "No Containers",
        erratum: None,
        severity: Error,
        title: "No Kubernetes cluster",
        why: "A cluster is a platform to operate. The exception is an organisation that already operates one.",
        fix: "Use App Service; for containers Container Apps. Where the organisation runs AKS already, suppress this with that reason.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_kubernetes_cluster\" \"aks\" {\n  name = \"aks\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_container_app_environment\" \"env\" {\n  name = \"env\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&["azurerm_kubernetes_cluster"]) {
                o.at(r.header, "a Kubernetes cluster: the standard excludes it unless the organisation already operates one");
            }
        }),
    },
    Rule {
        id: "LZ-PLT-003",
        section: "No Azure Functions for API Backends",
        erratum: Some(10),
        severity: Warning,
        title: "Functions complement the back end and are not it",
        why: "Cold starts, limited WebSockets and hard debugging. (The 230 s limit is no argument: App Service's front end has it too.)",
        fix: "Serve the API from App Service; keep Functions for webhooks and queues.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_function_app\" \"api\" {\n  name = \"notes-api\"\n}\nresource \"azurerm_static_web_app_function_app_registration\" \"api\" {\n  function_app_id = azurerm_linux_function_app.api.id\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  name = \"notes\"\n}\nresource \"azurerm_linux_function_app\" \"webhook\" {\n  name = \"notes-webhook\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            let backend = s.any(SITE);
            for r in s.all(&[
                "azurerm_linux_function_app",
                "azurerm_windows_function_app",
                "azurerm_function_app",
                "azurerm_function_app_flex_consumption",
            ]) {
                let name = format!(
                    "{} {}",
                    r.name,
                    r.get("name").map(lazuli_hcl::Value::known_text).unwrap_or_default()
                )
                .to_ascii_lowercase();
                let api = name
                    .split(|c: char| !c.is_ascii_alphanumeric())
                    .any(|w| matches!(w, "api" | "backend"));
                let linked = s
                    .referring(r)
                    .any(|x| &*x.kind == "azurerm_static_web_app_function_app_registration");
                if linked || (api && !backend) {
                    o.at(r.header, "a function app as the API's back end");
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-PLT-004",
        section: "Managed Services First",
        erratum: None,
        severity: Warning,
        title: "Supporting services are managed ones",
        why: "A database on a virtual machine is patched, backed up and failed over by hand.",
        fix: "Use the managed service.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_virtual_machine\" \"postgres\" {\n  name = \"vm-postgres\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_virtual_machine\" \"agent\" {\n  name = \"vm-build-agent\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&[
                "azurerm_linux_virtual_machine",
                "azurerm_windows_virtual_machine",
                "azurerm_virtual_machine",
            ]) {
                let name = format!(
                    "{} {}",
                    r.name,
                    r.get("name").map(lazuli_hcl::Value::known_text).unwrap_or_default()
                )
                .to_ascii_lowercase();
                match ["postgres", "pgsql", "redis", "rabbitmq", "nginx", "vault"]
                    .into_iter()
                    .find(|w| name.contains(w))
                {
                    Some(w) => {
                        o.at(
                            r.header,
                            format!("{w} on a virtual machine: Azure has it as a managed service"),
                        );
                    }
                    None => o.judged(),
                }
            }
        }),
    },
    Rule {
        id: "LZ-PLT-005",
        section: "Custom Domain & TLS",
        erratum: None,
        severity: Warning,
        title: "No nginx of one's own in front of the app",
        why: "App Service ends TLS, redirects to HTTPS and balances; a second proxy is one more thing to patch, and hides the client's address and its own time-outs.",
        fix: "Start the app alone. What nginx did for the front end, `staticwebapp.config.json` does.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    app_command_line = \"cp /home/site/wwwroot/default /etc/nginx/sites-enabled/default && service nginx reload && gunicorn main:app\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    app_command_line = \"gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\"\n  }\n}\n",
        )],
        check: Check::Project(|p, o| {
            for c in super::command::commands(p) {
                let nginx = crate::snippet::words(&c.text)
                    .iter()
                    .any(|w| w == "nginx" || w.contains("/nginx"));
                if nginx {
                    o.at(c.span, "this starts an nginx: App Service is the proxy");
                } else {
                    o.judged();
                }
            }
        }),
    },
];
