//! `Microsoft.Web/certificates`
//! (<https://learn.microsoft.com/rest/api/appservice/certificates>). The front end's certificates are the
//! region's own, made when a client asks for a name of Azure's: there are none to bring.

use serde_json::Value;

use super::{ResourceType, Write, web::VERSIONS};
use crate::{
    control::{Context, error::ArmError},
    store::Batch,
};

/// Certificates for host names of one's own.
pub(super) struct Certificates;

impl ResourceType for Certificates {
    fn kind(&self) -> &'static str {
        "Microsoft.Web/certificates"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["(all): creating one is refused with NotImplemented"]
    }

    fn desired(&self, _: &Context, write: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        Err(ArmError::not_implemented(format!(
            "The certificate '{}' was not made: a local region serves Azure's host names with certificates of its own authority, which may issue for no other name.",
            write.id.name()
        )))
    }
}
