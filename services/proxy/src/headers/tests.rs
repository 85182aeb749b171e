use std::net::IpAddr;

use ipnet::IpNet;

use super::*;

type Pairs<'a> = &'a [(&'static str, &'a str)];

fn map(pairs: Pairs<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn prepare(pairs: Pairs<'_>, uri: &str, trusted: &str) -> Result<HeaderMap, Reason> {
    let mut headers = map(pairs);
    let trusted = chassis::units::networks(trusted).unwrap();
    prepare_for(Version::HTTP_11, &mut headers, uri, &trusted)?;
    Ok(headers)
}

fn prepare_for(
    version: Version,
    headers: &mut HeaderMap,
    uri: &str,
    trusted: &[IpNet],
) -> Result<WantedUpgrade, Reason> {
    let client = Client::new(IpAddr::from([10, 1, 2, 3]), trusted);
    let (uri, id): (Uri, _) = (uri.parse().unwrap(), HeaderValue::from_static("ours"));
    let fields = check_request(headers, &Method::GET, &uri, version, &client)?;
    Ok(prepare_request(headers, fields, version, &client, id))
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

/// RFC 9110 §7.6.1.
#[test]
fn fields_of_one_connection_are_not_forwarded() {
    let headers = prepare(
        &[
            ("host", "a"),
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ],
        "/",
        "",
    )
    .unwrap();
    for gone in ["connection", "x-mine", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(headers["accept"], "*/*");
}

/// RFC 9110 §10.1.4.
#[test]
fn a_backend_is_told_that_trailers_are_taken_whatever_else_is() {
    for (lines, is_told) in [
        (&["trailers"][..], true),
        (&["trailers, deflate"], true),
        (&["deflate;q=0.5", "Trailers"], true),
        (&["deflate"], false),
    ] {
        let mut pairs = vec![("host", "a"), ("connection", "te")];
        pairs.extend(lines.iter().map(|line| ("te", *line)));
        let headers = prepare(&pairs, "/", "").unwrap();
        let told = if is_told { vec!["trailers".to_owned()] } else { vec![] };
        assert_eq!(all(&headers, "te"), told, "{lines:?}");
        assert_eq!(headers.contains_key("connection"), is_told, "{lines:?}");
    }
}

#[test]
fn connection_cannot_name_away_what_routes_or_frames_a_message() {
    let pairs = [("host", "a"), ("connection", "host, content-length"), ("content-length", "3")];
    let headers = prepare(&pairs, "/", "").unwrap();
    assert_eq!(
        (all(&headers, "host"), all(&headers, "content-length")),
        (vec!["a".into()], vec!["3".into()])
    );
}

#[test]
fn an_upgrade_that_was_asked_for_is_forwarded() {
    let pairs = [("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
    let headers = prepare(&pairs, "/", "").unwrap();
    assert_eq!(
        (&headers["connection"], &headers["upgrade"]),
        (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"))
    );
}

/// RFC 9110 §7.8.
#[test]
fn an_answer_may_change_only_to_what_was_asked_for() {
    for (asked, answered, expected) in [
        ("x", "x", true),
        ("WebSocket", "websocket", true),
        ("x/2, y", "y,", true),
        ("x", "y", false),
        ("x", "x, y", false),
        ("x/2", "x", false),
        ("x", "", false),
        ("x,", ",", false),
    ] {
        let upgrade = |protocols| map(&[("upgrade", protocols)]);
        assert_eq!(
            are_asked_for(&upgrade(answered), &upgrade(asked)),
            expected,
            "{asked} {answered}"
        );
    }
    assert!(!are_asked_for(&HeaderMap::new(), &map(&[("upgrade", "x")])));
}

/// RFC 9110 §5.3, §7.8.
#[test]
fn an_upgrade_on_several_lines_is_one_list() {
    let upgrades = [("upgrade", "a"), ("upgrade", "b, WebSocket")];
    let pairs = [&[("host", "a"), ("connection", "upgrade")][..], &upgrades].concat();
    let headers = prepare(&pairs, "/", "").unwrap();
    assert_eq!(all(&headers, "upgrade"), ["a, b, WebSocket"]);
    assert!(is_websocket(&headers) && !is_websocket(&map(&upgrades[..1])));

    let answer = || map(&[("upgrade", ""), ("upgrade", "a,"), ("upgrade", "b")]);
    let (mut required, mut switching) = (answer(), answer());
    prepare_response(&mut required, StatusCode::UPGRADE_REQUIRED, None).unwrap();
    prepare_switching(&mut switching);
    assert_eq!([all(&required, "upgrade"), all(&switching, "upgrade")], [["a, b"]; 2]);
}

#[test]
fn a_strangers_forwarded_headers_are_replaced() {
    let pairs = [
        ("host", "shop.example"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
        ("x-request-id", "theirs"),
        ("x-forwarded-prefix", "/admin"),
        ("x_forwarded_for", "1.1.1.1"),
        ("x_real_ip", "1.1.1.1"),
        ("x_request_id", "theirs"),
        ("x-own", "kept"),
    ];
    let headers = prepare(&pairs, "/", "").unwrap();
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let ours = ["host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-own"];
    assert_eq!(names, [&ours[..], &["x-request-id"]].concat());
    assert_eq!(all(&headers, "x-forwarded-for"), ["10.1.2.3"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["shop.example"]);
    assert_eq!(all(&headers, "x-request-id"), ["ours"]);
}

#[test]
fn a_trusted_proxys_forwarded_headers_are_kept_and_extended() {
    let pairs = [
        ("host", "shop.example"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "theirs"),
        ("via", "1.1 front"),
    ];
    let headers = prepare(&pairs, "/", "10.0.0.0/8").unwrap();
    assert_eq!(all(&headers, "x-forwarded-for"), ["1.1.1.1, 10.1.2.3"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&headers, "x-request-id"), ["theirs"]);
    assert_eq!(all(&headers, "via"), ["1.1 front", "1.1 evenkeel"]);
}

/// RFC 9112 §3.2.
#[test]
fn a_request_without_exactly_one_host_is_refused() {
    assert_eq!(prepare(&[], "/", "").unwrap_err(), Reason::BadRequest);
    let two = [("host", "a"), ("host", "b")];
    assert_eq!(prepare(&two, "/", "").unwrap_err(), Reason::BadRequest);
}

fn prepare_http2(pairs: Pairs<'_>, uri: &str) -> Result<HeaderMap, Reason> {
    let mut headers = map(pairs);
    prepare_for(Version::HTTP_2, &mut headers, uri, &[])?;
    Ok(headers)
}

/// RFC 9113 §8.3.1.
#[test]
fn the_authority_of_http_2_is_the_host_and_a_host_beside_it_must_be_the_same() {
    let headers = prepare_http2(&[], "http://a:81/").unwrap();
    assert_eq!(all(&headers, "host"), ["a:81"]);
    assert_eq!(all(&prepare_http2(&[("host", "A")], "http://a/").unwrap(), "host"), ["a"]);
    assert_eq!(all(&prepare_http2(&[("host", "a")], "/").unwrap(), "host"), ["a"]);
    let cases: [(Pairs<'_>, &str); 5] = [
        (&[("host", "b")], "http://a/"),
        (&[("host", "a"), ("host", "a")], "http://a/"),
        (&[("host", "u@a")], "/"),
        (&[], "/"),
        (&[], "http://:80/"),
    ];
    for (pairs, uri) in cases {
        assert_eq!(prepare_http2(pairs, uri).unwrap_err(), Reason::BadRequest, "{pairs:?}");
    }
}

#[test]
fn a_head_with_as_many_fields_as_there_can_be_is_too_long_to_name_its_host() {
    let mut headers = HeaderMap::new();
    let name = |number: u32| format!("x-{number}").parse::<HeaderName>().unwrap();
    let no_value = HeaderValue::from_static("");
    let full = (0..).find(|number| headers.try_insert(name(*number), no_value.clone()).is_err());
    assert!(full.is_some_and(|count| count > 10_000));
    let refused = prepare_for(Version::HTTP_2, &mut headers, "http://a/", &[]);
    assert_eq!(refused.unwrap_err(), Reason::HeadTooLarge);
}

/// RFC 9113 §8.2.3.
#[test]
fn the_crumbs_of_cookies_are_joined() {
    let crumbs = [("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2; c=3")];
    let headers = prepare_http2(&crumbs, "http://a/").unwrap();
    assert_eq!(all(&headers, "cookie"), ["a=1; b=2; c=3"]);
    let crumbs = [("cookie", ""), ("cookie", "a=1"), ("cookie", "")];
    let headers = prepare_http2(&crumbs, "http://a/").unwrap();
    assert_eq!(all(&headers, "cookie"), ["; a=1;"], "no blank at its end");
    assert_eq!(all(&headers, "via"), ["2.0 evenkeel"]);
}

#[test]
fn every_line_of_a_trusted_proxys_list_is_kept_in_order() {
    let pairs = [("host", "a"), ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "9.9.9.9")];
    let headers = prepare(&pairs, "/", "10.0.0.0/8").unwrap();
    assert_eq!(all(&headers, "x-forwarded-for"), ["6.6.6.6, 9.9.9.9, 10.1.2.3"]);
}

#[test]
fn an_absolute_target_cannot_claim_to_have_come_encrypted() {
    let headers = prepare(&[("host", "a")], "https://a/", "").unwrap();
    assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
}

/// RFC 9112 §6.1, §3.2.
#[test]
fn codings_hosts_and_targets_that_could_be_read_in_two_ways_are_refused() {
    let cases: [(Pairs<'_>, &str); 17] = [
        (&[("host", "a"), ("transfer-encoding", "gzip, chunked")], "/"),
        (&[("host", "a"), ("transfer-encoding", "chunked, chunked")], "/"),
        (
            &[("host", "a"), ("transfer-encoding", "identity"), ("transfer-encoding", "chunked")],
            "/",
        ),
        (&[("host", "")], "/"),
        (&[("host", "a b")], "/"),
        (&[("host", "a/..")], "/"),
        (&[("host", "u:p@a")], "/"),
        (&[("host", "a")], "http://u@a/"),
        (&[("host", "a:b")], "/"),
        (&[("host", "a:+80")], "/"),
        (&[("host", "a:65536")], "/"),
        (&[("host", "[::1]:b")], "/"),
        (&[("host", "a")], "ftp://a/"),
        (&[("host", "a")], "http://a:99999/"),
        (&[("host", "a")], "http://:80/"),
        (&[("host", "a")], "a:80"),
        (&[("host", "a")], "*"),
    ];
    for (pairs, uri) in cases {
        assert_eq!(prepare(pairs, uri, "").unwrap_err(), Reason::BadRequest, "{pairs:?} {uri}");
    }
    assert!(prepare(&[("host", "[::1]:80"), ("transfer-encoding", "Chunked")], "/", "").is_ok());
}

#[test]
fn an_upgrade_to_h2c_is_not_forwarded_however_it_is_written() {
    for protocol in ["h2c", "H2C", "websocket, h2c"] {
        let pairs = [
            ("host", "a"),
            ("connection", "upgrade"),
            ("upgrade", protocol),
            ("http2-settings", "AAAA"),
        ];
        let headers = prepare(&pairs, "/", "").unwrap();
        assert!(!headers.contains_key("upgrade") && !headers.contains_key("http2-settings"));
    }
}

#[test]
fn an_odd_byte_in_connection_does_not_hide_the_fields_it_names() {
    let mut headers = map(&[("host", "a"), ("x-mine", "1")]);
    headers.insert("connection", HeaderValue::from_bytes(b"\xff, x-mine").unwrap());
    let fields = Fields::among(&headers);
    strip_hop_by_hop(&mut headers, fields);
    assert!(!headers.contains_key("x-mine"));
}

/// RFC 9112 §6.3.
#[test]
fn a_response_with_two_framings_or_one_that_we_do_not_read_is_not_passed_on() {
    let mut headers = map(&[("content-length", "100"), ("transfer-encoding", "chunked")]);
    assert_eq!(prepare_response(&mut headers, StatusCode::OK, None), Err(Reason::ProtocolError));
    let mut headers = map(&[("transfer-encoding", "gzip, chunked")]);
    assert_eq!(prepare_response(&mut headers, StatusCode::OK, None), Err(Reason::ProtocolError));
}

/// RFC 9112 §3.2.2.
#[test]
fn the_authority_of_an_absolute_target_replaces_host() {
    assert!(prepare(&[("host", "a")], "http://a?b", "").is_ok(), "RFC 9110 §4.2.1");
    let headers = prepare(&[("host", "a")], "http://b:81/x", "").unwrap();
    assert_eq!(all(&headers, "host"), ["b:81"]);
}

#[test]
fn a_response_loses_what_concerns_one_connection_and_gains_the_request_id() {
    let mut headers = map(&[("connection", "close"), ("keep-alive", "timeout=5"), ("etag", "x")]);
    let id = HeaderValue::from_static("id");
    prepare_response(&mut headers, StatusCode::OK, Some(&id)).unwrap();
    assert_eq!(headers.len(), 2);
    assert_eq!(
        (&headers["etag"], &headers["x-request-id"]),
        (&HeaderValue::from_static("x"), &HeaderValue::from_static("id"))
    );
}

/// RFC 9110 §15.5.22.
#[test]
fn a_response_names_another_protocol_only_if_it_asks_for_it() {
    for (status, is_named) in [(426, true), (200, false), (400, false)] {
        let mut headers = map(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        let status = StatusCode::from_u16(status).unwrap();
        prepare_response(&mut headers, status, None).unwrap();
        assert_eq!(headers.contains_key("upgrade"), is_named, "{status}");
        assert!(!headers.contains_key("connection"), "which is ours to say");
    }
}

/// RFC 9110 §8.6.
#[test]
fn a_response_that_has_no_body_by_its_status_tells_no_length_but_of_what_was_not_modified() {
    for (status, has_length) in [(204, false), (304, true), (200, true)] {
        let mut headers = map(&[("content-length", "5")]);
        let status = StatusCode::from_u16(status).unwrap();
        prepare_response(&mut headers, status, None).unwrap();
        assert_eq!(headers.contains_key("content-length"), has_length, "{status}");
    }
}

/// RFC 7541 §7.1.
#[test]
fn what_is_secret_stays_out_of_the_table_that_clients_share_at_a_backend_of_http_2() {
    let secret = ["authorization", "cookie", "proxy-authorization"];
    let pairs =
        [&[("host", "a"), ("x", "y"), ("cookie", "a=b")][..], &secret.map(|name| (name, "s"))];
    let (mut headers, mut uri) = (map(&pairs.concat()), Uri::from_static("/"));
    in_http2_form(&mut headers, &mut uri).unwrap();
    assert_eq!(headers.len(), 5);
    for (name, value) in &headers {
        assert_eq!(value.is_sensitive(), name != "x", "{name}");
    }
}
