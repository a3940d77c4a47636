//! Templates of the files that are rendered.

/// Puts values into a template: `<<NAME>>` stands for the value of `NAME`. What a value holds is
/// never looked at again.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(at) = rest.find("<<") {
        let after = &rest[at + 2..];
        let name = after
            .find(">>")
            .map(|end| &after[..end])
            .and_then(|name| values.iter().find(|(known, _)| *known == name));
        out.push_str(&rest[..at]);
        if let Some((name, value)) = name {
            out.push_str(value);
            rest = &after[name.len() + 2..];
        } else {
            // Somebody else's, such as the beginning of a heredoc.
            out.push_str("<<");
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn a_value_is_not_a_template_and_a_heredoc_is_no_name() {
        let text = fill("<<A>> <<-KQL\n<<B>>", &[("A", "<<B>>"), ("B", "b")]);
        assert_eq!(text, "<<B>> <<-KQL\nb");
    }
}
