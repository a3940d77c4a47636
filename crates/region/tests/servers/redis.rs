use std::net::Ipv4Addr;
use std::time::Duration;

use lazuli_region::redis::{Cache, Password, Redis, TLS_PORT};

use crate::{Outcome, World, expect, processes};

fn cache() -> Cache {
    Cache {
        name: "notes-redis".to_owned(),
        host: "notes-redis.redis.cache.windows.net".to_owned(),
        address: Ipv4Addr::new(10, 0, 2, 5),
        keys: [Password::new("primary-key"), Password::new("secondary-key")],
        memory: 6 << 30,
        databases: 16,
        clients: 7500,
        eviction: "volatile-lru".to_owned(),
        keyspace_events: String::new(),
        keys_accepted: true,
        tls12: true,
        tls_port: TLS_PORT,
        plain_port: 0,
        cluster: false,
    }
}

async fn up(world: &World, cache: Cache) -> Result<Redis, Box<dyn std::error::Error>> {
    let redis = world.redis();
    let name = cache.name.clone();
    redis.set(cache);
    redis.settled(&name).await?;
    Ok(redis)
}

async fn cli(world: &World, key: &str, words: &[&str]) -> Result<String, String> {
    let mut args = vec![
        "-h",
        "notes-redis.redis.cache.windows.net",
        "-p",
        "6380",
        "--tls",
        "--cacert",
        "/etc/ssl/certs/ca-certificates.crt",
        "--no-auth-warning",
        "-e",
    ];
    args.extend_from_slice(words);
    let env: &[(&str, &str)] = if key.is_empty() { &[] } else { &[("REDISCLI_AUTH", key)] };
    world.client("/usr/bin/redis-cli", &args, env).await.map(|text| text.trim().to_owned())
}

pub(crate) async fn tls_and_key(world: World) -> Outcome {
    let redis = up(&world, cache()).await?;
    for key in ["primary-key", "secondary-key"] {
        expect(cli(&world, key, &["PING"]).await? == "PONG", format!("{key} is accepted"))?;
    }
    for key in ["", "wrong"] {
        let refused = cli(&world, key, &["GET", "x"]).await;
        expect(refused.is_err(), format!("{key:?} is accepted: {refused:?}"))?;
    }
    for command in [&["CONFIG", "GET", "requirepass"][..], &["SHUTDOWN"], &["ACL", "LIST"]] {
        let refused = cli(&world, "primary-key", command).await;
        expect(
            refused.as_ref().is_err_and(|e| e.contains("NOPERM")),
            format!("{command:?}: {refused:?}"),
        )?;
    }
    // Database numbers as the standard uses them, and no more than the SKU has.
    expect(cli(&world, "primary-key", &["-n", "4", "SET", "a", "1"]).await? == "OK", "database 4")?;
    expect(cli(&world, "primary-key", &["SELECT", "16"]).await.is_err(), "database 16")?;
    let info = cli(&world, "primary-key", &["INFO", "memory"]).await?;
    expect(info.contains("maxmemory:6442450944"), &info)?;
    expect(info.contains("maxmemory_policy:volatile-lru"), &info)?;
    // Nothing listens without TLS.
    let plain = ["-h", "notes-redis.redis.cache.windows.net", "-p", "6379", "PING"];
    let refused = world.client("/usr/bin/redis-cli", &plain, &[]).await;
    expect(refused.as_ref().is_err_and(|e| e.contains("refused")), format!("{refused:?}"))?;
    let plain = ["-h", "notes-redis.redis.cache.windows.net", "-p", "6380", "-e", "PING"];
    let refused = world.client("/usr/bin/redis-cli", &plain, &[("REDISCLI_AUTH", "primary-key")]);
    expect(refused.await.is_err(), "6380 speaks without TLS")?;
    for key in ["primary-key", "secondary-key"] {
        expect(processes(|line| line.contains(key)).is_empty(), "a key in a command line")?;
    }
    redis.flush("notes-redis").await?;
    expect(cli(&world, "primary-key", &["-n", "4", "EXISTS", "a"]).await? == "0", "flushed")?;
    redis.remove("notes-redis").await;
    expect(!world.dir.join("redis/notes-redis").exists(), "its files are gone")?;
    expect(processes(|line| line.contains("redis-server")).is_empty(), "its process is gone")
}

pub(crate) async fn rotation(world: World) -> Outcome {
    let redis = up(&world, cache()).await?;
    let run = |text: String| text.lines().find(|l| l.starts_with("run_id:")).map(str::to_owned);
    let before = run(cli(&world, "primary-key", &["INFO", "server"]).await?);
    let mut rotated = cache();
    rotated.keys[0] = Password::new("new-primary-key");
    rotated.eviction = String::from("allkeys-lfu");
    rotated.plain_port = 6379;
    redis.set(rotated.clone());
    redis.settled("notes-redis").await?;
    expect(cli(&world, "primary-key", &["PING"]).await.is_err(), "the old key still works")?;
    expect(cli(&world, "secondary-key", &["PING"]).await? == "PONG", "the other key does not")?;
    let after = run(cli(&world, "new-primary-key", &["INFO", "server"]).await?);
    expect(before.is_some() && before == after, "the server was restarted")?;
    let info = cli(&world, "new-primary-key", &["INFO", "memory"]).await?;
    expect(info.contains("maxmemory_policy:allkeys-lfu"), &info)?;
    let plain = ["-h", "notes-redis.redis.cache.windows.net", "-p", "6379", "PING"];
    let text = world.client("/usr/bin/redis-cli", &plain, &[("REDISCLI_AUTH", "new-primary-key")]);
    expect(text.await?.trim() == "PONG", "6379 is open when asked for")?;
    // TLS 1.2 goes when 1.3 is the minimum.
    let tls = |version: &'static str| {
        let target = "notes-redis.redis.cache.windows.net:6380";
        let script =
            format!("openssl s_client -connect {target} {version} </dev/null >/dev/null 2>&1");
        let world = &world;
        async move { world.client("/bin/sh", &["-c", &script], &[]).await.is_ok() }
    };
    expect(tls("-tls1_2").await && tls("-tls1_3").await, "both versions at first")?;
    rotated.tls12 = false;
    redis.set(rotated);
    redis.settled("notes-redis").await?;
    expect(!tls("-tls1_2").await && tls("-tls1_3").await, "then 1.3 alone")
}

pub(crate) async fn write(world: World) -> Outcome {
    let redis = up(&world, cache()).await?;
    expect(cli(&world, "primary-key", &["SET", "task", "queued"]).await? == "OK", "written")?;
    // And its server alone, killed, comes back with it.
    for (pid, _) in processes(|line| line.contains("redis-server")) {
        tokio::process::Command::new("/bin/kill").args(["-9", &pid.to_string()]).status().await?;
    }
    let mut answer = Err(String::new());
    for _ in 0..100 {
        answer = cli(&world, "primary-key", &["GET", "task"]).await;
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    expect(answer.as_deref() == Ok("queued"), format!("{answer:?}"))?;
    redis.reboot("notes-redis").await?;
    std::mem::forget(redis);
    Ok(())
}

pub(crate) async fn read_again(world: World) -> Outcome {
    let redis = up(&world, cache()).await?;
    expect(cli(&world, "secondary-key", &["GET", "task"]).await? == "queued", "still there")?;
    redis.shutdown().await;
    expect(processes(|line| line.contains("redis-server")).is_empty(), "still running")
}
