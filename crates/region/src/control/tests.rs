//! Resource Manager as its clients meet it.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::testing::World;

const KV: &str = "/providers/Microsoft.KeyVault/vaults/notes-kv";
const VNET: &str = "/providers/Microsoft.Network/virtualNetworks/notes-vnet";

fn vault(world: &World) -> Value {
    json!({
        "location": "westeurope",
        "properties": {
            "tenantId": world.context().tenancy.tenant_id, "sku": { "family": "A", "name": "Standard" },
            "enableRbacAuthorization": true, "enablePurgeProtection": true,
            "publicNetworkAccess": "disabled", "accessPolicies": [],
        }
    })
}

async fn network(world: &World) {
    world
        .put(
            world.id(VNET).as_str(),
            json!({ "location": "westeurope", "properties": { "addressSpace": { "addressPrefixes": ["10.0.0.0/16"] }, "subnets": [] } }),
        )
        .await
        .expect(201);
    for (name, prefix) in [("app-subnet", "10.0.1.0/24"), ("pe-subnet", "10.0.2.0/24")] {
        world
            .put(
                world.id(&format!("{VNET}/subnets/{name}")).as_str(),
                json!({ "properties": { "addressPrefixes": [prefix], "sharingScope": "" } }),
            )
            .await
            .expect(201);
    }
}

#[tokio::test]
async fn given_no_version_or_token_then_azures_refusals() {
    let world = World::new().await;
    let request = |uri: &str, token: Option<&str>| {
        let mut request = Request::builder().uri(uri);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Bytes::new()).expect("a request")
    };
    let answer = world.send(request("/subscriptions?api-version=2022-12-01", None)).await;
    let challenge = answer.header("www-authenticate").expect("a challenge");
    assert!(challenge.starts_with("Bearer authorization_uri=\"https://login.microsoftonline.com/"));
    assert!(answer.header("x-ms-request-id").is_some());
    answer.refused(401, "AuthenticationFailed");
    world
        .send(request("/subscriptions", Some(&world.token)))
        .await
        .refused(400, "MissingApiVersionParameter");
    world
        .send(request("/subscriptions?api-version=latest", Some(&world.token)))
        .await
        .refused(400, "InvalidApiVersionParameter");
    let vault = world.token_for("https://vault.azure.net/.default");
    world
        .send(request("/subscriptions?api-version=2022-12-01", Some(&vault)))
        .await
        .refused(401, "InvalidAuthenticationTokenAudience");
    world
        .send(request("/subscriptions?api-version=2022-12-01", Some("a.b.c")))
        .await
        .refused(401, "InvalidAuthenticationToken");
    let stranger = World::new().await;
    world
        .send(request("/subscriptions?api-version=2022-12-01", Some(&stranger.token)))
        .await
        .refused(401, "InvalidAuthenticationToken");
}

#[tokio::test]
async fn given_the_deployer_then_it_sees_its_subscription_alone() {
    let world = World::new().await;
    let list = world.get("/subscriptions").await.expect(200);
    assert_eq!(
        list["value"][0]["subscriptionId"],
        world.context().tenancy.subscription_id.as_str()
    );
    world.get("/tenants").await.expect(200);
    world
        .get("/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/x")
        .await
        .refused(404, "SubscriptionNotFound");
    let locations = world.get(&world.path("/locations")).await.expect(200);
    assert_eq!(locations["value"][0]["name"], "westeurope");
}

#[tokio::test]
async fn given_a_group_then_its_life_is_azures() {
    let world = World::new().await;
    let path = world.path("/resourceGroups/rg-Notes");
    world.get(&path).await.refused(404, "ResourceGroupNotFound");
    let made = world.put(&path, json!({ "location": "West Europe", "tags": { "a": "b" } })).await;
    let made = made.expect(201);
    assert_eq!(made["id"], path.as_str());
    assert_eq!(made["type"], "Microsoft.Resources/resourceGroups");
    assert_eq!(made["location"], "westeurope");
    assert_eq!(made["properties"]["provisioningState"], "Succeeded");
    // Any casing is the same group, which keeps its own.
    let again =
        world.get(&path.to_ascii_uppercase().replace("/SUBSCRIPTIONS", "/Subscriptions")).await;
    assert_eq!(again.expect(200), made);
    let put = world
        .put(&path.to_ascii_lowercase(), json!({ "location": "westeurope" }))
        .await
        .expect(200);
    assert_eq!(put["name"], "rg-Notes");
    assert!(put.get("tags").is_none(), "a PUT is the whole resource");
    world
        .put(&path, json!({ "location": "northeurope" }))
        .await
        .refused(409, "InvalidResourceGroupLocation");
    let patched = world.patch(&path, json!({ "tags": { "x": "y" } })).await.expect(200);
    assert_eq!(patched["tags"], json!({ "x": "y" }));
    assert_eq!(world.call(Method::HEAD, &path, "2024-01-01", None).await.status, 204);
    let list = world.get(&world.path("/resourcegroups")).await.expect(200);
    assert_eq!(list["value"].as_array().expect("a list").len(), 1);
    let gone = world.delete(&path).await;
    assert_eq!(gone.status, 202);
    assert_eq!(world.finish(&gone).await.status, 200);
    world.get(&path).await.refused(404, "ResourceGroupNotFound");
    world.delete(&path).await.refused(404, "ResourceGroupNotFound");
}

