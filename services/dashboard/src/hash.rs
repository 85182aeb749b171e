//! A short stable hash for names: of elements on the page and of versions of files.

/// FNV-1a, 64 bit, in hexadecimal. Stable between runs, unlike the standard library's; not for
/// secrets.
pub(crate) fn hash(parts: &[&str]) -> String {
    // 0xff is in no UTF-8 text: "ab","c" and "a","bc" differ.
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_between_parts_counts() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_eq!(hash(&["a"]), hash(&["a"]));
    }
}
