//! What may follow a chunk's size (RFC 9112 §7.1.1). Nobody uses it, and nothing of it is kept, but it is
//! read to the letter: where one reader sees an extension, another one may see the end of a line.

/// How far extensions have come, from the semicolon that begins them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    /// After a backslash within quotes.
    Escaped,
    /// After the quotes.
    Unquoted,
    AfterValue,
}

impl Extension {
    /// What another byte makes of it; none if it may not stand there.
    pub(super) fn after(self, byte: u8) -> Option<Self> {
        use Extension::{
            AfterName, AfterValue, BeforeName, BeforeValue, Escaped, Name, Quoted, Unquoted, Value,
        };
        Some(match (self, byte) {
            (Quoted, b'"') => Unquoted,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            (BeforeName | BeforeValue | AfterName | AfterValue, b' ' | b'\t') => self,
            (Name, b' ' | b'\t') => AfterName,
            (Value | Unquoted, b' ' | b'\t') => AfterValue,
            (Name | AfterName, b'=') => BeforeValue,
            (Name | AfterName | Value | Unquoted | AfterValue, b';') => BeforeName,
            (BeforeValue, b'"') => Quoted,
            (BeforeName | Name, _) if is_token(byte) => Name,
            (BeforeValue | Value, _) if is_token(byte) => Value,
            _ => return None,
        })
    }

    /// Whether the line may end here; with space at its end only if that is not `strict`.
    pub(super) fn may_end(self, is_strict: bool) -> bool {
        match self {
            Self::Name | Self::Value | Self::Unquoted => true,
            Self::AfterName | Self::AfterValue => !is_strict,
            Self::BeforeName | Self::BeforeValue | Self::Quoted | Self::Escaped => false,
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a line may be this, from its semicolon on.
    fn is_valid(text: &str, is_strict: bool) -> bool {
        let mut extension = Some(Extension::BeforeName);
        for byte in text.bytes() {
            extension = extension.and_then(|extension| extension.after(byte));
        }
        extension.is_some_and(|extension| extension.may_end(is_strict))
    }

    #[test]
    fn extensions_have_a_name_and_perhaps_a_value() {
        for text in
            ["a", " a", "a=b", "a = b", "a=\"\"", "a=\"b;c\\\"\u{e9}\"", "a;b", "a=b ; c=\"d\";e"]
        {
            assert!(is_valid(text, true), "{text:?}");
        }
        for text in [
            "",
            " ",
            ";a",
            "a;",
            "a;;b",
            "=b",
            "a=",
            "a==b",
            "a b",
            "a=b c",
            "a=\"b",
            "a=\"b\\\"",
            "a=\"b\"c",
            "\"a\"",
            "\u{e9}",
            "a=\u{e9}",
            "a\0",
            "a=\"\0\"",
            "a=\"\n\"",
            "a,b",
        ] {
            assert!(!is_valid(text, false), "{text:?}");
        }
    }

    #[test]
    fn space_at_the_end_is_taken_from_backends_only() {
        for text in ["a ", "a=b\t", "a=\"b\" "] {
            assert_eq!((is_valid(text, true), is_valid(text, false)), (false, true), "{text:?}");
        }
    }
}
