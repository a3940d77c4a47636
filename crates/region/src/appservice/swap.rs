//! What a slot swap exchanges and what it leaves where it is.
//!
//! The running of a swap is in [`super::swapping`]; this part is without I/O.
//! <https://learn.microsoft.com/azure/app-service/deploy-staging-slots#which-settings-are-swapped>

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::site::{SlotRecord, StickyNames};

/// Web configuration that stays with its slot: scale, TLS, restrictions, always-on, networking,
/// diagnostics, publishing and routing.
const STICKY_CONFIG: &[&str] = &[
    "alwaysOn",
    "numberOfWorkers",
    "minimumElasticInstanceCount",
    "preWarmedInstanceCount",
    "elasticWebAppScaleLimit",
    "functionAppScaleLimit",
    "minTlsVersion",
    "minTlsCipherSuite",
    "scmMinTlsVersion",
    "ftpsState",
    "ipSecurityRestrictions",
    "ipSecurityRestrictionsDefaultAction",
    "scmIpSecurityRestrictions",
    "scmIpSecurityRestrictionsDefaultAction",
    "scmIpSecurityRestrictionsUseMain",
    "cors",
    "vnetName",
    "vnetRouteAllEnabled",
    "vnetPrivatePortsCount",
    "publicNetworkAccess",
    "autoSwapSlotName",
    "experiments",
    "publishingUsername",
    "httpLoggingEnabled",
    "detailedErrorLoggingEnabled",
    "requestTracingEnabled",
    "requestTracingExpirationTime",
    "logsDirectorySizeLimit",
    "remoteDebuggingEnabled",
    "remoteDebuggingVersion",
    "managedServiceIdentityId",
    "xManagedServiceIdentityId",
    "keyVaultReferenceIdentity",
];

/// Whether an application setting stays with its slot: named so, or of the kind that always does.
pub fn setting_is_sticky(sticky: &StickyNames, name: &str) -> bool {
    sticky.app_setting_names.iter().any(|sticky| sticky.eq_ignore_ascii_case(name))
        || name.to_ascii_uppercase().ends_with("_EXTENSION_VERSION")
}

fn connection_string_is_sticky(sticky: &StickyNames, name: &str) -> bool {
    sticky.connection_string_names.iter().any(|sticky| sticky.eq_ignore_ascii_case(name))
}

/// The two records as they are after a swap: `(source, target)`. Everything not exchanged here stays:
/// host names, TLS, scale, identity, networking, credentials, restarts.
pub fn exchange(
    source: &SlotRecord,
    target: &SlotRecord,
    sticky: &StickyNames,
) -> (SlotRecord, SlotRecord) {
    (received(source, target, sticky), received(target, source, sticky))
}

/// `keeper` with what `giver` brings into it.
fn received(keeper: &SlotRecord, giver: &SlotRecord, sticky: &StickyNames) -> SlotRecord {
    let mut after = keeper.clone();
    after.app_settings =
        merge(&keeper.app_settings, &giver.app_settings, |name| setting_is_sticky(sticky, name));
    after.connection_strings =
        merge(&keeper.connection_strings, &giver.connection_strings, |name| {
            connection_string_is_sticky(sticky, name)
        });
    after.config = merge_config(&keeper.config, &giver.config);
    after.deployment.clone_from(&giver.deployment);
    after.volume.clone_from(&giver.volume);
    after.preview = None;
    after
}

