//! How much JSON there is, measured without keeping any of it.
//!
//! What is read into the admin API's form grows: ten bytes that say no more than an id become a
//! backend of more than a thousand, and a `&` five on the page. The bytes that were sent say
//! little about that; how many values, objects and characters they hold does.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What some JSON holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Of any kind, lists and objects among them.
    pub(super) values: usize,
    pub(super) objects: usize,
    /// Bytes of all strings, as they are written on a page.
    pub(super) text: usize,
}

impl Extent {
    const ONE: Self = Self { values: 1, objects: 0, text: 0 };

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            values: self.values + other.values,
            objects: self.objects + other.objects,
            text: self.text + other.text,
        }
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Measure)
    }
}

struct Measure;

impl<'de> Visitor<'de> for Measure {
    type Value = Extent;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Extent, E> {
        Ok(Extent::ONE)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Extent, E> {
        Ok(Extent::ONE)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Extent, E> {
        Ok(Extent::ONE)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Extent, E> {
        Ok(Extent::ONE)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Extent, E> {
        Ok(Extent::ONE)
    }

    fn visit_str<E>(self, text: &str) -> Result<Extent, E> {
        let written = |byte: u8| match byte {
            b'&' | b'<' | b'>' | b'"' => "&quot;".len(),
            _ => 1,
        };
        Ok(Extent { text: text.bytes().map(written).sum(), ..Extent::ONE })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Extent, A::Error> {
        let mut all = Extent::ONE;
        while let Some(one) = list.next_element()? {
            all = all.and(one);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Extent, A::Error> {
        let mut all = Extent { objects: 1, ..Extent::ONE };
        while let Some((_, one)) = object.next_entry::<IgnoredAny, Extent>()? {
            all = all.and(one);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_objects_and_text_are_counted_at_any_depth() {
        let json = r#"{"a": [1, -2, 2.5, null, {"b": "x<"}], "c": {"d": true}}"#;
        let extent: Extent = serde_json::from_str(json).unwrap();
        assert_eq!(extent, Extent { values: 10, objects: 3, text: 7 });
    }
}
