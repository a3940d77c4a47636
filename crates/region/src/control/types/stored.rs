//! A type that is kept, checked and shown, and does nothing yet: a [`Schema`] and a name. Each such
//! type has a file of its own; when it learns to act it becomes a [`ResourceType`] by hand.

use serde_json::Value;

use super::{Placement, ResourceType, Style, Write};
use crate::{
    control::{Context, error::ArmError, schema::Schema},
    store::{Batch, Resource},
};

/// A type of which the schema is all there is.
pub(super) struct Stored {
    pub(super) kind: &'static str,
    pub(super) api_versions: &'static [&'static str],
    pub(super) not_acted_upon: &'static [&'static str],
    pub(super) placement: Placement,
    pub(super) schema: Schema,
    /// Whether `properties.provisioningState` is shown.
    pub(super) provisioning_state: bool,
    pub(super) style: Style,
    /// Checks between properties, and what Azure fills in at creation.
    pub(super) settle: fn(&Context, &Write<'_>, &mut Value) -> Result<(), ArmError>,
}

/// Nothing to settle.
#[expect(clippy::unnecessary_wraps, reason = "the shape of `Stored::settle`")]
pub(super) fn nothing(_: &Context, _: &Write<'_>, _: &mut Value) -> Result<(), ArmError> {
    Ok(())
}

impl ResourceType for Stored {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn api_versions(&self) -> &'static [&'static str] {
        self.api_versions
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        self.not_acted_upon
    }

    fn placement(&self) -> Placement {
        self.placement
    }

    fn provisioning_state(&self) -> bool {
        self.provisioning_state
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        // Names of Azure Monitor's resources may hold almost anything; the ID's own rules hold.
        if name.chars().count() <= 260 && !name.ends_with(['.', ' ']) {
            return Ok(());
        }
        Err(crate::control::names::invalid(
            self.kind,
            name,
            "1 to 260 characters long and may not end in '.' or a space",
        ))
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = self.schema.apply(write)?;
        (self.settle)(context, write, &mut body)?;
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        self.style
    }

    fn view(&self, _: &Context, resource: &Resource) -> Value {
        resource.body.clone()
    }
}