fn merge<V: Clone>(
    keeper: &BTreeMap<String, V>,
    giver: &BTreeMap<String, V>,
    stays: impl Fn(&str) -> bool,
) -> BTreeMap<String, V> {
    let kept = keeper.iter().filter(|(name, _)| stays(name));
    let brought = giver.iter().filter(|(name, _)| !stays(name));
    kept.chain(brought).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn merge_config(keeper: &Map<String, Value>, giver: &Map<String, Value>) -> Map<String, Value> {
    let stays = |name: &str| STICKY_CONFIG.contains(&name);
    let kept = keeper.iter().filter(|(name, _)| stays(name));
    let brought = giver.iter().filter(|(name, _)| !stays(name));
    kept.chain(brought).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The differences a swap would make, as `slotsdiffs` lists them: `(level, type, rule, name,
/// value here, value there)`. Values of settings are not shown.
pub fn differences(
    source: &SlotRecord,
    target: &SlotRecord,
    sticky: &StickyNames,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut names: Vec<&String> =
        source.app_settings.keys().chain(target.app_settings.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (here, there) = (source.app_settings.get(name), target.app_settings.get(name));
        if here != there {
            differences.push(Difference {
                kind: "AppSettings",
                sticky: setting_is_sticky(sticky, name),
                name: name.clone(),
                in_source: here.is_some(),
                in_target: there.is_some(),
            });
        }
    }
    let mut names: Vec<&String> = source.config.keys().chain(target.config.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (here, there) = (source.config.get(name), target.config.get(name));
        if here != there {
            differences.push(Difference {
                kind: "General",
                sticky: STICKY_CONFIG.contains(&name.as_str()),
                name: name.clone(),
                in_source: here.is_some(),
                in_target: there.is_some(),
            });
        }
    }
    differences
}

/// One line of `slotsdiffs`.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// `AppSettings` or `General`.
    pub kind: &'static str,
    /// Whether it stays with its slot.
    pub sticky: bool,
    /// The setting.
    pub name: String,
    /// Whether the source has it.
    pub in_source: bool,
    /// Whether the target has it.
    pub in_target: bool,
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};
    use serde_json::json;

    use super::*;
    use crate::appservice::{
        settings::tests::record,
        site::{ActiveDeployment, ConnectionString, SlotIdentity},
    };

    fn names() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "APP_ENV",
            "DATABASE_URL",
            "LOG_LEVEL",
            "X_EXTENSION_VERSION",
            "a",
            "b",
        ])
        .prop_map(str::to_owned)
    }

    fn slot() -> impl Strategy<Value = SlotRecord> {
        let config = prop::sample::select(vec![
            "alwaysOn",
            "appCommandLine",
            "healthCheckPath",
            "numberOfWorkers",
        ]);
        (
            collection::btree_map(names(), "[a-z]{0,3}", 0..6),
            collection::btree_map(names(), "[a-z]{0,3}", 0..4),
            collection::btree_map(config, "[a-z]{0,3}", 0..4),
            prop::option::of("[0-9]{1,3}"),
            "[a-z]{3}",
            0_u64..3,
        )
            .prop_map(|(settings, strings, config, deployment, volume, restarts)| {
                let mut slot = record();
                slot.app_settings = settings;
                slot.connection_strings = strings
                    .into_iter()
                    .map(|(name, value)| (name, ConnectionString { value, kind: "Custom".into() }))
                    .collect();
                slot.config = config
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), json!(value)))
                    .collect();
                slot.deployment = deployment.map(|id| ActiveDeployment {
                    content: id.clone(),
                    id,
                    environment: None,
                });
                slot.volume = volume;
                slot.restarts = restarts;
                slot.identity =
                    Some(SlotIdentity { principal_id: slot.volume.clone(), tenant_id: "t".into() });
                slot
            })
    }

    fn sticky() -> impl Strategy<Value = StickyNames> {
        (collection::vec(names(), 0..3), collection::vec(names(), 0..3)).prop_map(
            |(app_setting_names, connection_string_names)| StickyNames {
                app_setting_names,
                connection_string_names,
                ..StickyNames::default()
            },
        )
    }

    /// Maps of `serde_json` keep their order, which a swap may change; what they hold must not.
    fn sorted(mut slot: SlotRecord) -> SlotRecord {
        slot.config.sort_keys();
        slot
    }

    proptest! {
        #[test]
        fn swapping_twice_changes_nothing(source in slot(), target in slot(), sticky in sticky()) {
            let (s, t) = exchange(&source, &target, &sticky);
            let (s, t) = exchange(&s, &t, &sticky);
            prop_assert_eq!(sorted(s), sorted(source));
            prop_assert_eq!(sorted(t), sorted(target));
        }

        #[test]
        fn sticky_settings_never_travel_and_the_rest_always_does(
            source in slot(), target in slot(), sticky in sticky()
        ) {
            let (_, after) = exchange(&source, &target, &sticky);
            for name in target.app_settings.keys().chain(source.app_settings.keys()) {
                let from = if setting_is_sticky(&sticky, name) { &target } else { &source };
                prop_assert_eq!(after.app_settings.get(name), from.app_settings.get(name));
            }
            for name in target.connection_strings.keys().chain(source.connection_strings.keys()) {
                let stays = sticky.connection_string_names.contains(name);
                let from = if stays { &target } else { &source };
                prop_assert_eq!(after.connection_strings.get(name), from.connection_strings.get(name));
            }
            prop_assert_eq!(&after.identity, &target.identity);
            prop_assert_eq!(after.restarts, target.restarts);
            prop_assert_eq!(&after.deployment, &source.deployment);
            prop_assert_eq!(after.config.get("alwaysOn"), target.config.get("alwaysOn"));
            prop_assert_eq!(after.config.get("appCommandLine"), source.config.get("appCommandLine"));
        }
    }

    #[test]
    fn differences_name_what_differs_and_show_no_value() {
        let mut source = record();
        source.app_settings.insert("JWT_SECRET".into(), "hunter2".into());
        let found = differences(&source, &record(), &StickyNames::default());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].in_target), ("JWT_SECRET", false));
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}
