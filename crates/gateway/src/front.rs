//! The front end of a site: what App Service does between a client and an instance.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{self, SET_COOKIE},
    request::Parts,
    uri::PathAndQuery,
};
use hyper::body::Incoming;

use crate::{
    Access, Pass, Pool, Site, SiteState, Target,
    asked::Asked,
    headers,
    instance::InFlight,
    names, pages,
    pass::Timed,
    request_body::Source,
    response_body::{InstanceBody, ResponseBody},
    serve::Connection,
    tunnel,
    upstream::{self, Failure, Link},
};

/// How often a request is given to an instance at most, the pauses in between counted.
const ATTEMPTS: usize = 6;
/// The pause before an attempt after no connection could be made. An instance that is being replaced
/// is out of the table a moment later.
const PAUSE: [Duration; ATTEMPTS] = [
    Duration::ZERO,
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(200),
    Duration::from_millis(500),
];

/// The cookie and the query parameter that choose a slot
/// (learn.microsoft.com/azure/app-service/deploy-staging-slots#route-production-traffic-manually).
const ROUTING: &str = "x-ms-routing-name";
/// The routing name of the production slot.
const SELF: &str = "self";
const AFFINITY: &str = "ARRAffinity";

/// A request on its way to an instance.
struct Exchange<'a> {
    connection: &'a Connection,
    method: Method,
    url: PathAndQuery,
    /// Whom it is for, also to look the site up again.
    asked: &'a Asked,
    /// As the client sent them: an instance's are made for each attempt.
    headers: HeaderMap,
    log_id: HeaderValue,
    source: Source,
    last: Rc<Cell<Instant>>,
    started: Instant,
}

/// Where a request goes, and what the client is told about it.
struct Route {
    in_flight: InFlight,
    cookies: Vec<HeaderValue>,
}

/// Answers a request to a site.
///
/// Until the first `await` this counts the request on an instance of the table in force; the drain in
/// [`Gateway::drained`](crate::Gateway::drained) rests on that.
pub(crate) async fn serve(
    connection: &Rc<Connection>,
    asked: &Asked,
    site: Arc<Site>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    if !site.access.admits(connection.peer, request.headers()) {
        return pages::ip_forbidden(connection.peer.addr.ip());
    }
    serve_from(connection, asked, site, request, None).await
}

/// Passes a request on to a site in a service's name, for a limited time.
pub(crate) async fn pass(
    connection: &Rc<Connection>,
    pass: Pass,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let failed = || pages::plain(pass.failure.0, pass.failure.1);
    let site = match connection.gateway.table().get(&pass.host) {
        // Whoever passes it on is on neither side of the region: a site that only some networks may
        // reach is closed to it.
        Some(Target::Site(site)) if site.access == Access::default() => site.clone(),
        _ => return failed(),
    };
    let Ok(asked) = HeaderValue::from_str(&pass.host).map_err(|_| "").and_then(Asked::read) else {
        return failed();
    };
    for (name, value) in &pass.headers {
        if value.is_empty() {
            request.headers_mut().remove(name);
        } else {
            request.headers_mut().insert(name, value.clone());
        }
    }
    // Only HTTP is passed on: a WebSocket's handshake reaches the site as the GET that it also is.
    request.headers_mut().remove(header::UPGRADE);
    let until = tokio::time::Instant::now() + pass.within;
    let answering = serve_from(connection, &asked, site, request, Some(&pass.from));
    match tokio::time::timeout_at(until, answering).await {
        Ok(response) => response.map(|body| ResponseBody::Timed(Box::new(Timed::new(body, until)))),
        Err(_) => failed(),
    }
}

