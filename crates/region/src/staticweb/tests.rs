//! Deployments as they happen: a gateway, a store, a server that has packages.

use std::{net::SocketAddr, path::PathBuf};

use futures_util::future::BoxFuture;
use lazuli_gateway::{Authority, Dialer, Options};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{content::tests::package, *};

struct Outside;

impl Dialer for Outside {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, std::io::Result<TcpStream>> {
        let host = host.to_owned();
        Box::pin(async move { TcpStream::connect((host.as_str(), port)).await })
    }
}

struct World {
    dir: tempfile::TempDir,
    store: Store,
    gateway: Arc<Gateway>,
    address: SocketAddr,
    web: Arc<StaticWeb>,
    site: ResourceId,
}

const HOST: &str = "calm-hill-0a1b2c3d4.5";

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let authority = Authority::load_or_create(&dir.path().join("ca")).expect("an authority");
        let options = Options { reactors: 1, ..Options::default() };
        let gateway = Gateway::new(authority, Arc::new(Outside), options).expect("a gateway");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        gateway.serve_machine(listener).expect("served");
        let store = Store::open(&dir.path().join("region.db")).expect("a store");
        let site = ResourceId::parse(
            "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Web/staticSites/web",
        )
        .expect("an ID");
        let mut batch = Batch::new();
        batch.put(
            &site,
            json!({
                "location": "westeurope", "sku": { "name": "Free" },
                "properties": { "defaultHostname": format!("{HOST}.azurestaticapps.net") },
            }),
        );
        store.commit(batch).await.expect("stored");
        let web = Self::open(&dir, &store, &gateway, address);
        web.publish(&site, None);
        Self { dir, store, gateway, address, web, site }
    }

    fn open(
        dir: &tempfile::TempDir,
        store: &Store,
        gateway: &Arc<Gateway>,
        address: SocketAddr,
    ) -> Arc<StaticWeb> {
        let fetcher = Fetcher::new(format!("http://{address}"), None);
        StaticWeb::open(dir.path().join("static"), store.clone(), gateway.clone(), fetcher)
            .expect("opened")
    }

    async fn record(&self, environment: &str) {
        let mut batch = Batch::new();
        let build = Build { status: Status::Uploading, ..Build::new(Timestamp::now()) };
        StaticWeb::put(&mut batch, &self.site, environment, &build);
        self.store.commit(batch).await.expect("stored");
    }

    fn build(&self, environment: &str) -> Option<Build> {
        StaticWeb::builds(&self.store, &self.store.get(&self.site).expect("the site"))
            .remove(environment)
    }

    fn package(&self, files: &[(&str, &[u8])]) -> PathBuf {
        package(self.dir.path(), files)
    }

    /// What a browser on the machine sees.
    async fn get(&self, host: &str, path: &str) -> (u16, String) {
        let mut tcp = TcpStream::connect(self.address).await.expect("connected");
        let port = self.address.port();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}.localhost:{port}\r\nConnection: close\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.expect("read");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
    }
}

/// Serves one answer after another: each a file, or a status.
async fn serve(answers: Vec<Result<PathBuf, &'static str>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        for answer in answers {
            let (mut tcp, _) = listener.accept().await.expect("accepted");
            let mut head = [0; 4096];
            let _ = tcp.read(&mut head).await;
            let (status, body) = match answer {
                Ok(path) => ("200 OK", std::fs::read(path).expect("a package")),
                Err(status) => (status, Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = tcp.write_all(head.as_bytes()).await;
            let _ = tcp.write_all(&body).await;
        }
    });
    format!("http://{address}/site.zip?sig=secret")
}

