//! Lengths and codings.

use super::Case;

pub(super) const FRAMING: &[Case] = &[
    (
        "a length before a coding",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding before a length",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "a length and a coding, written oddly and apart",
        "§6.3",
        b"POST / HTTP/1.1\r\ntRANSFER-eNCODING:\tchunked\r\nHost: a\r\nX: y\r\ncONTENT-lENGTH:4\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding and a length that Connection names",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\
          Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths that differ",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ),
    (
        "two lengths that agree",
        "9110 §8.6",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    ),
    (
        "a list of lengths that differ",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello!",
    ),
    (
        "a list of lengths that agree",
        "9110 §8.6",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
    ),
    (
        "a length with a plus",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    ),
    (
        "a length below zero",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nhello",
    ),
    (
        "a hexadecimal length",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
    ),
    (
        "a length in two parts",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 0\r\n\r\nhello",
    ),
    (
        "a length with a fraction",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello",
    ),
    (
        "a length with a semicolon",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5;\r\n\r\nhello",
    ),
    (
        "a length in quotes",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\nhello",
    ),
    (
        "an empty length",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello",
    ),
    (
        "a length in other digits",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xD9\xA5\r\n\r\nhello",
    ),
    (
        "a length of twenty digits",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
    ),
    (
        "a length that is the largest number",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\nhello",
    ),
    (
        "a length that overflows to 5",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
    ),
    (
        "a coding that nobody knows",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "the coding identity",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
    ),
    (
        "another coding before chunked",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "another coding after chunked",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice in a list",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked on two lines",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked and something else on two lines",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked with a parameter",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in quotes",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked after a comma",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "an empty coding",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
    ),
    (
        "chunked after a vertical tab",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0Bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in HTTP/1.0",
        "§6.1",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding whose value is folded",
        "§5.2",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding with a space before its colon",
        "§5.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a length with a tab before its colon",
        "§5.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 5\r\n\r\nhello",
    ),
];
