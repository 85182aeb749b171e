//! Ports that parts of the bundle would take from each other.
//!
//! The variables are read once more, apart from the services' settings: a port that collides is to
//! be told beside whatever else is wrong.

use std::{collections::BTreeMap, net::IpAddr};

use chassis::{
    settings::{self, Mistakes},
    units,
};

/// Where a part listens: a port, or for the servers one after the other.
struct Place {
    /// Whose port it is. A service tells by itself where two of its own collide.
    program: &'static str,
    /// The variable that says so.
    name: &'static str,
    address: IpAddr,
    first: u16,
    last: u16,
}

/// Notes each port that another part has, under the variable of the later one.
pub(crate) fn check(variables: &BTreeMap<String, String>, servers: u32, mistakes: &mut Mistakes) {
    type Proxy = proxy::settings::Settings;
    let places = [
        place::<server::Settings>(variables, "SERVER_PORT", "SERVER_BIND", servers),
        place::<Proxy>(variables, "PROXY_PORT", "PROXY_BIND", 1),
        place::<Proxy>(variables, "PROXY_ADMIN_PORT", "PROXY_ADMIN_BIND", 1),
        place::<dashboard::Settings>(variables, "DASHBOARD_PORT", "DASHBOARD_BIND", 1),
    ];
    let places: Vec<Place> = places.into_iter().flatten().collect();
    for (index, place) in places.iter().enumerate() {
        // One that meets several is told of the first; the others show once that is put right.
        if let Some(other) = places[..index].iter().find(|other| place.meets(other)) {
            let expected = format!("a port other than {}", other.in_words());
            mistakes.note(place.name, &place.first.to_string(), expected);
        }
    }
}

/// `None` if a value cannot be used; the service's own settings tell that.
fn place<S: settings::Settings>(
    variables: &BTreeMap<String, String>,
    port: &'static str,
    address: &str,
    count: u32,
) -> Option<Place> {
    let command = settings::command::<S>();
    let value = |name: &str| {
        let default = || {
            let id = name.to_lowercase();
            let argument =
                command.get_arguments().find(|argument| argument.get_id() == id.as_str())?;
            argument.get_default_values().first()?.to_str().map(str::to_owned)
        };
        variables.get(name).map(|value| value.trim().to_owned()).or_else(default)
    };
    let first = units::port(&value(port)?).ok()?;
    let address = units::address(&value(address)?).ok()?;
    let following = u16::try_from(count.saturating_sub(1)).ok()?;
    Some(Place {
        program: S::PROGRAM,
        name: port,
        address,
        first,
        last: first.checked_add(following)?,
    })
}

impl Place {
    fn meets(&self, other: &Self) -> bool {
        // Of 0 the system makes a port that is free.
        let share_a_port = self.first != 0
            && other.first != 0
            && self.first <= other.last
            && other.first <= self.last;
        let (mine, theirs) = (self.address, other.address);
        let are_two = self.program != other.program;
        are_two
            && share_a_port
            && (mine == theirs || includes(mine, theirs) || includes(theirs, mine))
    }

    fn in_words(&self) -> String {
        if self.first == self.last {
            return format!("{}'s ({})", self.name, self.first);
        }
        format!("{}'s ({} to {}, EVENKEEL_SERVERS of them)", self.name, self.first, self.last)
    }
}

/// Whether listening on `all` takes the port on `one` too. `::` is IPv4 as well.
fn includes(all: IpAddr, one: IpAddr) -> bool {
    all.is_unspecified() && (all.is_ipv6() || one.is_ipv4())
}
