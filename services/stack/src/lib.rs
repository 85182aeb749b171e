//! Everything in one process: proxy, servers and dashboard, as `cargo run` starts them and as the
//! integration tests use them.

mod ports;
mod service;
pub mod settings;

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use chassis::{net, shutdown::Stop};

pub use service::Service;
use settings::Settings;

/// A bundle that is running.
#[derive(Debug)]
pub struct Stack {
    /// The proxy, with its traffic port's address.
    pub proxy: Service,
    /// The proxy's admin port.
    pub admin: SocketAddr,
    /// The servers, in the order of their numbers.
    pub servers: Vec<Service>,
    /// The dashboard.
    pub dashboard: Service,
}

/// The sockets of a bundle.
#[derive(Debug)]
struct Listeners {
    proxy: proxy::Listeners,
    servers: Vec<TcpListener>,
    dashboard: TcpListener,
}

impl Listeners {
    fn bind(settings: &Settings) -> Result<Self, net::BindError> {
        let servers = settings
            .servers
            .iter()
            .map(|server| net::bind("SERVER_PORT", server.bind, server.port))
            .collect::<Result<_, _>>()?;
        let proxy = proxy::Listeners::bind(&settings.proxy)?;
        let dashboard =
            net::bind("DASHBOARD_PORT", settings.dashboard.bind, settings.dashboard.port)?;
        Ok(Self { proxy, servers, dashboard })
    }
}

impl Stack {
    /// Opens all ports, then starts all services, each on threads of its own.
    ///
    /// # Errors
    /// A port that is taken, or a thread that the system refused.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let Listeners { proxy, servers, dashboard } =
            Listeners::bind(&settings).map_err(io::Error::other)?;
        let admin = local_address(&proxy.admin)?;
        let servers = servers
            .into_iter()
            .zip(settings.servers)
            .map(|(listener, settings)| start_server(listener, settings))
            .collect::<io::Result<_>>()?;
        let proxy = start_proxy(proxy, settings.proxy)?;
        let dashboard = start_dashboard(dashboard, settings.dashboard)?;
        Ok(Self { proxy, admin, servers, dashboard })
    }

    /// Whether a service has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut services = self.servers.iter().chain([&self.proxy, &self.dashboard]);
        services.any(Service::has_ended)
    }

    /// Stops the proxy first, so that its last requests still find a server, then the others.
    ///
    /// # Errors
    /// The first error that a service ended with.
    pub fn stop(self, stop: Stop) -> io::Result<()> {
        let result = self.proxy.stop(stop);
        // Nobody sends them anything now; there is nothing to be quiet for.
        let others = self.servers.into_iter().chain([self.dashboard]);
        others.map(|service| service.stop(Stop::Prompt)).fold(result, io::Result::and)
    }
}

/// Starts a server on a socket, as [`Stack::start`] does.
///
/// # Errors
/// The system refused a thread.
pub fn start_server(listener: TcpListener, settings: server::Settings) -> io::Result<Service> {
    Service::start_async("server", listener, move |listener, shutdown| {
        server::run(listener, settings, shutdown)
    })
}

/// Starts a proxy on its sockets, as [`Stack::start`] does.
///
/// # Errors
/// The system refused a thread.
pub fn start_proxy(
    listeners: proxy::Listeners,
    settings: proxy::settings::Settings,
) -> io::Result<Service> {
    let address = local_address(&listeners.traffic)?;
    Service::start("proxy", address, move |shutdown| proxy::run(listeners, settings, shutdown))
}

/// Starts a dashboard on a socket, as [`Stack::start`] does.
///
/// # Errors
/// The system refused a thread.
pub fn start_dashboard(
    listener: TcpListener,
    settings: dashboard::Settings,
) -> io::Result<Service> {
    Service::start_async("dashboard", listener, move |listener, shutdown| {
        dashboard::run(listener, settings, shutdown)
    })
}

/// Where this machine reaches a socket that may listen on all addresses.
///
/// # Errors
/// The system does not tell.
pub fn local_address(listener: &TcpListener) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    Ok(net::reachable(address.ip(), address.port()))
}