/// As [`serve`], for whoever may ask; `from` is the host name of the service that passes it on.
async fn serve_from(
    connection: &Rc<Connection>,
    asked: &Asked,
    site: Arc<Site>,
    request: Request<Incoming>,
    from: Option<&str>,
) -> Response<ResponseBody> {
    let Some(cors) = site.cors.clone() else {
        return exchange(connection, asked, site, request, from).await;
    };
    if let Some(answer) = cors.preflight(&request) {
        return answer;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = exchange(connection, asked, site, request, from).await;
    if let Some(origin) = origin {
        cors.answer(&origin, response.headers_mut());
    }
    response
}

/// The exchange itself.
async fn exchange(
    connection: &Rc<Connection>,
    asked: &Asked,
    site: Arc<Site>,
    request: Request<Incoming>,
    from: Option<&str>,
) -> Response<ResponseBody> {
    let (mut parts, incoming) = request.into_parts();
    let url = path_and_query(&parts.uri);
    // A browser cannot be made to trust the region for `.localhost`, which never leaves the machine:
    // there plain HTTP is served whatever the site demands under its real name.
    if site.https_only && !connection.peer.tls && from.is_none() && !names::is_local(&asked.host) {
        return pages::moved(&format!("https://{}{}", asked.text(), url.as_str()));
    }
    if site.state == SiteState::Stopped {
        return pages::stopped();
    }
    if let Some(auth) = &site.auth {
        if let Some(status) = auth.refusal(from, url.path()) {
            return pages::unauthenticated(status, &asked.host);
        }
        // Who the user is says the platform alone, and here it knows nobody.
        headers::strip_principal(&mut parts.headers);
    }
    let secure = connection.peer.tls;
    let Some(route) = choose(&site, &parts.headers, url.query(), &asked.host, secure, &[]) else {
        site.unserved.fetch_add(1, Ordering::Relaxed);
        return pages::unavailable("The web app has no instance that can answer.");
    };
    let websocket = websocket_key(&parts);
    let log_id = headers::log_id();
    if let Some(upgrade) = websocket {
        if !site.websockets {
            return pages::plain(StatusCode::FORBIDDEN, "WebSockets are off for this web app");
        }
        let client = &connection.client;
        parts.headers = headers::for_instance(
            &parts.headers,
            &site,
            &asked.authority,
            url.as_str(),
            log_id,
            client,
        );
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, upgrade);
        parts.uri = Uri::from(url);
        return websocket_exchange(connection, &site, route, parts, incoming).await;
    }
    let last = Rc::new(Cell::new(Instant::now()));
    let exchange = Exchange {
        connection,
        asked,
        method: parts.method,
        url,
        headers: parts.headers,
        log_id,
        source: Source::new(incoming, last.clone()),
        started: last.get(),
        last,
    };
    exchange.run(site, route).await
}

