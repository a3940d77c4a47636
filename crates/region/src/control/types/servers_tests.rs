//! Database servers and caches as Resource Manager's clients meet them. No server runs here: what is
//! checked is the API. The servers themselves are tested in `tests/servers`.

use serde_json::{Value, json};

use crate::control::testing::World;

const PG: &str = "/providers/Microsoft.DBforPostgreSQL/flexibleServers/notes-pg";
const REDIS: &str = "/providers/Microsoft.Cache/redis/notes-redis";
const PASSWORD: &str = "Abcdef-123456";

fn server() -> Value {
    json!({
        "location": "westeurope",
        "sku": { "name": "Standard_D4ds_v5", "tier": "GeneralPurpose" },
        "properties": {
            "version": "16",
            "administratorLogin": "lazuliadmin",
            "administratorLoginPassword": PASSWORD,
            "storage": { "storageSizeGB": 128, "autoGrow": "Enabled" },
            "backup": { "backupRetentionDays": 35, "geoRedundantBackup": "Enabled" },
            "highAvailability": { "mode": "ZoneRedundant" },
            "network": { "publicNetworkAccess": "Disabled" },
        }
    })
}

fn cache() -> Value {
    json!({
        "location": "westeurope",
        "properties": {
            "sku": { "name": "Premium", "family": "P", "capacity": 1 },
            "enableNonSslPort": false, "minimumTlsVersion": "1.2", "redisVersion": "6",
        }
    })
}

fn with(mut body: Value, pointer: &str, value: Value) -> Value {
    *body.pointer_mut(pointer).expect("a property of the template") = value;
    body
}

#[tokio::test]
async fn given_a_server_then_it_is_accepted_and_its_password_is_never_shown() {
    let world = World::new().await;
    world.group().await;
    let id = world.id(PG);
    let answer = world.put(id.as_str(), server()).await;
    assert!(answer.header("azure-asyncoperation").is_some());
    assert!(answer.header("location").is_some());
    assert_eq!(world.finish(&answer).await.body["status"], "Succeeded");
    answer.expect(202);

    let shown = world.get(id.as_str()).await.expect(200);
    let properties = &shown["properties"];
    assert_eq!(properties["fullyQualifiedDomainName"], "notes-pg.postgres.database.azure.com");
    assert_eq!(properties["state"], "Ready");
    assert_eq!(properties["highAvailability"]["state"], "Healthy");
    assert_eq!(properties["network"]["publicNetworkAccess"], "Disabled");
    assert!(!shown.to_string().contains(PASSWORD), "{shown:#}");
    // Nor does the store hold it in clear.
    let stored = world.context().store.get(&id).expect("stored");
    assert!(!stored.body.to_string().contains(PASSWORD));
    let sealed = world.context().store.get_state("postgres.password", id.key()).expect("sealed");
    assert!(!sealed.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));

    // A later PUT without the password keeps it; the same body again changes nothing.
    let mut again = server();
    again["properties"].as_object_mut().expect("an object").remove("administratorLoginPassword");
    let answer = world.put(id.as_str(), again).await;
    world.finish(&answer).await;
    let kept = world.context().store.get_state("postgres.password", id.key()).expect("sealed");
    assert_eq!(kept, sealed);
}

#[tokio::test]
async fn given_what_azure_refuses_of_a_server_then_it_is_refused() {
    let world = World::new().await;
    world.group().await;
    let id = world.id(PG);
    for (pointer, value) in [
        ("/sku/name", json!("Standard_D3ds_v5")),
        ("/sku/tier", json!("Burstable")),
        ("/properties/version", json!("9.6")),
        ("/properties/administratorLogin", json!("azure_superuser")),
        ("/properties/storage/storageSizeGB", json!(100)),
        ("/properties/backup/backupRetentionDays", json!(36)),
    ] {
        let answer = world.put(id.as_str(), with(server(), pointer, value.clone())).await;
        answer.refused(400, "InvalidParameterValue");
        assert!(world.context().store.get(&id).is_none(), "{pointer} = {value}");
    }
    let weak = with(server(), "/properties/administratorLoginPassword", json!("password"));
    world.put(id.as_str(), weak).await.refused(400, "PasswordNotComplex");
    let shouted = world.id("/providers/Microsoft.DBforPostgreSQL/flexibleServers/Notes_PG");
    world.put(shouted.as_str(), server()).await.refused(400, "InvalidResourceName");

    world.put(id.as_str(), server()).await.expect(202);
    let smaller = json!({ "properties": { "storage": { "storageSizeGB": 64 } } });
    world.patch(id.as_str(), smaller).await.refused(400, "InvalidParameterValue");
    let renamed = json!({ "properties": { "administratorLogin": "other" } });
    world.patch(id.as_str(), renamed).await.refused(400, "PropertyChangeNotAllowed");
    // The name is the whole region's, not the group's.
    world
        .put(&world.path("/resourceGroups/other"), json!({ "location": "westeurope" }))
        .await
        .expect(201);
    let twin = world.path(&format!("/resourceGroups/other{PG}"));
    world.put(&twin, server()).await.refused(409, "ServerNameAlreadyExists");
    let check = world.path("/providers/Microsoft.DBforPostgreSQL/checkNameAvailability");
    let asked = |name| json!({ "name": name, "type": "Microsoft.DBforPostgreSQL/flexibleServers" });
    assert_eq!(world.post(&check, asked("notes-pg")).await.expect(200)["nameAvailable"], false);
    assert_eq!(world.post(&check, asked("free-pg")).await.expect(200)["nameAvailable"], true);
}

