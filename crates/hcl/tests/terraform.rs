//! What Terraform comes to: values, places, and what stays unknown.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use lazuli_hcl::terraform::{Configuration, Existence, Program, Resource, VariableFile};
use lazuli_hcl::{Kind, Sources, parser};

fn evaluate(files: &[(&str, &str)]) -> (Configuration, Sources) {
    let mut sources = Sources::default();
    let mut parsed = Vec::new();
    let mut variables = Vec::new();
    for (path, text) in files {
        let id = sources.add(PathBuf::from(path), *text);
        let (body, errors) = parser::parse(id, text);
        assert_eq!(errors, []);
        if path.ends_with(".tfvars") {
            variables.push(VariableFile { name: (*path).into(), path: path.into(), body });
        } else {
            parsed.push((PathBuf::from(path), id, body, false));
        }
    }
    let program = Program::new(parsed);
    let refs: Vec<&VariableFile> = variables.iter().collect();
    (program.evaluate(Path::new(""), &refs, None), sources)
}

fn one<'a>(c: &'a Configuration, address: &str) -> &'a Resource {
    c.resources.iter().find(|r| &*r.address == address).unwrap_or_else(|| {
        panic!("no {address} in {:?}", c.resources.iter().map(|r| &r.address).collect::<Vec<_>>())
    })
}

fn local(expression: &str) -> String {
    let text = format!(
        "variable \"unset\" {{}}\nresource \"t_x\" \"one\" {{ name = \"n\" }}\nresource \"t_x\" \"many\" {{\n count = 2\n name = \"m${{count.index}}\"\n}}\nresource \"t_y\" \"r\" {{\n v = {expression}\n}}\n"
    );
    let (c, _) = evaluate(&[("main.tf", &text)]);
    let v = one(&c, "t_y.r").body.entry("v").unwrap().value.clone();
    match v.why_unknown() {
        Some(w) => format!("? {w}"),
        None => match &v.kind {
            Kind::List(l) => {
                format!("{:?}", l.iter().map(lazuli_hcl::Value::known_text).collect::<Vec<_>>())
            }
            Kind::Map(m) => format!(
                "{:?}",
                m.iter().map(|e| format!("{}={}", e.key, e.value.known_text())).collect::<Vec<_>>()
            ),
            _ => v.known_text(),
        },
    }
}

#[test]
fn expressions() {
    for (expression, expected) in [
        ("1 + 2 * 3", "7"),
        ("upper(\"a${1}b\")", "A1B"),
        ("var.unset", "? variable `unset` has no value here"),
        ("var.unset == 1 ? \"a\" : \"a\"", "a"),
        ("var.unset == 1 ? \"a\" : \"b\"", "? variable `unset` has no value here"),
        ("false && var.unset", "false"),
        ("t_x.one.name", "n"),
        ("t_x.one.id", "? `t_x.one.id` is known after apply"),
        ("t_x.many[1].name", "m1"),
        ("t_x.many[*].name", "[\"m0\", \"m1\"]"),
        ("[for x in t_x.many : x.name if x.name != \"m0\"]", "[\"m1\"]"),
        ("{ for k, v in { a = 1, b = 2 } : v => k }", "[\"1=a\", \"2=b\"]"),
        ("merge({ a = 1 }, { b = 2, a = 3 })", "[\"a=3\", \"b=2\"]"),
        ("merge(var.unset, { b = 2 })", "[\"b=2\"]"),
        ("try(t_x.one.nope.x, {}.y, \"fallback\")", "? `t_x.one.nope.x` is known after apply"),
        ("try({}.y, \"fallback\")", "fallback"),
        ("format(\"%s-%03d\", \"a\", 7)", "a-007"),
        ("join(\",\", [\"a\", \"b\"])", "a,b"),
        ("cidrsubnet(\"10.0.0.0/16\", 8, 3)", "10.0.3.0/24"),
        ("lookup({ a = 1 }, \"b\", 2)", "2"),
        ("coalesce(null, \"\", \"x\")", "x"),
        ("length([1, 2])", "2"),
        ("\"x-${t_x.one.id}\"", "x-…"),
        ("timestamp()", "? `timestamp` cannot be worked out here"),
        ("<<-EOT\n  a\n    b\n  EOT\n", "a\n  b\n"),
        ("\"%{ if true }y%{ else }n%{ endif }\"", "y"),
        ("\"%{ for x in [1,2] }<${x}>%{ endfor }\"", "<1><2>"),
        ("element([1,2,3], 4)", "2"),
        ("jsonencode({ b = [1, true], a = \"q\\\"\" })", "{\"a\":\"q\\\"\",\"b\":[1,true]}"),
    ] {
        assert_eq!(local(expression), expected, "{expression}");
    }
}