fn path_and_query(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// The `Upgrade` field of a WebSocket handshake (RFC 6455, 4.1). Other upgrades are not passed on.
fn websocket_key(parts: &Parts) -> Option<HeaderValue> {
    let upgrade = parts.headers.get(header::UPGRADE)?;
    let asked = parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && upgrade.as_bytes().eq_ignore_ascii_case(b"websocket")
        && parts
            .headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    asked.then(|| upgrade.clone())
}

impl Exchange<'_> {
    async fn run(self, mut site: Arc<Site>, mut route: Route) -> Response<ResponseBody> {
        let mut tried = Vec::new();
        let mut fresh = false;
        let mut answered_nothing = false;
        let mut attempts = 0;
        loop {
            let failure = match self.attempt(&site, &route, fresh).await {
                Ok((response, link)) => return self.finish(&site, route, response, link),
                Err(failure) => failure,
            };
            attempts += 1;
            let instance = route.in_flight.instance().clone();
            let again = match &failure {
                Failure::Unsent(_) | Failure::Unread => true,
                Failure::Unanswered => {
                    // Once: a request that makes the application fall over is not to do it everywhere.
                    let first = !std::mem::replace(&mut answered_nothing, true);
                    first && self.method.is_idempotent()
                }
                Failure::Broken(_) | Failure::Silent(_) => false,
            };
            tracing::debug!(site = %site.host, instance = instance.id(), %failure, again, "an attempt failed");
            if !again || attempts == ATTEMPTS || self.source.attempt().is_none() {
                tracing::warn!(site = %site.host, instance = instance.id(), %failure, "a request failed");
                let response = match &failure {
                    Failure::Silent(_) => pages::gateway_timeout(),
                    Failure::Unsent(_) => {
                        pages::unavailable("The web app's instance does not accept connections.")
                    }
                    _ => pages::bad_gateway("The web app closed the connection without an answer."),
                };
                instance.count(response.status(), self.started.elapsed());
                return response;
            }
            // Whatever else is idle may be as stale as the connection that failed.
            fresh = true;
            tried.push(instance.key());
            drop(route);
            if matches!(failure, Failure::Unsent(_)) {
                tokio::time::sleep(PAUSE[attempts]).await;
            }
            // By the table that is in force now: a swap may have happened.
            let table = self.connection.gateway.table();
            match table.get(&self.asked.name) {
                Some(Target::Site(current)) => site = current.clone(),
                _ => return pages::no_site(self.asked.text()),
            }
            let secure = self.connection.peer.tls;
            let next =
                choose(&site, &self.headers, self.url.query(), &self.asked.host, secure, &tried);
            let Some(next) = next else {
                site.unserved.fetch_add(1, Ordering::Relaxed);
                return pages::unavailable("The web app has no instance that can answer.");
            };
            route = next;
        }
    }

    async fn attempt(
        &self,
        site: &Arc<Site>,
        route: &Route,
        fresh: bool,
    ) -> Result<(Response<Incoming>, Link), Failure> {
        let instance = route.in_flight.instance();
        let idle = if fresh { None } else { upstream::checkout(instance.key()) };
        let mut link = if let Some(link) = idle {
            link
        } else {
            let within = self.connection.gateway.limits().connect_timeout;
            upstream::connect(instance.key(), instance.addr(), within).await?
        };
        let body = self
            .source
            .attempt()
            .ok_or_else(|| Failure::Broken("the request cannot be sent again".to_owned()))?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.url.clone());
        *request.headers_mut() = headers::for_instance(
            &self.headers,
            site,
            &self.asked.authority,
            self.url.as_str(),
            self.log_id.clone(),
            &self.connection.client,
        );
        let response = link.send(request, site.client_idle, &self.last).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::Broken("it switched protocols unasked".to_owned()));
        }
        Ok((response, link))
    }

    fn finish(
        &self,
        site: &Site,
        route: Route,
        response: Response<Incoming>,
        link: Link,
    ) -> Response<ResponseBody> {
        let (mut parts, incoming) = response.into_parts();
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        headers::strip_hop_by_hop(&mut parts.headers);
        for cookie in route.cookies {
            parts.headers.append(SET_COOKIE, cookie);
        }
        route.in_flight.instance().count(parts.status, self.started.elapsed());
        let body = if hyper::body::Body::is_end_stream(&incoming) {
            link.release();
            ResponseBody::empty()
        } else {
            let body = InstanceBody::new(incoming, link, route.in_flight, site.client_idle);
            ResponseBody::Instance(Box::new(body))
        };
        Response::from_parts(parts, body)
    }
}

/// Chooses a slot, then an instance.
fn choose(
    site: &Site,
    headers: &HeaderMap,
    query: Option<&str>,
    domain: &str,
    secure: bool,
    tried: &[u64],
) -> Option<Route> {
    let mut cookies = Vec::new();
    let pool = if site.ramp_up.is_empty() {
        &site.pool
    } else {
        choose_slot(site, headers, query, domain, secure, &mut cookies)
    };
    if !site.affinity {
        return Some(Route { in_flight: pool.pick(tried)?, cookies });
    }
    let wanted = headers::cookie(headers, AFFINITY)
        .and_then(|id| pool.find(id))
        .filter(|found| !tried.contains(&found.instance().key()));
    let in_flight = if let Some(in_flight) = wanted {
        in_flight
    } else {
        let in_flight = pool.pick(tried)?;
        affinity_cookies(in_flight.instance().id(), domain, secure, &mut cookies);
        in_flight
    };
    Some(Route { in_flight, cookies })
}

