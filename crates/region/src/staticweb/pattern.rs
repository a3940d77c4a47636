//! Route patterns: an exact path, or one wildcard at the end, which may name file extensions
//! (<https://learn.microsoft.com/azure/static-web-apps/configuration#specifying-route-patterns>).

/// A pattern, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Shape);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// This path, whether a slash follows or not.
    Exact(String),
    /// This path's `index.html`, and the folder it is the page of.
    Folder(String),
    /// Every path that begins so and has one of these extensions, if any are named.
    Wildcard { prefix: String, extensions: Vec<String> },
}

impl Pattern {
    /// Reads a pattern; says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') && !text.starts_with('*') {
            return Err(format!("the route '{text}' does not begin with '/'"));
        }
        let Some((prefix, rest)) = text.split_once('*') else {
            if text.contains(['{', '}']) {
                return Err(format!("the route '{text}' names extensions without a wildcard"));
            }
            let bare = text.strip_suffix('/').unwrap_or(text);
            return Ok(Self(match bare.strip_suffix("/index.html") {
                Some(folder) => Shape::Folder(folder.to_owned()),
                None => Shape::Exact(bare.to_owned()),
            }));
        };
        let wrong = || {
            format!(
                "the route '{text}' has its wildcard elsewhere than at its end: '*', '*.html' and '*.{{png,jpg}}' are what may end a route"
            )
        };
        let extensions = if rest.is_empty() {
            Vec::new()
        } else {
            let named = rest.strip_prefix('.').ok_or_else(wrong)?;
            let listed = named.strip_prefix('{').and_then(|n| n.strip_suffix('}'));
            let all: Vec<String> = match listed {
                Some(list) => list.split(',').map(|one| one.trim().to_owned()).collect(),
                None => vec![named.to_owned()],
            };
            let plain =
                |one: &String| !one.is_empty() && !one.contains(['*', '/', '{', '}', ',', ' ']);
            if !all.iter().all(plain) {
                return Err(wrong());
            }
            all
        };
        let prefix = if prefix.is_empty() { "/".to_owned() } else { prefix.to_owned() };
        Ok(Self(Shape::Wildcard { prefix, extensions }))
    }

    /// Whether it fits a path.
    pub fn fits(&self, path: &str) -> bool {
        match &self.0 {
            Shape::Exact(exact) => path.strip_suffix('/').unwrap_or(path) == exact,
            Shape::Folder(folder) => path
                .strip_prefix(folder.as_str())
                .is_some_and(|rest| matches!(rest, "" | "/" | "/index.html")),
            Shape::Wildcard { prefix, extensions } => {
                let Some(rest) = path.strip_prefix(prefix.as_str()) else { return false };
                extensions.is_empty()
                    || extensions.iter().any(|extension| {
                        rest.strip_suffix(extension.as_str())
                            .is_some_and(|rest| rest.ends_with('.'))
                    })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).expect(pattern).fits(path)
    }

    #[test]
    fn an_exact_route_fits_its_path_and_an_index_page_its_folder_too() {
        for path in ["/profile", "/profile/", "/profile/index.html"] {
            assert!(fits("/profile/index.html", path), "{path}");
        }
        assert!(fits("/profile", "/profile/") && !fits("/profile", "/profile/index.html"));
        assert!(!fits("/profile/index.html", "/profile/other.html"));
        assert!(fits("/", "/") && !fits("/", "/a"));
        assert!(fits("/index.html", "/") && fits("/index.html", "/index.html"));
    }

    #[test]
    fn a_wildcard_fits_what_begins_so_and_has_the_extension() {
        assert!(fits("/calendar*", "/calendar") && fits("/calendar*", "/calendar/2020"));
        assert!(fits("/calendar/*", "/calendar/2020") && !fits("/calendar/*", "/calendar"));
        assert!(fits("/articles/*.html", "/articles/a/b.html"));
        assert!(!fits("/articles/*.html", "/articles/a.htm"));
        assert!(fits("/images/*.{png, jpg}", "/images/a.jpg"));
        assert!(!fits("/images/*.{png,jpg}", "/images/ajpg"));
        assert!(fits("*", "/anything") && fits("/*", "/"));
    }

    #[test]
    fn a_wildcard_in_the_middle_is_refused() {
        for wrong in ["/a/*/b", "/a*b", "/a/*.{png", "/a/*.{}", "a", "/a/{b}", "/**", "/a/*."] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
