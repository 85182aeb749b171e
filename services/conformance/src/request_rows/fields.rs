//! The fields of a head, and Host among them.

use super::Case;

pub(super) const FIELDS: &[Case] = &[
    ("a folded field", "§5.2", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
    ("a field folded with a tab", "§5.2", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n"),
    ("a space before the first field", "§2.2", b"GET / HTTP/1.1\r\n Host: a\r\nX: y\r\n\r\n"),
    ("a space before the colon", "§5.1", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    ("a line without a colon", "§5", b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n"),
    ("a field without a name", "§5", b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
    ("a space in a name", "§5", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n"),
    ("a bracket in a name", "9110 §5.1", b"GET / HTTP/1.1\r\nHost: a\r\nX(Y: z\r\n\r\n"),
    (
        "a letter beyond ASCII in a name",
        "9110 §5.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\xC3\xA9: z\r\n\r\n",
    ),
    ("a NUL in a name", "9110 §5.1", b"GET / HTTP/1.1\r\nHost: a\r\nX\0: z\r\n\r\n"),
    (
        "a control character in a name",
        "9110 §5.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\x01: z\r\n\r\n",
    ),
    ("a NUL in a value", "9110 §5.5", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n"),
    (
        "a control character in a value",
        "9110 §5.5",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x01z\r\n\r\n",
    ),
    ("a form feed in a value", "9110 §5.5", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x0Cz\r\n\r\n"),
    ("an escape in a value", "9110 §5.5", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x1B[0mz\r\n\r\n"),
    ("a delete in a value", "9110 §5.5", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x7Fz\r\n\r\n"),
    (
        "a bare CR in a value",
        "§2.2",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 5\r\n\r\n",
    ),
    ("a bare CR in a name", "§2.2", b"GET / HTTP/1.1\r\nHost: a\r\nX\rY: z\r\n\r\n"),
    ("a bare CR before a line's end", "§2.2", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n"),
    ("a bare LF after a field", "§2.2", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    (
        "a bare LF that hides a length",
        "§2.2",
        b"POST / HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: 5\r\n\r\nhello",
    ),
    ("a bare LF as the empty line", "§2.2", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("bare LFs only", "§2.2", b"GET / HTTP/1.1\nHost: a\n\n"),
];

pub(super) const HOSTS: &[Case] = &[
    ("no Host", "§3.2", b"GET / HTTP/1.1\r\n\r\n"),
    ("no Host beside an absolute target", "§3.2", b"GET http://a/ HTTP/1.1\r\n\r\n"),
    ("two Hosts that differ", "§3.2", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("two Hosts that agree", "§3.2", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("two Hosts in HTTP/1.0", "§3.2", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("two Hosts in a list", "§3.2", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("an empty Host", "9110 §4.2.1", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("a Host with a space", "§3.2", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("a Host with a path", "§3.2", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("a Host with a query", "§3.2", b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"),
    ("a Host with a user", "9110 §4.2.4", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("a Host whose port is a word", "§3.2", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    ("a Host whose port is too large", "§3.2", b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    ("a Host with two ports", "§3.2", b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n"),
    ("a Host with an open bracket", "§3.2", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    ("a Host beyond ASCII", "§3.2", b"GET / HTTP/1.1\r\nHost: \xC3\xA9\r\n\r\n"),
    (
        "a good Host and one that Connection names",
        "9110 §7.6.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: host\r\n\r\n",
    ),
];
