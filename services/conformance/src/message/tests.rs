use super::*;

#[test]
fn a_message_is_whole_exactly_at_its_last_byte() {
    let cases: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1 ; b;c=d ;e=\"\\\";\"\r\na\r\n0\r\n\r\n",
    ];
    for bytes in cases {
        for end in 0..bytes.len() {
            assert_eq!(request(&bytes[..end]), Reading::Partial, "{end} of {bytes:?}");
        }
        let more = [bytes, b"GET"].concat();
        assert!(matches!(request(&more), Reading::Whole(_, length) if length == bytes.len()));
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_invalid() {
    let cases: [&[u8]; 11] = [
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;\r\na\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\r\na\r\n",
    ];
    for bytes in cases {
        let reading = request(bytes);
        assert!(matches!(reading, Reading::Invalid(_)), "{bytes:?}: {reading:?}");
    }
}

#[test]
fn a_response_without_a_length_ends_with_its_connection() {
    let bytes = b"HTTP/1.1 200 OK\r\n\r\nabc";
    assert_eq!(response(bytes, "GET", false), Reading::Partial);
    assert!(
        matches!(response(bytes, "GET", true), Reading::Whole(message, _) if message.body == b"abc")
    );
    assert!(matches!(response(bytes, "HEAD", false), Reading::Whole(_, 19)));
}
