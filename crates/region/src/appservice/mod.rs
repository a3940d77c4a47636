//! App Service.
pub mod build;
pub mod content;
pub mod health;
pub mod instance;
pub mod logs;
pub mod python;
pub mod references;
pub mod sandbox;
pub mod settings;
pub mod site;
pub mod supervisor;
pub mod swap;
#[cfg(test)]
mod testing;