#[tokio::test]
async fn given_parameters_then_the_pooler_is_set_and_the_burstable_tier_has_none() {
    let world = World::new().await;
    world.group().await;
    let id = world.id(PG);
    world.put(id.as_str(), server()).await.expect(202);
    let size = format!("{id}/configurations/pgbouncer.default_pool_size");
    let before = world.get(&size).await.expect(200);
    assert_eq!(before["properties"]["source"], "system-default");
    let set = |value: &str| json!({ "properties": { "value": value, "source": "user-override" } });
    // A parameter that was never set can be patched all the same: it has a default.
    world.patch(&size, set("33")).await.expect(202);
    let after = world.get(&size).await.expect(200);
    assert_eq!(after["properties"]["value"], "33");
    assert_eq!(after["properties"]["source"], "user-override");
    assert_eq!(after["properties"]["defaultValue"], "50");
    world.patch(&size, set("0")).await.refused(400, "InvalidParameterValue");
    let unknown = format!("{id}/configurations/no_such_parameter");
    world.patch(&unknown, set("1")).await.expect(404);
    let all = world.get(&format!("{id}/configurations")).await.expect(200);
    let names: Vec<_> =
        all["value"].as_array().expect("a list").iter().map(|p| p["name"].clone()).collect();
    assert!(names.contains(&json!("pgbouncer.enabled")), "{names:?}");

    let small = world.id("/providers/Microsoft.DBforPostgreSQL/flexibleServers/small-pg");
    let mut body = server();
    body["sku"] = json!({ "name": "Standard_B2ms", "tier": "Burstable" });
    world.put(small.as_str(), body.clone()).await.refused(400, "InvalidParameterValue");
    body["properties"]["highAvailability"]["mode"] = json!("Disabled");
    world.put(small.as_str(), body).await.expect(202);
    let enabled = format!("{small}/configurations/pgbouncer.enabled");
    world.put(&enabled, set("true")).await.refused(400, "InvalidParameterValue");
}

#[tokio::test]
async fn given_a_server_in_a_subnet_then_it_takes_no_firewall_rules() {
    let world = World::new().await;
    world.group().await;
    let id = world.id(PG);
    let mut body = server();
    body["properties"]["network"]["delegatedSubnetResourceId"] =
        json!(world.id("/providers/Microsoft.Network/virtualNetworks/v/subnets/db").as_str());
    world.put(id.as_str(), body).await.expect(202);
    let rule = format!("{id}/firewallRules/office");
    let range =
        |start, end| json!({ "properties": { "startIpAddress": start, "endIpAddress": end } });
    world
        .put(&rule, range("192.0.2.1", "192.0.2.9"))
        .await
        .refused(400, "FirewallRuleOperationsNotSupported");

    let open = world.id("/providers/Microsoft.DBforPostgreSQL/flexibleServers/open-pg");
    world.put(open.as_str(), server()).await.expect(202);
    let rule = format!("{open}/firewallRules/office");
    world.put(&rule, range("192.0.2.1", "192.0.2.9")).await.expect(202);
    world.put(&rule, range("192.0.2.9", "192.0.2.1")).await.refused(400, "InvalidParameterValue");
    world.put(&rule, range("office", "192.0.2.1")).await.refused(400, "InvalidParameterValue");
}

