//! Azure's rules for names
//! (<https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules>).

use std::ops::RangeInclusive;

use super::error::ArmError;

/// Whether `name` has an allowed length (in characters), only allowed characters, and passes `also`.
#[expect(clippy::result_unit_err, reason = "each type has its own words for the error")]
pub fn check(
    name: &str,
    length: RangeInclusive<usize>,
    allowed: impl Fn(char) -> bool,
    also: impl Fn(&str) -> bool,
) -> Result<(), ()> {
    let fits = length.contains(&name.chars().count()) && name.chars().all(allowed) && also(name);
    if fits { Ok(()) } else { Err(()) }
}

/// What holds for most types: 1 to 80 letters, digits, `-`, `_`, `.`; begins with a letter or digit,
/// ends with a letter, digit or `_`.
pub fn general(kind: &str, name: &str) -> Result<(), ArmError> {
    check(
        name,
        1..=80,
        |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
        |name| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        },
    )
    .map_err(|()| invalid(kind, name, "1 to 80 letters, digits, '-', '_' or '.', beginning with a letter or digit and ending with a letter, digit or '_'"))
}

/// The error for a name against `kind`'s rules.
pub fn invalid(kind: &str, name: &str, rule: &str) -> ArmError {
    ArmError::bad_request(
        "InvalidResourceName",
        format!(
            "The name '{name}' is not valid for a resource of type '{kind}': it must be {rule}."
        ),
    )
    .at("name")
}
