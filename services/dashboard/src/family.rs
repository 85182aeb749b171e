//! Names that lead to addresses of both families, IPv4 and IPv6, where only one leads anywhere.
//!
//! A name may have an AAAA record where nothing listens on IPv6, or an A record where no route leads.
//! By themselves such addresses look like proxies that are away for good, and each change would say so.
//! So those of a family of which none has ever answered are left out, as long as the other family of the
//! same name has answered. They are asked all the same: the first answer brings them in, and a proxy
//! that has answered once stays, whatever becomes of it.

use std::collections::BTreeSet;

use url::Host;

use crate::resolve::Endpoint;

/// Which families of which names have ever answered.
#[derive(Default)]
pub(crate) struct Families {
    answered: BTreeSet<Family>,
    /// Those that the log tells are left out.
    told: BTreeSet<Family>,
}

/// The addresses of one kind behind a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Family {
    /// With the port.
    name: String,
    is_v6: bool,
}

impl Families {
    /// Notes that somebody answered there.
    pub(crate) fn answered(&mut self, endpoint: &Endpoint) {
        if let Some(family) = Family::of(endpoint) {
            self.answered.insert(family);
        }
    }

    /// The places among those `found` that are left out.
    pub(crate) fn left_out(&mut self, found: &[Endpoint]) -> BTreeSet<String> {
        let there: BTreeSet<Family> = found.iter().filter_map(Family::of).collect();
        let has_answered = |family: &Family| self.answered.contains(family);
        let is_left_out = |family: &Family| {
            let other = family.other();
            !has_answered(family) && has_answered(&other) && there.contains(&other)
        };
        let silent: BTreeSet<&Family> = there.iter().filter(|one| is_left_out(one)).collect();
        for family in &silent {
            if self.told.insert((*family).clone()) {
                tracing::warn!(
                    name = %family.name,
                    "no {} address of it has ever answered, but {} ones have: those that have not \
                     are left out until one does",
                    family.kind(),
                    family.other().kind()
                );
            }
        }
        let is_silent = |one: &&Endpoint| Family::of(one).is_some_and(|own| silent.contains(&own));
        found.iter().filter(is_silent).map(|one| one.url.to_string()).collect()
    }
}

impl Family {
    /// Nothing of a place that was not found by a name: whoever wrote it means it.
    fn of(endpoint: &Endpoint) -> Option<Self> {
        let is_v6 = match endpoint.url.host()? {
            Host::Ipv4(_) => false,
            Host::Ipv6(_) => true,
            Host::Domain(_) => return None,
        };
        Some(Self { name: endpoint.host.clone()?, is_v6 })
    }

    fn other(&self) -> Self {
        Self { name: self.name.clone(), is_v6: !self.is_v6 }
    }

    fn kind(&self) -> &'static str {
        if self.is_v6 { "IPv6" } else { "IPv4" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(name: Option<&str>, hosts: &[&str]) -> Vec<Endpoint> {
        let place = |host: &&str| Endpoint {
            url: format!("http://{host}:9901").parse().unwrap(),
            host: name.map(str::to_owned),
        };
        hosts.iter().map(place).collect()
    }

    fn left_out(families: &mut Families, found: &[Endpoint]) -> Vec<String> {
        families.left_out(found).into_iter().collect()
    }

    #[test]
    fn addresses_of_a_family_that_never_answered_are_left_out_once_the_other_one_has() {
        let mut families = Families::default();
        let found = places(Some("proxy:9901"), &["10.0.0.1", "10.0.0.2", "[fd00::1]", "[fd00::2]"]);
        assert!(left_out(&mut families, &found).is_empty(), "nobody has answered yet");
        families.answered(&found[0]);
        let silent = ["http://[fd00::1]:9901/", "http://[fd00::2]:9901/"];
        assert_eq!(left_out(&mut families, &found), silent);
        assert!(left_out(&mut families, &found[2..]).is_empty(), "somebody must be shown");
        families.answered(&found[3]);
        assert!(left_out(&mut families, &found).is_empty(), "the family leads somewhere");
    }

    #[test]
    fn one_that_is_away_is_shown_where_its_family_has_answered_or_it_was_named_itself() {
        let mut families = Families::default();
        let found = places(Some("proxy:9901"), &["10.0.0.1", "10.0.0.2"]);
        families.answered(&found[0]);
        assert!(left_out(&mut families, &found).is_empty());
        let listed = places(None, &["10.0.0.1", "[fd00::1]"]);
        families.answered(&listed[0]);
        assert!(left_out(&mut families, &listed).is_empty());
        // Two names, of which each is by itself.
        let both = [&found[..], &places(Some("other:9901"), &["[fd00::1]"])].concat();
        assert!(left_out(&mut families, &both).is_empty());
    }
}