#[tokio::test]
async fn given_a_server_then_it_stops_starts_restarts_and_goes_with_its_secrets() {
    let world = World::new().await;
    world.group().await;
    let id = world.id(PG);
    let made = world.put(id.as_str(), server()).await;
    world.finish(&made).await;
    let database = format!("{id}/databases/notes");
    let made = world.put(&database, json!({ "properties": {} })).await;
    world.finish(&made).await;
    let shown = world.get(&database).await.expect(200);
    assert_eq!(shown["properties"]["collation"], "en_US.utf8");
    let system = format!("{id}/databases/postgres");
    world.put(&system, json!({ "properties": {} })).await.refused(400, "InvalidResourceName");

    let stopped = world.post(&format!("{id}/stop"), Value::Null).await;
    world.finish(&stopped).await;
    assert_eq!(world.get(id.as_str()).await.expect(200)["properties"]["state"], "Stopped");
    world.post(&format!("{id}/restart"), Value::Null).await.refused(409, "ServerIsNotReady");
    let started = world.post(&format!("{id}/start"), Value::Null).await;
    world.finish(&started).await;
    assert_eq!(world.get(id.as_str()).await.expect(200)["properties"]["state"], "Ready");
    world.post(&format!("{id}/restart"), Value::Null).await.expect(202);

    let deleted = world.delete(id.as_str()).await;
    world.finish(&deleted).await;
    world.get(id.as_str()).await.expect(404);
    world.get(&database).await.expect(404);
    assert!(world.context().store.get_state("postgres.password", id.key()).is_none());
}

#[tokio::test]
async fn given_a_cache_then_its_keys_are_listed_and_rotated_one_at_a_time() {
    let world = World::new().await;
    world.group().await;
    let id = world.id(REDIS);
    let answer = world.put(id.as_str(), cache()).await;
    assert_eq!(world.finish(&answer).await.body["status"], "Succeeded");
    answer.expect(201);
    let shown = world.get(id.as_str()).await.expect(200);
    assert_eq!(shown["properties"]["hostName"], "notes-redis.redis.cache.windows.net");
    assert_eq!(shown["properties"]["sslPort"], 6380);
    assert_eq!(shown["properties"]["accessKeys"], Value::Null);

    let keys = world.post(&format!("{id}/listKeys"), Value::Null).await.expect(200);
    let rotated = world
        .post(&format!("{id}/regenerateKey"), json!({ "keyType": "Primary" }))
        .await
        .expect(200);
    assert_ne!(rotated["primaryKey"], keys["primaryKey"]);
    assert_eq!(rotated["secondaryKey"], keys["secondaryKey"]);
    assert_eq!(world.post(&format!("{id}/listKeys"), Value::Null).await.expect(200), rotated);
    world
        .post(&format!("{id}/regenerateKey"), json!({ "keyType": "Tertiary" }))
        .await
        .refused(400, "InvalidRequestContent");
    // Changing the cache leaves its keys alone, and a restart does too.
    let change =
        json!({ "properties": { "redisConfiguration": { "maxmemory-policy": "allkeys-lru" } } });
    let answer = world.patch(id.as_str(), change).await;
    world.finish(&answer).await;
    let world = world.restart().await;
    assert_eq!(world.post(&format!("{id}/listKeys"), Value::Null).await.expect(200), rotated);
    let shown = world.get(id.as_str()).await.expect(200);
    assert_eq!(shown["properties"]["redisConfiguration"]["maxmemory-policy"], "allkeys-lru");
}

#[tokio::test]
async fn given_what_azure_refuses_of_a_cache_then_it_is_refused() {
    let world = World::new().await;
    world.group().await;
    let id = world.id(REDIS);
    for (pointer, value) in [
        ("/properties/sku/capacity", json!(6)),
        ("/properties/sku/family", json!("C")),
        ("/properties/sku/name", json!("Enterprise")),
        ("/properties/minimumTlsVersion", json!("1.0")),
    ] {
        let answer = world.put(id.as_str(), with(cache(), pointer, value)).await;
        answer.refused(400, "InvalidParameterValue");
    }
    let mut clustered = cache();
    clustered["properties"]["shardCount"] = json!(2);
    world.put(id.as_str(), clustered).await.refused(501, "NotImplemented");
    let check = world.path("/providers/Microsoft.Cache/CheckNameAvailability");
    let asked = json!({ "name": "notes-redis", "type": "Microsoft.Cache/Redis" });
    world.post(&check, asked.clone()).await.expect(200);
    world.put(id.as_str(), cache()).await.expect(201);
    world.post(&check, asked).await.refused(409, "NameNotAvailable");
    let down =
        with(cache(), "/properties/sku", json!({ "name": "Basic", "family": "C", "capacity": 1 }));
    world.put(id.as_str(), down).await.refused(400, "BadRequest");
}
