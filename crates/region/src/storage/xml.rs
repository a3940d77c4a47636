//! The little XML that the blob service speaks.

/// Text as it stands between tags or in an attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 cannot hold other control characters, and a reader would read these as spaces.
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(c))),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// `<name>text</name>`.
pub fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

/// The entries of a block list, in order: (`Latest`, an ID). None when it is not one. At most `limit`
/// (<https://learn.microsoft.com/rest/api/storageservices/put-block-list>).
pub fn block_list(text: &str, limit: usize) -> Option<Vec<(String, String)>> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let text = match text.strip_prefix("<?xml") {
        Some(rest) => rest.split_once("?>")?.1.trim(),
        None => text,
    };
    if text.strip_prefix("<BlockList").is_some_and(|rest| rest.trim_start() == "/>") {
        return Some(Vec::new());
    }
    let mut rest =
        text.strip_prefix("<BlockList>")?.trim_end().strip_suffix("</BlockList>")?.trim();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (tag, after) = rest.strip_prefix('<')?.split_once('>')?;
        if !["Latest", "Committed", "Uncommitted"].contains(&tag) || out.len() == limit {
            return None;
        }
        let (id, after) = after.split_once("</")?;
        let after = after.strip_prefix(tag)?.strip_prefix('>')?;
        // Base64 needs no escapes.
        out.push((tag.to_owned(), id.trim().to_owned()));
        rest = after.trim_start();
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_meant() {
        let text = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList><Latest>QQ==</Latest>\n <Committed>Qg==</Committed></BlockList>";
        assert_eq!(
            block_list(text, 10),
            Some(vec![
                ("Latest".to_owned(), "QQ==".to_owned()),
                ("Committed".to_owned(), "Qg==".to_owned())
            ])
        );
        assert_eq!(block_list("<BlockList />", 10), Some(vec![]));
        assert_eq!(block_list(text, 1), None);
        for bad in [
            "",
            "<BlockList>",
            "<BlockList><Other>a</Other></BlockList>",
            "<BlockList><Latest>a</Committed></BlockList>",
            "{}",
        ] {
            assert_eq!(block_list(bad, 10), None, "{bad}");
        }
    }

    #[test]
    fn names_cannot_break_out() {
        assert_eq!(element("Name", "a<b>&\"c\n"), "<Name>a&lt;b&gt;&amp;&quot;c&#10;</Name>");
    }
}