#[tokio::test]
async fn a_deployment_replaces_the_content_as_a_whole_or_not_at_all() {
    let world = World::new().await;
    assert!(world.get(HOST, "/").await.1.contains("waiting for your content"));
    let one = world.package(&[("index.html", b"one"), ("only-in-one.txt", b"1")]);
    let two = world.package(&[("index.html", b"two")]);
    let bad =
        world.package(&[("index.html", b"bad"), ("staticwebapp.config.json", b"{\"routes\":1}")]);
    let outside = world.package(&[("index.html", b"bad"), ("../../evil", b"x")]);
    let url = serve(vec![Ok(one), Ok(bad), Ok(outside), Err("404 Not Found"), Ok(two)]).await;
    world.record(PRODUCTION).await;
    world.web.deploy(&world.site, PRODUCTION, &url).await.expect("deployed");
    assert_eq!(world.get(HOST, "/").await, (200, "one".into()));
    assert_eq!(world.build(PRODUCTION).expect("a build").status, Status::Ready);

    for word in ["validating staticwebapp.config.json", "unsafe path", "answered 404"] {
        let error =
            world.web.deploy(&world.site, PRODUCTION, &url).await.expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let build = world.build(PRODUCTION).expect("a build");
        assert_eq!((build.status, build.error), (Status::Failed, Some(error)));
        assert_eq!(
            world.get(HOST, "/").await,
            (200, "one".into()),
            "the old content is shown still"
        );
        assert_eq!(world.get(HOST, "/only-in-one.txt").await.0, 200);
    }
    let left =
        std::fs::read_dir(world.dir.path().join("static/content")).expect("a directory").count();
    assert_eq!(left, 1, "what failed left nothing");

    world.web.deploy(&world.site, PRODUCTION, &url).await.expect("deployed");
    assert_eq!(world.get(HOST, "/").await, (200, "two".into()));
    assert_eq!(
        world.get(HOST, "/only-in-one.txt").await.0,
        404,
        "nothing of the old content is left"
    );
    assert!(!world.dir.path().join("evil").exists());
}

#[tokio::test]
async fn environments_have_addresses_of_their_own_and_end_apart() {
    let world = World::new().await;
    let production = world.package(&[("index.html", b"production")]);
    let preview = world.package(&[("index.html", b"preview")]);
    let url = serve(vec![Ok(production), Ok(preview)]).await;
    for environment in [PRODUCTION, "dev"] {
        world.record(environment).await;
        world.web.deploy(&world.site, environment, &url).await.expect("deployed");
    }
    let dev = "calm-hill-0a1b2c3d4-dev.westeurope.5";
    assert_eq!(world.get(HOST, "/").await, (200, "production".into()));
    assert_eq!(world.get(dev, "/").await, (200, "preview".into()));
    let mut batch = Batch::new();
    StaticWeb::forget(&mut batch, &world.site, "dev");
    world.store.commit(batch).await.expect("stored");
    world.web.publish(&world.site, None);
    assert_eq!(world.get(dev, "/").await.0, 404);
    assert_eq!(world.get(HOST, "/").await, (200, "production".into()));
    world.web.withdraw(&world.site);
    assert_eq!(world.get(HOST, "/").await.0, 404);
    world.web.publish(&world.site, None);
    assert_eq!(
        world.get(HOST, "/").await.0,
        404,
        "a deployment that ends meanwhile changes nothing"
    );
    world.web.provide(&world.site);
    assert_eq!(world.get(HOST, "/").await, (200, "production".into()));
}

#[tokio::test]
async fn a_region_that_was_killed_shows_what_it_showed_and_keeps_nothing_half_made() {
    let world = World::new().await;
    let url = serve(vec![Ok(world.package(&[("index.html", b"one")]))]).await;
    world.record(PRODUCTION).await;
    world.web.deploy(&world.site, PRODUCTION, &url).await.expect("deployed");
    // What is on the disk when a region is killed: while it downloads, while it unpacks, and after the
    // content was put in its place but before the record named it.
    let root = world.dir.path().join("static");
    std::fs::write(root.join("incoming/half.zip"), b"PK").expect("written");
    std::fs::create_dir_all(root.join("incoming/half/files")).expect("made");
    std::fs::create_dir_all(root.join(format!("content/{}/files", Uuid::new_v4()))).expect("made");
    let again = World::open(&world.dir, &world.store, &world.gateway, world.address);
    again.publish(&world.site, None);
    assert_eq!(world.get(HOST, "/").await, (200, "one".into()));
    assert_eq!(std::fs::read_dir(root.join("incoming")).expect("a directory").count(), 0);
    assert_eq!(std::fs::read_dir(root.join("content")).expect("a directory").count(), 1);
}

#[tokio::test]
async fn a_package_larger_than_the_plan_takes_is_not_downloaded_whole() {
    let world = World::new().await;
    let big = world.dir.path().join("big");
    std::fs::File::create(&big).expect("made").set_len(1 << 20).expect("grown");
    let url = serve(vec![Ok(big.clone()), Ok(big)]).await;
    let to = world.dir.path().join("to");
    let fetcher = Fetcher::new(format!("http://{}", world.address), None);
    let error = fetcher.fetch(&url, &to, 1000).await.expect_err("too large");
    assert!(matches!(error, FetchError::TooLarge(1000)), "{error}");
    fetcher.fetch(&url, &to, 1 << 20).await.expect("just as large as allowed");
}
