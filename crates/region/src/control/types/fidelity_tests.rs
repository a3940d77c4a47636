//! `docs/reference/fidelity.md` is made from what the types say of themselves.

use std::{fmt::Write as _, fs, path::Path};

use super::{Placement, Registry};

fn page() -> String {
    let mut text = String::from(
        "# Fidelity: what is stored and not acted upon\n\n\
         Every resource type of the region, the newest API version that it answers in (any well-formed\n\
         version is accepted and recorded; one shape is given), and those of its properties that are kept\n\
         and shown and change nothing here. Everything else acts. What a type refuses, it refuses in Azure's\n\
         error envelope.\n\n\
         Made from the code (`ResourceType::not_acted_upon`); `LAZULI_BLESS=1 cargo nextest run --workspace\n\
         -E 'test(fidelity)'` writes it anew.\n\n\
         | type | newest version | location | stored, not acted upon |\n|---|---|---|---|\n",
    );
    for kind in Registry::new().types() {
        let place = match kind.placement() {
            Placement::Regional => "a region",
            Placement::Global => "`global`",
            Placement::None => "",
        };
        let not: Vec<String> = kind
            .not_acted_upon()
            .iter()
            .map(|entry| {
                // A property is code, a remark about it is not.
                let (name, remark) = entry.split_once(' ').unwrap_or((entry, ""));
                let plain = name.starts_with('(')
                    || name.contains(',')
                    || !(remark.is_empty() || remark.starts_with('('));
                match (plain, remark) {
                    (true, _) => (*entry).to_owned(),
                    (false, "") => format!("`{name}`"),
                    (false, remark) => format!("`{name}` {remark}"),
                }
            })
            .collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {place} | {} |",
            kind.kind(),
            kind.api_versions().first().unwrap_or(&""),
            if not.is_empty() { "—".to_owned() } else { not.join("; ") }
        );
    }
    text
}

#[test]
fn the_fidelity_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/fidelity.md");
    let page = page();
    if std::env::var_os("LAZULI_BLESS").is_some() {
        fs::write(&path, &page).expect("written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/reference/fidelity.md is not what the types say: LAZULI_BLESS=1 writes it anew"
    );
}