#[test]
fn modules_variables_and_places() {
    let (c, sources) = evaluate(&[
        (
            "main.tf",
            "variable \"sku\" {}\nmodule \"app\" {\n  source = \"./app\"\n  for_each = toset([\"eu\"])\n  sku = var.sku\n  region = each.key\n}\noutput \"x\" { value = module.app[\"eu\"].name }\nresource \"t_x\" \"uses\" { n = module.app[\"eu\"].name }\n",
        ),
        (
            "app/main.tf",
            "variable \"sku\" {}\nvariable \"region\" {}\nresource \"t_plan\" \"p\" {\n  sku_name = var.sku\n  dynamic \"block\" {\n    for_each = [\"a\", \"b\"]\n    content {\n      v = \"${block.value}-${var.region}\"\n    }\n  }\n}\noutput \"name\" { value = \"n-${var.region}\" }\n",
        ),
        ("prod.tfvars", "# prod\nsku = \"P1v3\"\n"),
    ]);
    let r = one(&c, "module.app[\"eu\"].t_plan.p");
    let e = r.body.entry("sku_name").unwrap();
    assert_eq!(sources.text(e.at), "var.sku", "used in the module");
    assert_eq!(sources.get(e.at.file).line_column(e.at.start), (4, 14));
    assert_eq!(
        sources.path(e.value.span.file),
        Path::new("prod.tfvars"),
        "written in the variables"
    );
    assert_eq!(sources.get(e.value.span.file).line_column(e.value.span.start), (2, 7));
    let blocks = r.body.blocks("block");
    assert_eq!(blocks.len(), 2);
    let v = blocks[1].1.entry("v").unwrap();
    assert_eq!(v.value.as_str(), Some("b-eu"));
    assert_eq!(sources.get(v.at.file).line_column(v.at.start), (8, 11));
    assert_eq!(one(&c, "t_x.uses").get("n").unwrap().as_str(), Some("n-eu"));
}

#[test]
fn count_that_is_unknown_makes_one_that_may_not_exist() {
    let (c, _) = evaluate(&[(
        "main.tf",
        "variable \"on\" {}\nresource \"t_x\" \"y\" {\n count = var.on ? 1 : 0\n}\n",
    )]);
    assert!(matches!(one(&c, "t_x.y[*]").existence, Existence::Possible(_)));
}

#[test]
fn optional_attributes_have_their_defaults() {
    let (c, _) = evaluate(&[(
        "main.tf",
        "variable \"o\" {\n type = object({ a = optional(string, \"dflt\"), b = string })\n default = { b = \"x\" }\n}\nresource \"t_x\" \"y\" { v = var.o.a }\n",
    )]);
    assert_eq!(one(&c, "t_x.y").get("v").unwrap().as_str(), Some("dflt"));
}

#[test]
fn cycles_and_explosions_end() {
    let mut text = String::from(
        "locals {\n a = local.b\n b = local.a\n x0 = [1, 1, 1, 1, 1, 1, 1, 1]\n s0 = \"aaaaaaaa\"\n",
    );
    for i in 1..60 {
        use std::fmt::Write as _;
        let p = i - 1;
        writeln!(text, " x{i} = [local.x{p}, local.x{p}, local.x{p}, local.x{p}]\n s{i} = \"${{local.s{p}}}${{local.s{p}}}\"").unwrap();
    }
    text.push_str("}\nresource \"t_x\" \"y\" {\n a = local.a\n x = local.x59\n s = local.s59\n f = flatten(local.x59)\n self = t_x.y.self\n}\nmodule \"m\" {\n source = \"./\"\n}\n");
    let (c, _) = evaluate(&[("main.tf", &text)]);
    let r = one(&c, "t_x.y");
    assert!(r.get("a").unwrap().is_unknown());
    assert!(c.incomplete.iter().any(|(w, _)| w.contains("calls itself")), "{:?}", c.incomplete);
}

#[test]
fn nothing_depends_on_the_order_of_files() {
    let a = ("a.tf", "locals { x = t_x.y.name }\nresource \"t_z\" \"z\" { v = local.x }\n");
    let b = ("b.tf", "resource \"t_x\" \"y\" { name = \"n\" }\n");
    let addresses =
        |c: Configuration| c.resources.iter().map(|r| r.address.to_string()).collect::<Vec<_>>();
    assert_eq!(addresses(evaluate(&[a, b]).0), addresses(evaluate(&[b, a]).0));
}
