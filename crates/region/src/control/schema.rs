//! What a type's body may hold, as data: one line a property, with its kind, its default, and
//! whether a client may write it. [`Schema::apply`] turns a request into the body to store.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::{
    error::ArmError,
    types::{Method, Write},
};

/// What a property may be.
#[derive(Debug, Clone)]
enum Kind {
    Bool,
    Int(i64, i64),
    Number,
    Text,
    Choice(&'static [&'static str]),
    Array,
    Object,
    Any,
}

/// What an absent property becomes.
#[derive(Debug, Clone, Copy)]
enum Default {
    None,
    Bool(bool),
    Int(i64),
    Text(&'static str),
    Array,
    Object,
}

/// One property. Made by [`boolean`], [`integer`], [`text`] and so on, refined by the methods.
///
/// The path is below `properties` (`networkAcls/bypass`), or from the body's root when it begins with
/// a slash (`/sku/name`). A property of an absent object is absent, unless it has a default or is
/// required: then the object comes into being.
#[derive(Debug, Clone)]
pub struct Field {
    path: &'static str,
    kind: Kind,
    default: Default,
    required: bool,
    read_only: bool,
    immutable: bool,
}

const fn field(path: &'static str, kind: Kind) -> Field {
    Field {
        path,
        kind,
        default: Default::None,
        required: false,
        read_only: false,
        immutable: false,
    }
}

/// `true` or `false`.
pub const fn boolean(path: &'static str) -> Field {
    field(path, Kind::Bool)
}

/// A whole number within `range`.
pub const fn integer(path: &'static str, range: RangeInclusive<i64>) -> Field {
    field(path, Kind::Int(*range.start(), *range.end()))
}

/// Any number.
pub const fn number(path: &'static str) -> Field {
    field(path, Kind::Number)
}

/// A string.
pub const fn text(path: &'static str) -> Field {
    field(path, Kind::Text)
}

/// One of these strings; other casings are put right.
pub const fn choice(path: &'static str, of: &'static [&'static str]) -> Field {
    field(path, Kind::Choice(of))
}

/// A list.
pub const fn array(path: &'static str) -> Field {
    field(path, Kind::Array)
}

/// An object.
pub const fn object(path: &'static str) -> Field {
    field(path, Kind::Object)
}

/// Anything: for properties that the region sets itself, with [`Field::read_only`].
pub const fn any(path: &'static str) -> Field {
    field(path, Kind::Any)
}

impl Field {
    /// Absent is refused.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Azure sets it: what a client sends is dropped, what is stored stays.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Once created it cannot be changed; absent in a later request means unchanged.
    #[must_use]
    pub const fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// Absent becomes this.
    #[must_use]
    pub const fn or_bool(mut self, value: bool) -> Self {
        self.default = Default::Bool(value);
        self
    }

    /// Absent becomes this.
    #[must_use]
    pub const fn or_int(mut self, value: i64) -> Self {
        self.default = Default::Int(value);
        self
    }

    /// Absent becomes this.
    #[must_use]
    pub const fn or_text(mut self, value: &'static str) -> Self {
        self.default = Default::Text(value);
        self
    }

    /// Absent becomes `[]` (an array) or `{}` (an object).
    #[must_use]
    pub const fn or_empty(mut self) -> Self {
        self.default = match self.kind {
            Kind::Array => Default::Array,
            _ => Default::Object,
        };
        self
    }

    /// The steps from the body's root.
    fn steps(&self) -> impl Iterator<Item = &'static str> + use<> {
        let rooted = self.path.strip_prefix('/');
        rooted
            .is_none()
            .then_some("properties")
            .into_iter()
            .chain(rooted.unwrap_or(self.path).split('/'))
    }

    /// How Azure names it in a message: `properties.networkAcls.bypass`.
    fn shown(&self) -> String {
        self.steps().collect::<Vec<_>>().join(".")
    }

    fn get<'a>(&self, body: &'a Value) -> Option<&'a Value> {
        self.steps().try_fold(body, |at, step| at.get(step)).filter(|value| !value.is_null())
    }

    fn set(&self, body: &mut Value, value: Value) {
        let mut at = body;
        for step in self.steps() {
            if !at.is_object() {
                *at = json!({});
            }
            at = &mut at[step];
        }
        *at = value;
    }

    fn remove(&self, body: &mut Value) {
        let steps: Vec<_> = self.steps().collect();
        let Some((last, outer)) = steps.split_last() else { return };
        let mut at = body;
        for step in outer {
            match at.get_mut(step) {
                Some(next) => at = next,
                None => return,
            }
        }
        if let Some(map) = at.as_object_mut() {
            map.shift_remove(*last);
        }
    }

    fn check(&self, value: &mut Value) -> Result<(), ArmError> {
        let wrong = |expected: &str| {
            Err(ArmError::invalid_content(format!(
                "The value of '{}' must be {expected}",
                self.shown()
            ))
            .at(&self.shown()))
        };
        match self.kind {
            Kind::Bool if !value.is_boolean() => wrong("true or false"),
            Kind::Int(least, most) => match value.as_i64() {
                None => wrong("a whole number"),
                Some(n) if n < least || n > most => Err(ArmError::invalid_value(
                    &self.shown(),
                    format!(
                        "The value '{n}' of '{}' is not between {least} and {most}.",
                        self.shown()
                    ),
                )),
                Some(_) => Ok(()),
            },
            Kind::Number if !value.is_number() => wrong("a number"),
            Kind::Text if !value.is_string() => wrong("a string"),
            Kind::Array if !value.is_array() => wrong("a list"),
            Kind::Object if !value.is_object() => wrong("an object"),
            Kind::Choice(of) => {
                let Some(text) = value.as_str() else { return wrong("a string") };
                match of.iter().find(|one| one.eq_ignore_ascii_case(text)) {
                    Some(one) => {
                        *value = json!(one);
                        Ok(())
                    }
                    None => Err(ArmError::invalid_value(
                        &self.shown(),
                        format!(
                            "The value '{text}' of '{}' is not valid. Possible values are: {}.",
                            self.shown(),
                            of.join(", ")
                        ),
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

/// A type's properties. What is not listed is kept as the client sent it.
#[derive(Debug, Clone, Copy)]
pub struct Schema(pub &'static [Field]);

/// What follows from the ID or belongs to the framework: never taken from a request.
const FRAMEWORK: &[&str] = &["id", "name", "type", "etag", "systemData"];

impl Schema {
    /// The body to store: the request, checked, with defaults filled in and read-only properties as
    /// they were. `PATCH` is a merge into what is stored (RFC 7396).
    pub fn apply(&self, write: &Write<'_>) -> Result<Value, ArmError> {
        let old = write.existing.map(|existing| &existing.body);
        let mut body = match (write.method, old) {
            (Method::Patch, Some(old)) => {
                let mut merged = old.clone();
                merge(&mut merged, &write.body);
                merged
            }
            _ => write.body.clone(),
        };
        if let Some(map) = body.as_object_mut() {
            for name in FRAMEWORK {
                map.shift_remove(*name);
            }
        }
        if body.get("properties").is_some_and(|p| !p.is_object() && !p.is_null()) {
            return Err(ArmError::invalid_content("'properties' must be an object"));
        }
        for field in self.0 {
            let before = old.and_then(|old| field.get(old)).cloned();
            if field.read_only {
                match before {
                    Some(value) => field.set(&mut body, value),
                    None => field.remove(&mut body),
                }
                continue;
            }
            if let Some(value) = field.get(&body) {
                let mut value = value.clone();
                field.check(&mut value)?;
                if field.immutable && before.as_ref().is_some_and(|before| !same(before, &value)) {
                    return Err(ArmError::bad_request(
                        "PropertyChangeNotAllowed",
                        format!("Changing property '{}' is not allowed.", field.shown()),
                    )
                    .at(&field.shown()));
                }
                field.set(&mut body, value);
                continue;
            }
            let value = match (field.default, before) {
                (_, Some(before)) if field.immutable => before,
                (Default::Bool(value), _) => json!(value),
                (Default::Int(value), _) => json!(value),
                (Default::Text(value), _) => json!(value),
                (Default::Array, _) => json!([]),
                (Default::Object, _) => json!({}),
                (Default::None, _) if field.required => {
                    return Err(ArmError::invalid_content(format!(
                        "Required property '{}' not found in JSON",
                        field.shown()
                    ))
                    .at(&field.shown()));
                }
                (Default::None, _) => {
                    field.remove(&mut body);
                    continue;
                }
            };
            field.set(&mut body, value);
        }
        Ok(body)
    }
}

/// Azure compares texts such as locations and IDs without regard to case.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_str(), b.as_str()) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => a == b,
    }
}

/// RFC 7396: null removes, objects are merged, everything else replaces.
pub fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(map) = into {
        for (name, value) in patch {
            if value.is_null() {
                map.shift_remove(name);
            } else {
                merge(map.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}