#[tokio::test]
async fn given_bad_bodies_then_azures_errors_and_nothing_is_made() {
    let world = World::new().await;
    let path = world.path("/resourceGroups/rg");
    let raw = async |bytes: Vec<u8>| {
        let request = Request::builder()
            .method("PUT")
            .uri(format!("{path}?api-version=2024-01-01"))
            .header("authorization", format!("Bearer {}", world.token))
            .body(Bytes::from(bytes))
            .expect("a request");
        world.send(request).await
    };
    raw(b"{".to_vec()).await.refused(400, "InvalidRequestContent");
    raw(vec![0xff; 10]).await.refused(400, "InvalidRequestContent");
    raw(b"[1]".to_vec()).await.refused(400, "InvalidRequestContent");
    raw(vec![]).await.refused(400, "InvalidRequestContent");
    raw([b"[".repeat(10_000), b"]".repeat(10_000)].concat())
        .await
        .refused(400, "InvalidRequestContent");
    for (body, code) in [
        (json!({}), "LocationRequired"),
        (json!({ "location": "atlantis" }), "LocationNotAvailableForResourceType"),
        (json!({ "location": 7 }), "InvalidRequestContent"),
        (json!({ "location": "westeurope", "tags": { "a": 1 } }), "InvalidTags"),
        (json!({ "location": "westeurope", "tags": { "a<b": "1" } }), "InvalidTagNameCharacters"),
        (json!({ "location": "westeurope", "tags": [] }), "InvalidRequestContent"),
        (json!({ "location": "westeurope", "properties": 1 }), "InvalidRequestContent"),
        (json!({ "location": "westeurope", "id": "/subscriptions/x" }), "MismatchingResourceId"),
    ] {
        world.put(&path, body).await.refused(400, code);
    }
    world
        .put(&world.path("/resourceGroups/ends."), json!({ "location": "westeurope" }))
        .await
        .refused(400, "InvalidResourceGroup");
    for path in ["/resourceGroups/%2e%2e", "/resourceGroups/a%2Fb", "/resourceGroups/a%00"] {
        let answer = world.put(&world.path(path), json!({ "location": "westeurope" })).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
    }
    let list = world.get(&world.path("/resourceGroups")).await.expect(200);
    assert_eq!(list["value"], json!([]));
}

#[tokio::test]
async fn given_unknown_types_parents_and_actions_then_404() {
    let world = World::new().await;
    world.get(world.id(KV).as_str()).await.refused(404, "ResourceGroupNotFound");
    world.group().await;
    world.get(world.id(KV).as_str()).await.refused(404, "ResourceNotFound");
    world
        .get(world.id("/providers/Microsoft.Fantasy/things/x").as_str())
        .await
        .refused(404, "InvalidResourceType");
    world
        .put(world.id(&format!("{VNET}/subnets/a")).as_str(), json!({ "properties": {} }))
        .await
        .refused(404, "ParentResourceNotFound");
    world.delete(world.id(KV).as_str()).await.expect(204);
    world
        .patch(world.id(KV).as_str(), json!({ "tags": {} }))
        .await
        .refused(404, "ResourceNotFound");
    world
        .post(&world.path("/resourceGroups/rg/dance"), json!({}))
        .await
        .refused(405, "HttpMethodNotAllowed");
}

