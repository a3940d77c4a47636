//! The part of OData's `$filter` that Resource Manager's lists take: comparisons with `eq`, joined by
//! `and`, and `startswith` / `substringof`
//! (<https://learn.microsoft.com/rest/api/resources/resources/list>).

use serde_json::Value;

use super::error::ArmError;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Equal(String, String),
    StartsWith(String, String),
    Contains(String, String),
}

/// A parsed filter. Everything must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(Vec<Term>);

impl Filter {
    /// Reads a filter; an absent one lets everything through.
    pub fn parse(text: Option<&str>) -> Result<Self, ArmError> {
        let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(Self::default());
        };
        terms(text).map(Self).ok_or_else(|| {
            ArmError::bad_request(
                "InvalidFilterInQueryString",
                format!("Invalid $filter '{text}' specified in the query string."),
            )
        })
    }

    /// The value that `field` must equal, if the filter says so.
    pub fn equal(&self, field: &str) -> Option<&str> {
        self.0.iter().find_map(|term| match term {
            Term::Equal(name, value) if name.eq_ignore_ascii_case(field) => Some(value.as_str()),
            _ => None,
        })
    }

    /// Whether every comparison holds, given how to look a field up (any casing). A field that is not
    /// known is no match.
    pub fn holds(&self, field: impl Fn(&str) -> Option<String>) -> bool {
        let get = |name: &str| field(name).map(|value| value.to_ascii_lowercase());
        self.0.iter().all(|term| match term {
            Term::Equal(name, value) => get(name) == Some(value.to_ascii_lowercase()),
            Term::StartsWith(name, value) => {
                get(name).is_some_and(|have| have.starts_with(&value.to_ascii_lowercase()))
            }
            Term::Contains(name, value) => {
                get(name).is_some_and(|have| have.contains(&value.to_ascii_lowercase()))
            }
        })
    }

    /// Whether a shown resource fits: `resourceType`, `name`, `location`, `resourceGroup`, `tagName`
    /// with `tagValue`.
    pub fn fits(&self, shown: &Value) -> bool {
        let tag = self.equal("tagName").map(ToOwned::to_owned);
        self.holds(|name| {
            let text = |key: &str| shown[key].as_str().map(ToOwned::to_owned);
            match name.to_ascii_lowercase().as_str() {
                "resourcetype" => text("type"),
                "name" => text("name"),
                "location" => text("location"),
                "resourcegroup" => shown["id"].as_str()?.split('/').nth(4).map(ToOwned::to_owned),
                "tagname" => {
                    let wanted = tag.clone()?;
                    let tags = shown["tags"].as_object()?;
                    tags.keys().find(|key| key.eq_ignore_ascii_case(&wanted)).cloned()
                }
                "tagvalue" => {
                    let wanted = tag.clone()?;
                    let tags = shown["tags"].as_object()?;
                    let (_, value) =
                        tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(&wanted))?;
                    value.as_str().map(ToOwned::to_owned)
                }
                _ => None,
            }
        })
    }
}

fn terms(text: &str) -> Option<Vec<Term>> {
    let mut rest = text;
    let mut out = Vec::new();
    loop {
        let (term, after) = term(rest.trim_start())?;
        out.push(term);
        let after = after.trim_start();
        if after.is_empty() {
            return Some(out);
        }
        rest = strip_word(after, "and")?;
    }
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(word.len())?;
    (head.eq_ignore_ascii_case(word) && rest.starts_with(' ')).then(|| rest.trim_start())
}

fn term(text: &str) -> Option<(Term, &str)> {
    if let Some((name, rest)) = text.split_once('(')
        && name.chars().all(|c| c.is_ascii_alphabetic())
    {
        let rest = rest.trim_start();
        return match name.to_ascii_lowercase().as_str() {
            "startswith" => {
                let (field, rest) = rest.split_once(',')?;
                let (value, rest) = quoted(rest.trim_start())?;
                let rest = rest.trim_start().strip_prefix(')')?;
                Some((Term::StartsWith(field.trim().to_owned(), value), rest))
            }
            "substringof" => {
                let (value, rest) = quoted(rest)?;
                let rest = rest.trim_start().strip_prefix(',')?;
                let (field, rest) = rest.split_once(')')?;
                Some((Term::Contains(field.trim().to_owned(), value), rest))
            }
            // `atScope()` says where to look, which lists decide for themselves.
            "atscope" => {
                Some((Term::StartsWith("atScope".into(), String::new()), rest.strip_prefix(')')?))
            }
            "assignedto" => {
                let (value, rest) = quoted(rest)?;
                Some((
                    Term::Equal("principalId".into(), value),
                    rest.trim_start().strip_prefix(')')?,
                ))
            }
            _ => None,
        };
    }
    let (field, rest) = text.split_once(' ')?;
    let rest = strip_word(rest.trim_start(), "eq")?;
    let (value, rest) = quoted(rest)?;
    Some((Term::Equal(field.to_owned(), value), rest))
}

/// A text in single quotes, in which two stand for one.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?;
    let mut out = String::new();
    loop {
        let (before, after) = rest.split_once('\'')?;
        out.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                out.push('\'');
                rest = more;
            }
            None => return Some((out, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_of_real_clients_are_read() {
        let shown = json!({
            "id": "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Web/sites/notes",
            "name": "notes", "type": "Microsoft.Web/sites", "tags": { "app": "no'tes" }
        });
        for (filter, expected) in [
            ("resourceType eq 'microsoft.web/sites'", true),
            ("resourceType eq 'Microsoft.Web/sites' and name eq 'notes'", true),
            ("name eq 'other'", false),
            ("tagName eq 'app' and tagValue eq 'no''tes'", true),
            ("tagName eq 'app' and tagValue eq 'x'", false),
            ("substringof('ote', name) and startswith(name, 'no')", true),
            ("resourceGroup eq 'RG'", true),
        ] {
            let parsed = Filter::parse(Some(filter)).unwrap_or_else(|e| panic!("{filter}: {e}"));
            assert_eq!(parsed.fits(&shown), expected, "{filter}");
        }
        assert_eq!(
            Filter::parse(Some("roleName eq 'Key Vault Secrets User'"))
                .expect("valid")
                .equal("rolename"),
            Some("Key Vault Secrets User")
        );
        for bad in [
            "name",
            "name eq",
            "name eq 'x",
            "name ne 'x'",
            "eq 'x' and",
            "name eq 'x' or name eq 'y'",
        ] {
            assert!(Filter::parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
