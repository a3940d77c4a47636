//! `docs/reference/rules.md`, generated from the rules.

use std::fmt::Write as _;

use crate::rules;

/// The page.
pub fn render() -> String {
    let mut out = String::from(
        "# Rules of `lazuli check`\n\n<!-- Generated from the rules: `lazuli check --rules > docs/reference/rules.md`. A test holds it in sync. -->\n\n",
    );
    let _ = writeln!(
        out,
        "{} rules. Each has an ID that stays, the section of the standard it comes from, and two examples that are its own tests. *Mechanical* fixes are offered by `lazuli check --fix`.\n",
        rules::all().count()
    );
    out.push_str("| ID | Severity | What must hold | Section |\n|---|---|---|---|\n");
    for r in rules::all() {
        let _ = writeln!(
            out,
            "| [{}](#{}) | {} | {} | {} |",
            r.id,
            r.id.to_lowercase(),
            r.severity.as_str(),
            r.title.replace('|', "\\|"),
            r.section
        );
    }
    for r in rules::all() {
        let _ = writeln!(
            out,
            "\n## {}\n\n**{}** ({})\n\nSection *{}*{}.\n\n{}\n\n**Instead:** {}\n",
            r.id,
            r.title,
            r.severity.as_str(),
            r.section,
            r.erratum.map_or(String::new(), |e| format!(", erratum {e}")),
            r.why,
            r.fix
        );
        for (what, example) in [("Breaks it", r.bad), ("Keeps it", r.good)] {
            for (path, text) in example {
                let language = match path.rsplit('.').next() {
                    Some("tf" | "tfvars") => "hcl",
                    Some("yml" | "yaml") => "yaml",
                    Some("json" | "job") => "json",
                    Some("py") => "python",
                    Some("sh") => "bash",
                    Some("toml") => "toml",
                    _ => "text",
                };
                let _ =
                    writeln!(out, "{what}, `{path}`:\n\n```{language}\n{}\n```\n", text.trim_end());
            }
        }
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    out
}
