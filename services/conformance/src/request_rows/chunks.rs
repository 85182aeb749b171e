//! Chunks, and what follows the last one, after a head that is good.

use super::Case;

pub(super) const CHUNKS: &[Case] = &[
    ("a chunk size that is no number", "§7.1", b"g\r\nhello\r\n0\r\n\r\n"),
    ("an empty chunk size", "§7.1", b"\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size with a plus", "§7.1", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size below zero", "§7.1", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size with a prefix", "§7.1", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("a space before a chunk size", "§7.1", b" 5\r\nhello\r\n0\r\n\r\n"),
    ("a space after a chunk size", "§7.1", b"5 \r\nhello\r\n0\r\n\r\n"),
    ("a chunk size in two parts", "§7.1", b"5 0\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size that overflows to 5", "§7.1", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size with a NUL", "§7.1", b"5\0\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF after a chunk size", "§2.2", b"5\nhello\r\n0\r\n\r\n"),
    ("a bare CR after a chunk size", "§2.2", b"5\rhello\r\n0\r\n\r\n"),
    ("a bare LF after a chunk", "§2.2", b"5\r\nhello\n0\r\n\r\n"),
    ("a chunk longer than its size", "§7.1", b"4\r\nhello\r\n0\r\n\r\n"),
    ("a chunk shorter than its size", "§7.1", b"6\r\nhello\r\n0\r\n\r\n"),
    ("an extension without a name", "§7.1.1", b"5;\r\nhello\r\n0\r\n\r\n"),
    ("an extension with an open quote", "§7.1.1", b"5;a=\"b\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF in an extension", "§7.1.1", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("a bare CR in an extension", "§7.1.1", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("a NUL in an extension", "§7.1.1", b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
    ("a control character in an extension", "§7.1.1", b"5;a=\"\x01\"\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF after the last chunk's size", "§2.2", b"5\r\nhello\r\n0\n\r\n"),
    ("a bare LF at the body's end", "§2.2", b"5\r\nhello\r\n0\r\n\n"),
];

pub(super) const TRAILERS: &[Case] = &[
    ("a folded trailer", "§7.1.2", b"0\r\nX: y\r\n z\r\n\r\n"),
    ("a space before a trailer's colon", "§7.1.2", b"0\r\nX : y\r\n\r\n"),
    ("a trailer without a colon", "§7.1.2", b"0\r\nnonsense\r\n\r\n"),
    ("a bare LF after a trailer", "§2.2", b"0\r\nX: y\nZ: 1\r\n\r\n"),
    ("a NUL in a trailer", "§7.1.2", b"0\r\nX: y\0\r\n\r\n"),
    ("a bare CR in a trailer", "§2.2", b"0\r\nX: y\rz\r\n\r\n"),
];