#[tokio::test]
async fn given_etags_then_conditions_hold() {
    let world = World::new().await;
    world.group().await;
    let path = world.path("/resourceGroups/rg");
    let etag = world.get(&path).await.header("etag").expect("an etag");
    let conditional = async |name: &str, value: &str| {
        let request = Request::builder()
            .method("PUT")
            .uri(format!("{path}?api-version=2024-01-01"))
            .header("authorization", format!("Bearer {}", world.token))
            .header(name, value)
            .body(Bytes::from(r#"{"location":"westeurope"}"#))
            .expect("a request");
        world.send(request).await
    };
    conditional("if-none-match", "*").await.refused(412, "PreconditionFailed");
    conditional("if-match", "\"other\"").await.refused(412, "PreconditionFailed");
    conditional("if-match", &etag).await.expect(200);
    conditional("if-match", &etag).await.refused(412, "PreconditionFailed");
    conditional("if-match", "*").await.expect(200);
    // As azurerm sends it with a private DNS zone.
    conditional("if-match", "").await.expect(200);
    conditional("if-none-match", "").await.expect(200);
}

#[tokio::test]
async fn given_two_writers_then_one_of_the_two_and_never_a_mixture() {
    let world = World::new().await;
    world.group().await;
    network(&world).await;
    let path = world.id(VNET).to_string();
    let body = |n: usize| {
        json!({ "location": "westeurope", "tags": { "a": n.to_string(), "b": n.to_string() },
                "properties": { "addressSpace": { "addressPrefixes": ["10.0.0.0/16"] } } })
    };
    let writes = (0..64).map(|n| world.put(&path, body(n)));
    for answer in futures_util::future::join_all(writes).await {
        answer.expect(200);
    }
    let tags = world.get(&path).await.expect(200)["tags"].clone();
    assert_eq!(tags["a"], tags["b"]);
    let patches = (0..40).map(|n| world.patch(&path, json!({ "tags": { format!("t{n}"): "x" } })));
    for answer in futures_util::future::join_all(patches).await {
        answer.expect(200);
    }
    let tags = world.get(&path).await.expect(200)["tags"].clone();
    assert_eq!(tags.as_object().expect("tags").len(), 42, "no patch was lost: {tags}");
}

#[tokio::test]
async fn given_a_network_then_ranges_references_and_use_are_checked() {
    let world = World::new().await;
    world.group().await;
    network(&world).await;
    let subnet = |name: &str| world.id(&format!("{VNET}/subnets/{name}")).to_string();
    let put = async |name: &str, prefix: &str| {
        world.put(&subnet(name), json!({ "properties": { "addressPrefix": prefix } })).await
    };
    put("x", "10.1.0.0/24").await.refused(400, "NetcfgSubnetRangeOutsideVnet");
    put("x", "10.0.1.128/25").await.refused(400, "NetcfgSubnetRangesOverlap");
    put("x", "10.0.9.1/24").await.refused(400, "InvalidCIDRNotation");
    put("x", "10.0.9.0/30").await.refused(400, "NetcfgInvalidSubnet");
    world
        .put(&subnet("x"), json!({ "properties": { "addressPrefix": "10.0.9.0/24", "networkSecurityGroup": { "id": world.id("/providers/Microsoft.Network/networkSecurityGroups/none") } } }))
        .await
        .refused(400, "InvalidResourceReference");
    let shown = world.get(world.id(VNET).as_str()).await.expect(200);
    let names: Vec<_> = shown["properties"]["subnets"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| s["name"].clone())
        .collect();
    assert_eq!(names, ["app-subnet", "pe-subnet"]);
    assert_eq!(shown["properties"]["subnets"][0]["properties"]["provisioningState"], "Succeeded");
    // A write that does not speak of subnets leaves them; one that lists them is the whole truth.
    let base = json!({ "location": "westeurope", "properties": { "addressSpace": { "addressPrefixes": ["10.0.0.0/16"] } } });
    world.put(world.id(VNET).as_str(), base.clone()).await.expect(200);
    world.get(&subnet("pe-subnet")).await.expect(200);
    let mut fewer = base.clone();
    fewer["properties"]["subnets"] =
        json!([{ "name": "pe-subnet", "properties": { "addressPrefix": "10.0.2.0/24" } }]);
    world.put(world.id(VNET).as_str(), fewer).await.expect(200);
    world.get(&subnet("app-subnet")).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn given_a_security_group_then_its_rules_are_checked_and_kept() {
    let world = World::new().await;
    world.group().await;
    let path = world.id("/providers/Microsoft.Network/networkSecurityGroups/db-nsg").to_string();
    // As Terraform sends it.
    let rule = |name: &str, priority: i64| {
        json!({ "name": name, "properties": {
            "access": "Allow", "destinationAddressPrefix": "10.0.3.0/24", "destinationPortRange": "",
            "destinationPortRanges": ["6432", "5432"], "direction": "Inbound", "priority": priority,
            "protocol": "Tcp", "sourceAddressPrefix": "10.0.1.0/24", "sourcePortRange": "*" }})
    };
    let group = |rules: Value| json!({ "location": "westeurope", "properties": { "securityRules": rules } });
    let made = world.put(&path, group(json!([rule("a", 100), rule("b", 110)]))).await.expect(201);
    assert_eq!(made["properties"]["securityRules"].as_array().map(Vec::len), Some(2));
    assert_eq!(made["properties"]["defaultSecurityRules"].as_array().map(Vec::len), Some(6));
    assert_eq!(made["properties"]["securityRules"][0]["properties"]["destinationPortRange"], "");
    assert_eq!(world.get(&path).await.expect(200), made, "a second read equals the first");
    world
        .put(&path, group(json!([rule("a", 100), rule("b", 100)])))
        .await
        .refused(400, "SecurityRuleConflict");
    world.put(&path, group(json!([rule("a", 99)]))).await.refused(400, "InvalidParameterValue");
    world
        .put(&format!("{path}/securityRules/c"), rule("c", 110))
        .await
        .refused(400, "SecurityRuleConflict");
    let mut bad = rule("c", 120);
    bad["properties"]["destinationPortRanges"] = json!(["70000"]);
    world
        .put(&format!("{path}/securityRules/c"), bad)
        .await
        .refused(400, "SecurityRuleInvalidPortRange");
    world.delete(&format!("{path}/securityRules/a")).await.expect(200);
    let left = world.get(&path).await.expect(200);
    assert_eq!(left["properties"]["securityRules"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn given_a_private_endpoint_then_the_vault_has_an_address_and_a_name() {
    let world = World::new().await;
    world.group().await;
    network(&world).await;
    world.put(world.id(KV).as_str(), vault(&world)).await.expect(200);
    let zone =
        world.id("/providers/Microsoft.Network/privateDnsZones/privatelink.vaultcore.azure.net");
    world.put(zone.as_str(), json!({ "location": "global", "tags": {} })).await.expect(201);
    let soa = world.get(&format!("{zone}/SOA/@")).await.expect(200);
    assert_eq!(soa["properties"]["soaRecord"]["host"], "azureprivatedns.net");
    world
        .put(&format!("{zone}/virtualNetworkLinks/link"), json!({ "location": "global", "properties": { "registrationEnabled": false, "virtualNetwork": { "id": world.id(VNET) } } }))
        .await
        .expect(201);
    let endpoint = world.id("/providers/Microsoft.Network/privateEndpoints/notes-kv-pe");
    let subnet = world.id(&format!("{VNET}/subnets/pe-subnet"));
    let body = json!({ "location": "westeurope", "properties": {
        "customNetworkInterfaceName": "", "ipConfigurations": [], "manualPrivateLinkServiceConnections": [],
        "privateLinkServiceConnections": [{ "name": "kv", "properties": { "groupIds": ["vault"], "privateLinkServiceId": world.id(KV) } }],
        "subnet": { "id": subnet } }, "tags": {} });
    let made = world.put(endpoint.as_str(), body).await.expect(201);
    assert_eq!(made["properties"]["customDnsConfigs"][0]["ipAddresses"], json!(["10.0.2.4"]));
    let names = &world.context().names;
    assert_eq!(names.get("notes-kv.vault.azure.net"), Some([10, 0, 2, 4].into()));
    let nic = made["properties"]["networkInterfaces"][0]["id"].as_str().expect("an ID").to_owned();
    let nic = world.get(&nic).await.expect(200);
    assert_eq!(
        nic["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"],
        "10.0.2.4"
    );

    let group = format!("{endpoint}/privateDnsZoneGroups/default");
    let made = world
        .put(&group, json!({ "properties": { "privateDnsZoneConfigs": [{ "name": "z", "properties": { "privateDnsZoneId": zone } }] } }))
        .await
        .expect(201);
    assert_eq!(
        made["properties"]["privateDnsZoneConfigs"][0]["properties"]["recordSets"][0]["ipAddresses"],
        json!(["10.0.2.4"])
    );
    let record = world.get(&format!("{zone}/A/notes-kv")).await.expect(200);
    assert_eq!(record["properties"]["aRecords"], json!([{ "ipv4Address": "10.0.2.4" }]));
    assert!(names.get("notes-kv.privatelink.vaultcore.azure.net").is_some());

    world.delete(subnet.as_str()).await.refused(400, "InUseSubnetCannotBeDeleted");
    world.delete(world.id(VNET).as_str()).await.refused(400, "InUseSubnetCannotBeDeleted");
    world.delete(zone.as_str()).await.refused(409, "CannotDeleteResource");

    // All of it is there after a restart.
    let world = world.restart().await;
    let names = &world.context().names;
    assert_eq!(names.get("notes-kv.vault.azure.net"), Some([10, 0, 2, 4].into()));
    assert!(names.get("notes-kv.privatelink.vaultcore.azure.net").is_some());

    world.delete(endpoint.as_str()).await.expect(200);
    assert_eq!(world.context().names.get("notes-kv.vault.azure.net"), None);
    world.get(&format!("{zone}/A/notes-kv")).await.refused(404, "ResourceNotFound");
    world.delete(subnet.as_str()).await.expect(200);
}

#[tokio::test]
async fn given_a_full_group_then_deleting_it_deletes_everything() {
    let world = World::new().await;
    world.group().await;
    network(&world).await;
    world.put(world.id(KV).as_str(), vault(&world)).await.expect(200);
    let nsg = world.id("/providers/Microsoft.Network/networkSecurityGroups/a-nsg");
    world.put(nsg.as_str(), json!({ "location": "westeurope" })).await.expect(201);
    world
        .put(world.id(&format!("{VNET}/subnets/app-subnet")).as_str(), json!({ "properties": { "addressPrefix": "10.0.1.0/24", "networkSecurityGroup": { "id": nsg } } }))
        .await
        .expect(200);
    world.delete(nsg.as_str()).await.refused(400, "InUseNetworkSecurityGroupCannotBeDeleted");
    let list = world.get(&world.path("/resources")).await.expect(200);
    assert_eq!(list["value"].as_array().map(Vec::len), Some(3), "{list:#}");
    let filtered = world
        .get(&world.path("/resources?$filter=resourceType%20eq%20'Microsoft.KeyVault/vaults'"))
        .await
        .expect(200);
    assert_eq!(filtered["value"].as_array().map(Vec::len), Some(1));
    let gone = world.delete(&world.path("/resourceGroups/rg")).await;
    assert_eq!(gone.status, 202);
    assert_eq!(world.finish(&gone).await.status, 200);
    assert_eq!(world.context().store.list_below(&world.id("")).len(), 0);
}

#[tokio::test]
async fn given_a_vault_then_its_rules_are_azures() {
    let world = World::new().await;
    world.group().await;
    let path = world.id(KV).to_string();
    let made = world.put(&path, vault(&world)).await.expect(200);
    assert_eq!(made["properties"]["vaultUri"], "https://notes-kv.vault.azure.net/");
    assert_eq!(made["properties"]["sku"]["name"], "standard");
    assert_eq!(made["properties"]["publicNetworkAccess"], "Disabled");
    assert_eq!(made["properties"]["softDeleteRetentionInDays"], 90);
    let change = async |pointer: &str, value: Value| {
        let mut body = vault(&world);
        body["properties"][pointer] = value;
        world.put(&path, body).await
    };
    change("softDeleteRetentionInDays", json!(7)).await.refused(400, "PropertyChangeNotAllowed");
    change("enablePurgeProtection", json!(false)).await.refused(400, "BadRequest");
    change("enableSoftDelete", json!(false)).await.refused(400, "BadRequest");
    change("tenantId", json!("11111111-1111-1111-1111-111111111111"))
        .await
        .refused(400, "BadRequest");
    change("publicNetworkAccess", json!("Maybe")).await.refused(400, "InvalidParameterValue");
    for name in ["1kv", "kv--a", "kv-", "ab", "a-name-that-is-longer-than-24"] {
        let id = world.id(&format!("/providers/Microsoft.KeyVault/vaults/{name}"));
        world.put(id.as_str(), vault(&world)).await.refused(400, "VaultNameNotValid");
    }
    world
        .put(&world.path("/resourceGroups/other"), json!({ "location": "westeurope" }))
        .await
        .expect(201);
    let twin = world.path(&format!("/resourceGroups/other{KV}"));
    world.put(&twin, vault(&world)).await.refused(409, "VaultAlreadyExists");
    let check = world.path("/providers/Microsoft.KeyVault/checkNameAvailability");
    let answer = world
        .post(&check, json!({ "name": "notes-kv", "type": "Microsoft.KeyVault/vaults" }))
        .await;
    assert_eq!(answer.expect(200)["nameAvailable"], false);

    // Deleted softly, with everything in it.
    world
        .put(&format!("{path}/secrets/jwt"), json!({ "properties": { "value": "s3cret" } }))
        .await
        .expect(201);
    world.delete(&path).await.expect(200);
    let dead =
        world.path("/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/notes-kv");
    let shown = world.get(&dead).await.expect(200);
    assert_eq!(shown["properties"]["vaultId"], path.as_str());
    world.put(&path, vault(&world)).await.refused(409, "ConflictError");
    world.post(&format!("{dead}/purge"), Value::Null).await.refused(400, "DeletedVaultPurge");
    world.put(&path, json!({ "location": "westeurope", "properties": { "createMode": "recover", "tenantId": "x", "sku": {} } })).await.expect(200);
    let secret = world.get(&format!("{path}/secrets/jwt")).await.expect(200);
    assert_eq!(secret["properties"]["secretUri"], "https://notes-kv.vault.azure.net/secrets/jwt");
    world.get(&dead).await.refused(404, "DeletedVaultNotFound");
}

#[tokio::test]
async fn given_a_secret_written_through_arm_then_its_value_is_nowhere_but_sealed() {
    let world = World::new().await;
    world.group().await;
    world.put(world.id(KV).as_str(), vault(&world)).await.expect(200);
    let path = format!("{}/secrets/notes-jwt-secret", world.id(KV));
    let value = "needle-Zm9vYmFy-needle";
    let made = world
        .put(&path, json!({ "properties": { "value": value, "contentType": "text/plain", "attributes": { "enabled": true } }, "tags": { "purpose": "jwt" } }))
        .await
        .expect(201);
    assert!(!made.to_string().contains(value));
    assert_eq!(made["tags"]["purpose"], "jwt");
    assert_eq!(
        world
            .context()
            .vaults
            .read("notes-kv", "notes-jwt-secret", None)
            .expect("there")
            .value
            .as_str(),
        value
    );
    world.put(&path, json!({ "properties": {} })).await.refused(400, "InvalidRequestContent");
    world
        .put(&path, json!({ "properties": { "value": 7 } }))
        .await
        .refused(400, "InvalidRequestContent");
    world
        .put(&path, json!({ "properties": { "value": "x".repeat(26_000) } }))
        .await
        .refused(400, "BadParameter");
    world
        .put(&format!("{}/secrets/a_b", world.id(KV)), json!({ "properties": { "value": "x" } }))
        .await
        .refused(400, "BadParameter");
    let list = world.get(&format!("{}/secrets", world.id(KV))).await.expect(200);
    assert_eq!(list["value"].as_array().map(Vec::len), Some(1));
    world.delete(&path).await.refused(405, "HttpMethodNotAllowed");
    for entry in walk(world.directory.root()) {
        let bytes = std::fs::read(&entry).expect("readable");
        assert!(
            !bytes.windows(value.len()).any(|window| window == value.as_bytes()),
            "the value is in {}",
            entry.display()
        );
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable").flatten() {
        if entry.path().is_dir() {
            out.extend(walk(&entry.path()));
        } else if entry.path().is_file() {
            out.push(entry.path());
        }
    }
    out
}

#[tokio::test]
async fn given_role_assignments_then_terraforms_way_works() {
    let world = World::new().await;
    world.group().await;
    world.put(world.id(KV).as_str(), vault(&world)).await.expect(200);
    let kv = world.id(KV);
    let found = world
        .get(&format!("{kv}/providers/Microsoft.Authorization/roleDefinitions?$filter=roleName%20eq%20'Key%20Vault%20Secrets%20User'"))
        .await
        .expect(200);
    assert_eq!(found["value"].as_array().map(Vec::len), Some(1));
    let role = found["value"][0]["id"].as_str().expect("an ID").to_owned();
    assert!(role.ends_with("/4633458b-17de-408a-b874-0445c86b69e6"));
    assert_eq!(world.get(&role).await.expect(200), found["value"][0]);
    let name = uuid::Uuid::new_v4();
    let path = format!("{kv}/providers/Microsoft.Authorization/roleAssignments/{name}");
    let nobody =
        json!({ "properties": { "principalId": uuid::Uuid::new_v4(), "roleDefinitionId": role } });
    world.put(&path, nobody).await.refused(400, "PrincipalNotFound");
    let owner = world.id("/providers/Microsoft.Web/sites/notes");
    let identity = world.context().identity.create_identity(&owner).await.expect("an identity");
    let principal = identity.principal_id;
    let body = json!({ "properties": { "description": "", "principalId": principal, "roleDefinitionId": role } });
    let made = world.put(&path, body.clone()).await.expect(201);
    assert_eq!(made["properties"]["scope"], kv.as_str());
    assert_eq!(made["properties"]["principalId"], principal.as_str());
    assert_eq!(made["properties"]["roleDefinitionId"], role.as_str());
    assert_eq!(world.get(&path).await.expect(200), made);
    world.put(&path, body.clone()).await.expect(200);
    let twin =
        format!("{kv}/providers/Microsoft.Authorization/roleAssignments/{}", uuid::Uuid::new_v4());
    world.put(&twin, body).await.refused(409, "RoleAssignmentExists");
    let unknown = json!({ "properties": { "principalId": principal, "roleDefinitionId": format!("{role}x") } });
    world.put(&twin, unknown).await.refused(400, "RoleDefinitionDoesNotExist");
    let listed = world
        .get(&format!("{kv}/providers/Microsoft.Authorization/roleAssignments?$filter=principalId%20eq%20'{principal}'"))
        .await
        .expect(200);
    assert_eq!(listed["value"].as_array().map(Vec::len), Some(1));
    world.delete(&path).await.expect(200);
    world.get(&path).await.refused(404, "ResourceNotFound");
}

/// Every role of the standard × what one does in Resource Manager: allowed exactly where Azure does.
#[tokio::test]
async fn the_access_matrix_holds() {
    let mut world = World::new().await;
    world.group().await;
    world.put(world.id(KV).as_str(), vault(&world)).await.expect(200);
    let kv = world.id(KV);
    let owner = std::mem::take(&mut world.token);
    let somebody = world.id("/providers/Microsoft.ManagedIdentity/userAssignedIdentities/who");
    let identity = world.context().identity.create_identity(&somebody).await.expect("an identity");
    let token = {
        // Asked for as an app asks: through its instance's endpoint.
        use crate::identity::msi;
        let header = msi::IdentityHeader::random().expect("random");
        let address = [10, 0, 1, 9].into();
        world.context().identity.endpoint().register(&header, address, &identity.principal_id);
        let mut headers = http::HeaderMap::new();
        headers.insert("x-identity-header", header.expose().parse().expect("a header"));
        let uri = "/msi/token?api-version=2019-08-01&resource=https://management.azure.com/";
        let (_, answer) = msi::answer(
            &world.context().identity,
            &uri.parse().expect("a URI"),
            &headers,
            std::net::IpAddr::V4(address),
        );
        answer["access_token"].as_str().expect("a token").to_owned()
    };
    let sub = world.context().tenancy.subscription_id.clone();
    let assign = |scope: &str, role: &str| {
        let id = super::roles::by_name(role).expect("built in").id;
        (
            format!(
                "{scope}/providers/Microsoft.Authorization/roleAssignments/{}",
                uuid::Uuid::new_v4()
            ),
            json!({ "properties": {
                "principalId": identity.principal_id,
                "roleDefinitionId": format!("/subscriptions/{sub}/providers/Microsoft.Authorization/roleDefinitions/{id}"),
            }}),
        )
    };
    // read the vault, write the vault, read the group, write a secret, hand out a right
    let table: &[(&str, [bool; 5])] = &[
        ("", [false, false, false, false, false]),
        ("Owner", [true, true, false, true, true]),
        ("Contributor", [true, true, false, true, false]),
        ("Reader", [true, false, false, false, false]),
        ("User Access Administrator", [true, false, false, false, true]),
        ("Key Vault Administrator", [false, false, false, false, false]),
        ("Key Vault Secrets Officer", [false, false, false, false, false]),
        ("Key Vault Secrets User", [false, false, false, false, false]),
        ("Key Vault Reader", [false, false, false, false, false]),
        ("Key Vault Contributor", [true, true, false, true, false]),
        ("Website Contributor", [false, false, false, false, false]),
        ("Monitoring Metrics Publisher", [false, false, false, false, false]),
        ("Cognitive Services OpenAI User", [false, false, false, false, false]),
    ];
    for (role, expected) in table {
        let assignment = (!role.is_empty()).then(|| assign(kv.as_str(), role));
        if let Some((path, body)) = &assignment {
            world.token.clone_from(&owner);
            world.put(path, body.clone()).await.expect(201);
        }
        world.token.clone_from(&token);
        let right = assign(kv.as_str(), "Cognitive Services OpenAI User");
        let mut right = right;
        right.1["properties"]["principalId"] = json!(uuid::Uuid::new_v4());
        right.1["properties"]["principalType"] = json!("Group");
        let answers = [
            world.get(kv.as_str()).await,
            world.put(kv.as_str(), vault(&world)).await,
            world.get(&world.path("/resourceGroups/rg")).await,
            world.put(&format!("{kv}/secrets/x"), json!({ "properties": { "value": "v" } })).await,
            world.put(&right.0, right.1.clone()).await,
        ];
        for (at, (answer, expected)) in answers.iter().zip(expected).enumerate() {
            let allowed = answer.status.is_success();
            assert_eq!(allowed, *expected, "{role} at {at}: {} {}", answer.status, answer.body);
            if !allowed {
                assert_eq!(answer.body["error"]["code"], "AuthorizationFailed");
            }
        }
        if let Some((path, _)) = &assignment {
            world.token.clone_from(&owner);
            world.delete(path).await.expect(200);
        }
    }
    // Whatever the role, a token that is not one opens nothing.
    let deployer = world.context().identity.deployer().object_id.clone();
    let audience = "https://management.azure.com";
    for (what, token) in world.context().identity.bad_tokens_for_tests(&deployer, audience) {
        world.token = token;
        let body = || json!({ "properties": { "value": "v" } });
        let answers = [
            world.get(kv.as_str()).await,
            world.put(kv.as_str(), vault(&world)).await,
            world.delete(kv.as_str()).await,
            world.get(&format!("{kv}/secrets")).await,
            world.put(&format!("{kv}/secrets/x"), body()).await,
            world.put(&assign(kv.as_str(), "Reader").0, assign(kv.as_str(), "Reader").1).await,
            world.get(&format!("{kv}/providers/Microsoft.Authorization/roleAssignments")).await,
        ];
        for (at, answer) in answers.iter().enumerate() {
            assert_eq!(answer.status, 401, "{what} at {at}: {}", answer.body);
        }
    }
    // A role above the scope counts, one beside it does not.
    world.token.clone_from(&owner);
    let (path, body) = assign(world.id("").as_str(), "Reader");
    world.put(&path, body).await.expect(201);
    world.token.clone_from(&token);
    world.get(kv.as_str()).await.expect(200);
    world.get(&world.path("/resourceGroups/elsewhere")).await.refused(403, "AuthorizationFailed");
}

#[tokio::test]
async fn given_monitoring_then_what_terraform_reads_back_is_there() {
    let world = World::new().await;
    world.group().await;
    let law = world.id("/providers/Microsoft.OperationalInsights/workspaces/notes-law").to_string();
    let body = json!({ "location": "westeurope", "properties": {
        "features": { "disableLocalAuth": false, "enableLogAccessUsingOnlyResourcePermissions": true },
        "publicNetworkAccessForIngestion": "Enabled", "publicNetworkAccessForQuery": "Enabled",
        "retentionInDays": 90, "sku": { "name": "PerGB2018" }, "workspaceCapping": { "dailyQuotaGb": -1 } } });
    let made = world.put(&law, body.clone()).await.expect(201);
    assert!(made["properties"]["customerId"].is_string());
    let keys = world.post(&format!("{law}/sharedKeys"), Value::Null).await.expect(200);
    assert_ne!(keys["primarySharedKey"], keys["secondarySharedKey"]);
    world.put(&law, body).await.expect(200);
    let again = world.post(&format!("{law}/sharedKeys"), Value::Null).await.expect(200);
    assert_eq!(keys, again, "a second write keeps the keys");

    let ai = world.id("/providers/microsoft.insights/components/notes-ai").to_string();
    let made = world
        .put(&ai, json!({ "kind": "web", "location": "westeurope", "properties": { "Application_Type": "web", "WorkspaceResourceId": law, "ApplicationId": "notes-ai" } }))
        .await
        .expect(200);
    let key = made["properties"]["InstrumentationKey"].as_str().expect("a key");
    assert!(made["properties"]["ConnectionString"].as_str().expect("a string").contains(key));
    let billing = format!("{ai}/currentbillingfeatures");
    world.put(&billing, json!({ "DataVolumeCap": { "Cap": 50 } })).await.expect(200);
    let shown = world.get(&billing).await.expect(200);
    assert_eq!(shown["DataVolumeCap"]["Cap"], 50);
    assert_eq!(shown["DataVolumeCap"]["ResetTime"], 24);

    let group = world.id("/providers/Microsoft.Insights/actionGroups/oncall").to_string();
    world
        .put(&group, json!({ "location": "global", "properties": { "groupShortName": "oncall" } }))
        .await
        .expect(201);
    world
        .put(
            &group,
            json!({ "location": "westeurope", "properties": { "groupShortName": "oncall" } }),
        )
        .await
        .refused(400, "LocationNotAvailableForResourceType");
    let setting = format!("{law}/providers/Microsoft.Insights/diagnosticSettings/to-law");
    world.put(&setting, json!({ "properties": { "logs": [] } })).await.refused(400, "BadRequest");
    world.put(&setting, json!({ "properties": { "workspaceId": law, "logs": [{ "category": "x", "enabled": true }] } })).await.refused(400, "BadRequest");
    world.put(&setting, json!({ "properties": { "workspaceId": law, "logs": [{ "category": "Audit", "enabled": true }] } })).await.expect(200);
    // It goes with what it hangs on.
    world.delete(&law).await.expect(200);
    world.put(&law, json!({ "location": "westeurope" })).await.expect(201);
    world.get(&setting).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn given_lists_then_pages_lead_to_everything_once() {
    let world = World::new().await;
    for n in 0..7 {
        world
            .put(&world.path(&format!("/resourceGroups/g{n}")), json!({ "location": "westeurope" }))
            .await
            .expect(201);
    }
    let mut path = world.path("/resourceGroups?$top=3");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let page = world.get(&path).await.expect(200);
        seen.extend(page["value"].as_array().expect("a list").iter().map(|g| g["name"].clone()));
        let Some(next) = page["nextLink"].as_str() else { break };
        let next = next.strip_prefix("https://management.azure.com").expect("our host");
        path = next.replace("api-version=2024-01-01&", "");
    }
    assert_eq!(seen, ["g0", "g1", "g2", "g3", "g4", "g5", "g6"]);
    world.get(&world.path("/resourceGroups?$top=0")).await.refused(400, "InvalidTopInQueryString");
    world.get(&world.path("/resourceGroups?$skiptoken=!")).await.refused(400, "InvalidSkipToken");
}

#[tokio::test]
async fn given_an_identity_resource_then_it_is_a_principal() {
    let world = World::new().await;
    world.group().await;
    let path =
        world.id("/providers/Microsoft.ManagedIdentity/userAssignedIdentities/who").to_string();
    let made = world.put(&path, json!({ "location": "westeurope" })).await.expect(201);
    let principal = made["properties"]["principalId"].as_str().expect("an ID");
    assert!(world.context().identity.exists(principal));
    assert_eq!(world.get(&path).await.expect(200), made);
    world.delete(&path).await.expect(200);
    assert!(!world.context().identity.exists(principal));
}

#[tokio::test]
async fn given_providers_then_clients_can_register_them() {
    let world = World::new().await;
    let one = world.get(&world.path("/providers/microsoft.keyvault")).await.expect(200);
    assert_eq!(one["registrationState"], "Registered");
    let sql =
        world.post(&world.path("/providers/Microsoft.Sql/register"), Value::Null).await.expect(200);
    assert_eq!(sql["registrationState"], "Registered");
    world
        .get(&world.path("/providers/Microsoft.Nonsense"))
        .await
        .refused(404, "InvalidResourceNamespace");
}

/// As if the region had been killed between the acknowledgement and the end of the work.
#[tokio::test]
async fn given_an_operation_cut_off_by_a_crash_then_the_next_start_ends_it() {
    use super::{operation::Operation, types::LongRunning};
    let world = World::new().await;
    world.group().await;
    network(&world).await;
    let operation = Operation::deprovision(&world.id(""), "2024-01-01", None);
    let headers = operation.headers(world.context(), &LongRunning::ACCEPTED);
    let mut batch = crate::store::Batch::new();
    operation.store(&mut batch);
    world.context().store.commit(batch).await.expect("committed");
    world.get(world.id(VNET).as_str()).await.expect(200);

    let world = world.restart().await;
    let pointer =
        super::testing::Answer { status: http::StatusCode::ACCEPTED, headers, body: Value::Null };
    let end = world.finish(&pointer).await.expect(200);
    assert_eq!(end["status"], "Succeeded", "{end:#}");
    assert!(end["endTime"].is_string());
    world.get(&world.path("/resourceGroups/rg")).await.refused(404, "ResourceGroupNotFound");
    assert!(world.context().store.list_below(&world.id("")).is_empty());
    // Its end can still be asked for after another restart; a stranger's cannot.
    let world = world.restart().await;
    assert_eq!(world.finish(&pointer).await.expect(200)["status"], "Succeeded");
    world
        .get(&world.path("/operationresults/11111111-1111-1111-1111-111111111111"))
        .await
        .refused(404, "OperationNotFound");
}

#[tokio::test]
async fn given_a_body_over_the_limit_then_azures_envelope() {
    use crate::http::Whole as _;
    let world = World::new().await;
    assert_eq!(world.control.limit(), 4 * 1024 * 1024);
    let refused = world.control.too_large();
    assert_eq!(refused.status(), 413);
    let body: Value = serde_json::from_slice(refused.body()).expect("JSON");
    assert_eq!(body["error"]["code"], "RequestContentTooLarge");
}

/// What a reader of the fidelity reference is told must be there to be told.
#[tokio::test]
async fn every_type_says_what_it_is_and_what_it_does_not_do() {
    let world = World::new().await;
    for kind in world.context().registry.types() {
        assert_eq!(lazuli_azure::id::canonical_type(kind.kind()), kind.kind(), "Azure's casing");
        assert!(!kind.api_versions().is_empty(), "{}", kind.kind());
        for version in kind.api_versions() {
            assert!(version.starts_with("20"), "{}: {version}", kind.kind());
        }
        assert!(kind.not_acted_upon().iter().all(|p| !p.is_empty()), "{}", kind.kind());
    }
}

#[tokio::test]
async fn locks_hold_whoever_asks() {
    let world = World::new().await;
    world.group().await;
    let kv = world.id(KV);
    world.put(kv.as_str(), vault(&world)).await.expect(200);
    let group = world.path("/resourceGroups/rg");
    let lock = format!("{group}/providers/Microsoft.Authorization/locks/keep");
    world
        .put(&lock, json!({ "properties": { "level": "Sometimes" } }))
        .await
        .refused(400, "InvalidParameterValue");
    world.put(&lock, json!({ "properties": { "level": "CanNotDelete" } })).await.expect(201);
    let refused = world.delete(kv.as_str()).await.refused(409, "ScopeLocked");
    assert!(refused["error"]["message"].as_str().is_some_and(|m| m.contains(&group)), "{refused}");
    world.delete(&group).await.refused(409, "ScopeLocked");
    world.put(kv.as_str(), vault(&world)).await.expect(200);
    world.put(&lock, json!({ "properties": { "level": "ReadOnly" } })).await.expect(200);
    world.put(kv.as_str(), vault(&world)).await.refused(409, "ScopeLocked");
    world.get(kv.as_str()).await.expect(200);
    world.delete(&lock).await.expect(200);
    // A lock deep inside keeps what is around it, and nothing beside it.
    let inner = format!("{kv}/providers/Microsoft.Authorization/locks/keep");
    world.put(&inner, json!({ "properties": { "level": "CanNotDelete" } })).await.expect(201);
    world.delete(&group).await.refused(409, "ScopeLocked");
    world
        .put(&world.path("/resourceGroups/other"), json!({ "location": "westeurope" }))
        .await
        .expect(201);
    assert_eq!(
        world.delete(&world.path("/resourceGroups/other")).await.status,
        StatusCode::ACCEPTED
    );
    world.delete(&inner).await.expect(200);
    world.delete(kv.as_str()).await.expect(200);
}

#[tokio::test]
async fn a_custom_role_opens_what_it_says_and_nothing_else() {
    let mut world = World::new().await;
    world.group().await;
    let kv = world.id(KV);
    world.put(kv.as_str(), vault(&world)).await.expect(200);
    let group = world.path("/resourceGroups/rg");
    let guid = uuid::Uuid::new_v4();
    let role = world.path(&format!("/providers/Microsoft.Authorization/roleDefinitions/{guid}"));
    let body = |name: &str| {
        json!({ "properties": {
            "roleName": name, "assignableScopes": [world.path("")],
            "permissions": [{ "actions": ["Microsoft.KeyVault/vaults/*"], "notActions": ["Microsoft.KeyVault/vaults/delete"] }],
        }})
    };
    world.put(&role, body("Owner")).await.refused(409, "RoleDefinitionWithSameNameExists");
    let made = world.put(&role, body("Vault keeper")).await.expect(201);
    assert_eq!(made["properties"]["type"], "CustomRole");
    let found = world
        .get(&world.path("/providers/Microsoft.Authorization/roleDefinitions?$filter=roleName%20eq%20'Vault%20keeper'"))
        .await
        .expect(200);
    assert_eq!(found["value"][0]["id"], role.as_str());
    let owner = world.id("/providers/Microsoft.Web/sites/notes");
    let identity = world.context().identity.create_identity(&owner).await.expect("an identity");
    let token = world
        .context()
        .identity
        .token_for_tests(&identity.principal_id, "https://management.azure.com");
    let assignment = format!(
        "{group}/providers/Microsoft.Authorization/roleAssignments/{}",
        uuid::Uuid::new_v4()
    );
    let given =
        json!({ "properties": { "principalId": identity.principal_id, "roleDefinitionId": role } });
    world.put(&assignment, given).await.expect(201);
    world.delete(&role).await.refused(400, "RoleDefinitionHasAssignments");
    let owner = std::mem::replace(&mut world.token, token);
    world.get(kv.as_str()).await.expect(200);
    world.put(kv.as_str(), vault(&world)).await.expect(200);
    world.delete(kv.as_str()).await.refused(403, "AuthorizationFailed");
    world.get(&group).await.refused(403, "AuthorizationFailed");
    world.token = owner;
    world.delete(&assignment).await.expect(200);
    world.delete(&role).await.expect(200);
    world.get(&role).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn the_activity_log_says_who_did_what() {
    let world = World::new().await;
    world.group().await;
    let kv = world.id(KV);
    world.put(kv.as_str(), vault(&world)).await.expect(200);
    world.put(&format!("{kv}x/secrets/y"), json!({})).await;
    let log = world.path("/providers/Microsoft.Insights/eventtypes/management/values");
    let all = world
        .get(&format!("{log}?$filter=eventTimestamp%20ge%20'2026-01-01T00:00:00Z'%20and%20resourceGroupName%20eq%20'rg'"))
        .await
        .expect(200);
    let events = all["value"].as_array().expect("a list");
    let of: Vec<_> = events
        .iter()
        .map(|e| {
            (
                e["operationName"]["value"].as_str().unwrap_or_default(),
                e["status"]["value"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert!(of.contains(&("Microsoft.KeyVault/vaults/write", "Succeeded")), "{of:?}");
    assert!(of.iter().any(|(_, status)| *status == "Failed"), "{of:?}");
    assert_eq!(events[0]["caller"], world.context().identity.deployer().client_id.as_str());
    assert_eq!(events[0]["properties"]["apiVersion"], "2024-01-01");
    world.get(&format!("{log}?$filter=nonsense")).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn a_storage_account_has_what_clients_read_back() {
    let world = World::new().await;
    world.group().await;
    let id = world.id("/providers/Microsoft.Storage/storageAccounts/notestfstate").to_string();
    let body =
        json!({ "location": "westeurope", "kind": "StorageV2", "sku": { "name": "Standard_GRS" } });
    let bad = world.id("/providers/Microsoft.Storage/storageAccounts/Notes-State").to_string();
    world.put(&bad, body.clone()).await.refused(400, "AccountNameInvalid");
    let answer = world.put(&id, body.clone()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{:#}", answer.body);
    world.finish(&answer).await.expect(200);
    let shown = world.get(&id).await.expect(200);
    assert_eq!(
        shown["properties"]["primaryEndpoints"]["blob"],
        "https://notestfstate.blob.core.windows.net/"
    );
    assert_eq!(shown["properties"]["secondaryLocation"], "northeurope");
    assert_eq!(shown["sku"]["tier"], "Standard");
    let keys = world.post(&format!("{id}/listKeys"), json!({})).await.expect(200);
    assert!(!shown.to_string().contains(keys["keys"][0]["value"].as_str().expect("a key")));
    let after =
        world.post(&format!("{id}/regenerateKey"), json!({ "keyName": "key2" })).await.expect(200);
    assert_eq!(after["keys"][0], keys["keys"][0]);
    assert_ne!(after["keys"][1]["value"], keys["keys"][1]["value"]);
    let service = world.get(&format!("{id}/blobServices/default")).await.expect(200);
    assert_eq!(service["properties"]["deleteRetentionPolicy"]["enabled"], false);
    world.get(&format!("{id}/blobServices/other")).await.refused(404, "ResourceNotFound");
    let container = format!("{id}/blobServices/default/containers/tfstate");
    world
        .put(&container, json!({ "properties": { "publicAccess": "Blob" } }))
        .await
        .refused(409, "PublicAccessNotPermitted");
    world.put(&container, json!({})).await.expect(201);
    world.put(&container, json!({})).await.expect(200);
    let listed = world.get(&format!("{id}/blobServices/default/containers")).await.expect(200);
    assert_eq!(listed["value"][0]["name"], "tfstate");
    let elsewhere =
        world.id("/providers/Microsoft.Storage/storageAccounts/notestfstate").to_string();
    let elsewhere = elsewhere.replace("/resourceGroups/rg/", "/resourceGroups/other/");
    world
        .put(&world.path("/resourceGroups/other"), json!({ "location": "westeurope" }))
        .await
        .expect(201);
    world.put(&elsewhere, body).await.refused(409, "StorageAccountAlreadyTaken");
    world.delete(&id).await.expect(200);
    world.get(&container).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn a_group_goes_with_what_its_children_keep() {
    let world = World::new().await;
    world.group().await;
    let vnet = world.id("/providers/Microsoft.Network/virtualNetworks/vnet");
    let space = json!({ "location": "westeurope", "properties": { "addressSpace": { "addressPrefixes": ["10.0.0.0/16"] } } });
    world.put(vnet.as_str(), space).await.expect(201);
    let zone =
        world.id("/providers/Microsoft.Network/privateDnsZones/privatelink.vaultcore.azure.net");
    let answer = world.put(zone.as_str(), json!({ "location": "global" })).await;
    assert!(answer.status.is_success(), "{:#}", answer.body);
    let link = format!("{zone}/virtualNetworkLinks/link");
    let body = json!({ "location": "global", "properties": { "virtualNetwork": { "id": vnet }, "registrationEnabled": false } });
    assert!(world.put(&link, body).await.status.is_success());
    let answer = world.delete(&world.path("/resourceGroups/rg")).await;
    assert_eq!(world.finish(&answer).await.status, StatusCode::OK);
    world.get(&world.path("/resourceGroups/rg")).await.refused(404, "ResourceGroupNotFound");
}
