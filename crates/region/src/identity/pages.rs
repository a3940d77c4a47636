//! The pages a person sees when signing in. Plain forms: no script but the one that Entra's own
//! `form_post` needs, nothing from elsewhere.

use std::collections::HashMap;
use std::fmt::Write as _;

const STYLE: &str = "body{font:16px system-ui,sans-serif;background:#f4f6f8;color:#1b2733;display:grid;\
place-items:center;min-height:100vh;margin:0}main{background:#fff;padding:2rem 2.5rem;border-radius:.5rem;\
box-shadow:0 1px 4px #0003;width:22rem}h1{font-size:1.25rem;margin:0 0 .25rem}p{margin:.25rem 0 1rem;color:#52616f}\
label{display:block;margin-top:1rem;font-size:.875rem}input{box-sizing:border-box;width:100%;font:inherit;padding:.5rem;\
border:1px solid #8796a5;border-radius:.25rem}button{margin-top:1.5rem;font:inherit;padding:.5rem 1.5rem;border:0;\
border-radius:.25rem;background:#1f4fd8;color:#fff}.error{color:#a1121f}";

/// Text for HTML, in an attribute too.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style><main><h1>{0}</h1>{body}</main></html>",
        escape(title)
    )
}

fn hidden(out: &mut String, name: &str, value: &str) {
    let _ = write!(
        out,
        "<input type=\"hidden\" name=\"{}\" value=\"{}\">",
        escape(name),
        escape(value)
    );
}

fn error(said: Option<&str>) -> String {
    said.map(|said| format!("<p class=\"error\" role=\"alert\">{}</p>", escape(said)))
        .unwrap_or_default()
}

const CREDENTIALS: &str = "<label for=\"username\">Name</label><input id=\"username\" name=\"username\" autocomplete=\"username\" \
value=\"NAME\" required><label for=\"password\">Password</label><input id=\"password\" name=\"password\" type=\"password\" \
autocomplete=\"current-password\" required><button>Sign in</button></form>";

/// The sign-in page. `asked` comes back with the form.
pub(super) fn login(
    program: &str,
    asked: &HashMap<String, String>,
    name: &str,
    said: Option<&str>,
) -> String {
    let mut body = format!("<p>to {} in a local region</p>{}", escape(program), error(said));
    body.push_str("<form method=\"post\" action=\"/common/login\">");
    let mut names: Vec<_> = asked.keys().collect();
    names.sort();
    for key in names.into_iter().filter(|key| !matches!(key.as_str(), "username" | "password")) {
        hidden(&mut body, key, &asked[key]);
    }
    body.push_str(&CREDENTIALS.replace("NAME", &escape(name)));
    page("Sign in", &body)
}

/// The page for what a device shows.
pub(super) fn device(code: &str, said: Option<&str>) -> String {
    let mut body = format!(
        "<p>with the code that your program shows</p>{}<form method=\"post\"><label for=\"user_code\">Code</label>\
         <input id=\"user_code\" name=\"user_code\" autocomplete=\"off\" value=\"{}\" required>",
        error(said),
        escape(code)
    );
    body.push_str(&CREDENTIALS.replace("NAME", ""));
    page("Sign in", &body)
}

/// After a device's code was taken.
pub(super) fn done() -> String {
    page("You have signed in", "<p>Your program goes on by itself. You can close this window.</p>")
}

/// A request that cannot be answered with a sign-in page.
pub(super) fn failed(said: &str) -> String {
    page("Sign-in failed", &error(Some(said)))
}

/// `response_mode=form_post`: a form that sends itself.
pub(super) fn form_post(to: &str, fields: &[(&str, String)]) -> String {
    let mut body = format!("<form method=\"post\" action=\"{}\">", escape(to));
    for (name, value) in fields {
        hidden(&mut body, name, value);
    }
    body.push_str("<button>Continue</button></form><script>document.forms[0].submit()</script>");
    page("Signing in", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_sent_becomes_markup() {
        let evil = "\"><script>alert(1)</script>".to_owned();
        let asked = HashMap::from([("state".to_owned(), evil.clone()), (evil.clone(), "x".into())]);
        for page in [
            login("az", &asked, &evil, Some(&evil)),
            device(&evil, Some(&evil)),
            failed(&evil),
            form_post("http://localhost:1/\"><script>", &[("code", evil.clone())]),
        ] {
            assert!(
                !page.contains("alert(1)</script>\"") && !page.contains("<script>alert"),
                "{page}"
            );
        }
    }
}
