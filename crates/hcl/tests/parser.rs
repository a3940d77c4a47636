//! What the parser reads, how it recovers, and that it never panics.
#![allow(missing_docs, clippy::unwrap_used)]

use lazuli_hcl::{FileId, parser};
use proptest::prelude::*;

const SAMPLE: &str = r#"
terraform {
  required_providers { azurerm = { source = "hashicorp/azurerm", version = "~> 5.0" } }
}
variable "env" {
  type    = object({ name = optional(string, "dev"), list = list(number) })
  default = null
}
locals {
  a = [for s in var.list : upper(s) if s != ""]
  b = { for k, v in var.map : k => v... if can(v.x) }
  c = var.x == null ? "no" : (var.y > 3 && !var.z ? 1 : -2.5e3)
  d = <<-EOT
    hello ${var.name}
      %{ if var.a ~} yes %{ else } no %{ endif }
    $${escaped} %%{escaped}
  EOT
  e = azurerm_subnet.x[*].id
  f = azurerm_subnet.x.*.id
  g = local.a[0].b["c"].d.0.e
  h = merge(local.a, { (var.key) = "x", "quoted" : 1, bare = [1, 2,], }, var.more...)
  i = "a${"b${"c"}"}d"
  j = provider::aws::f(1)
  /* a
     comment */
  k = 1 + 2 * 3 - 4 / 5 % 6
}
resource "azurerm_x" "y" {
  count = 1 // why
  dynamic "site" {
    for_each = [1]
    content { a = site.value } # end
  }
  one_line { a = 1 }
}
"#;

fn parse(text: &str) -> (lazuli_hcl::ast::Body, Vec<parser::SyntaxError>) {
    parser::parse(FileId(0), text)
}

#[test]
fn reads_all_of_the_language() {
    let (body, errors) = parse(SAMPLE);
    assert_eq!(errors, []);
    assert_eq!(body.blocks.len(), 4);
    assert_eq!(body.blocks[2].body.attributes.len(), 11);
    SAMPLE.parse::<hcl_edit::structure::Body>().expect("the oracle reads it as well");
}

#[test]
fn a_call_may_have_spaces_before_its_parenthesis() {
    let (_, errors) =
        parse("a = upper (\"x\")\nb = m[try\n  (v.x, v.y)].z\nc = [for x in y : f (x)]\n");
    assert_eq!(errors, []);
    // Outside of brackets a line's end ends the expression.
    let (_, errors) = parse("a = upper\n(\"x\")\n");
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn one_broken_line_costs_one_line() {
    let (body, errors) =
        parse("a = 1\nb = = 2\nresource \"x\" \"y\" {\n  c = \n  d = 4\n}\ne = 5\n");
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(body.attribute("a").is_some() && body.attribute("e").is_some());
    assert!(body.blocks[0].body.attribute("d").is_some());
}

#[test]
fn half_written_files_say_where_they_stop() {
    for (text, message) in [
        ("resource \"a\" \"b\" {\n  x = 1\n", "this block is never closed"),
        ("x = \"abc\ny = 1\n", "this text is not closed on its line"),
        ("x = <<EOT\nabc\n", "this text is never closed by a line `EOT`"),
        ("x = [1, 2\n", "expected `]` to close the list, found the end of the file"),
        ("x = \"${a\"\n", "this interpolation is never closed"),
    ] {
        let (_, errors) = parse(text);
        assert_eq!(errors.first().map(|e| e.message.as_str()), Some(message), "{text:?}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    for text in [
        format!("x = {}", "(".repeat(200_000)),
        format!("x = {}", "[".repeat(200_000)),
        format!("x = {}1", "!".repeat(200_000)),
        format!("x = a{}", ".b".repeat(200_000)),
        format!("x = 1{}", " + 1".repeat(200_000)),
        format!("x = a{}", "[*]".repeat(200_000)),
        format!("x = {}", "\"${".repeat(200_000)),
        format!("x = {}", "a ? b : ".repeat(100_000)),
        "a {\n".repeat(100_000),
        format!("x = \"{}\"", "%{ if a }".repeat(50_000)),
    ] {
        let (_, errors) = parse(&text);
        assert!(!errors.is_empty());
    }
}

#[test]
fn places_are_exact() {
    let text = "é = 1\nresource \"a\" \"b\" {\n  sku = var.x # why\n}\n";
    let (body, _) = parse(text);
    let block = &body.blocks[0];
    let slice = |s: lazuli_hcl::Span| &text[s.start as usize..s.end as usize];
    assert_eq!(slice(block.header), "resource \"a\" \"b\"");
    assert_eq!(slice(block.body.attributes[0].value.span), "var.x");
    assert_eq!(slice(block.body.attributes[0].name_span), "sku");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_terminates(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_damage_terminates(at in 0..SAMPLE.len(), len in 0usize..40, with in "[\\[\\](){}\"$%<>=\\n,.*é]{0,6}") {
        let mut text = SAMPLE.to_owned();
        let mut start = at;
        while !text.is_char_boundary(start) { start -= 1; }
        let mut end = (start + len).min(text.len());
        while !text.is_char_boundary(end) { end += 1; }
        text.replace_range(start..end, &with);
        let (body, errors) = parse(&text);
        // The reference parser takes more than Terraform does (line ends inside quotes), so it is
        // only asked where we found nothing wrong.
        if errors.is_empty() && text.parse::<hcl_edit::structure::Body>().is_ok() {
            let oracle: hcl_edit::structure::Body = text.parse().unwrap();
            prop_assert_eq!(body.blocks.len(), oracle.blocks().count());
        }
    }
}