/// The slot by `rampUpRules`: the client's own choice (query, then cookie), else by chance, remembered
/// for an hour (learn.microsoft.com/azure/app-service/deploy-staging-slots#route-production-traffic-automatically).
///
/// Names and values of the cookies are as browsers send them to App Service; their attributes are
/// unverified.
fn choose_slot<'a>(
    site: &'a Site,
    headers: &HeaderMap,
    query: Option<&str>,
    domain: &str,
    secure: bool,
    cookies: &mut Vec<HeaderValue>,
) -> &'a Arc<Pool> {
    let by_name = |name: &str| {
        if name.eq_ignore_ascii_case(SELF) {
            return Some((SELF, &site.pool));
        }
        let rule = site.ramp_up.iter().find(|rule| rule.slot.eq_ignore_ascii_case(name))?;
        Some((rule.slot.as_str(), &rule.pool))
    };
    let mut remember = |name: &str, value: &str| {
        let flags = if secure { "; Secure; SameSite=None" } else { "" };
        let cookie =
            format!("{name}={value}; Path=/; HttpOnly; Domain={domain}; Max-Age=3600{flags}");
        cookies.extend(HeaderValue::from_str(&cookie).ok());
    };
    let asked = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.eq_ignore_ascii_case(ROUTING))
        .and_then(|(_, name)| by_name(name));
    if let Some((name, pool)) = asked {
        remember(ROUTING, name);
        return pool;
    }
    if let Some((_, pool)) = headers::cookie(headers, ROUTING).and_then(by_name) {
        return pool;
    }
    #[expect(clippy::cast_precision_loss)]
    let mix = (headers::random() >> 11) as f64 / (1_u64 << 53) as f64 * 100.0;
    let mut upper = 0.0;
    let (name, pool) = site
        .ramp_up
        .iter()
        .find_map(|rule| {
            upper += rule.percent;
            (mix < upper).then_some((rule.slot.as_str(), &rule.pool))
        })
        .unwrap_or((SELF, &site.pool));
    remember("TiPMix", &mix.to_string());
    remember(ROUTING, name);
    pool
}

/// `ARRAffinity`, and its twin for browsers that want `SameSite=None` said; the latter is worth
/// nothing without `Secure`. The form is that of App Service's answers recorded in public test suites.
fn affinity_cookies(id: &str, domain: &str, secure: bool, cookies: &mut Vec<HeaderValue>) {
    let flag = if secure { "Secure;" } else { "" };
    let first = format!("{AFFINITY}={id};Path=/;HttpOnly;{flag}Domain={domain}");
    cookies.extend(HeaderValue::from_str(&first).ok());
    if secure {
        let second =
            format!("{AFFINITY}SameSite={id};Path=/;HttpOnly;SameSite=None;Secure;Domain={domain}");
        cookies.extend(HeaderValue::from_str(&second).ok());
    }
}

/// A WebSocket handshake, and the connection after it. Each has its own connection to the instance,
/// which is never pooled.
async fn websocket_exchange(
    connection: &Rc<Connection>,
    site: &Arc<Site>,
    route: Route,
    parts: Parts,
    incoming: Incoming,
) -> Response<ResponseBody> {
    let started = Instant::now();
    let Route { in_flight, cookies } = route;
    let instance = in_flight.instance().clone();
    let mut request = Request::from_parts(parts, incoming);
    let client = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let limits = connection.gateway.limits();
    let result =
        upstream::upgrade(instance.addr(), limits.connect_timeout, site.client_idle, parts).await;
    let mut response = match result {
        Ok(response) => response,
        Err(failure) => {
            tracing::warn!(site = %site.host, instance = instance.id(), %failure, "a WebSocket handshake failed");
            let response = match failure {
                Failure::Silent(_) => pages::gateway_timeout(),
                Failure::Unsent(_) => {
                    pages::unavailable("The web app's instance does not accept connections.")
                }
                _ => pages::bad_gateway("The web app closed the connection without an answer."),
            };
            instance.count(response.status(), started.elapsed());
            return response;
        }
    };
    instance.count(response.status(), started.elapsed());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let server = hyper::upgrade::on(&mut response);
        let idle = site.client_idle;
        let connection = connection.clone();
        tokio::task::spawn_local(async move {
            // Both count as open until the WebSocket is closed.
            let (_connection, _in_flight) = (connection, in_flight);
            match tokio::try_join!(client, server) {
                Ok((client, server)) => tunnel::upgraded(client, server, idle).await,
                Err(error) => tracing::debug!(%error, "a WebSocket was not established"),
            }
        });
        let (mut parts, _) = response.into_parts();
        for cookie in cookies {
            parts.headers.append(SET_COOKIE, cookie);
        }
        return Response::from_parts(parts, ResponseBody::empty());
    }
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    for cookie in cookies {
        parts.headers.append(SET_COOKIE, cookie);
    }
    parts.extensions.clear();
    Response::from_parts(parts, ResponseBody::Spawned { body, _in_flight: in_flight })
}
