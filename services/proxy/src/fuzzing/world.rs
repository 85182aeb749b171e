//! A real proxy, over loopback, that serves all inputs of a target.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{Listeners, settings::Settings};

/// What the proxy may take for anything; its own limits are a twelfth of it. Next to no input comes to
/// those, so that they can be what a busy machine does not come to either.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A backend of which each connection has a thread, in which it is served so.
pub(super) fn listen<T: 'static>(serve: fn(TcpStream) -> T) -> SocketAddr {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = backend.local_addr().unwrap();
    thread::spawn(move || {
        backend.incoming().for_each(|stream| {
            let stream = stream.unwrap();
            // What is said in pieces would wait for an acknowledgement between them.
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || drop(serve(stream)));
        });
    });
    address
}

/// A proxy, which is never stopped.
pub(super) struct Proxy {
    pub(super) traffic: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    /// One with a backend, which it does not judge, and these settings.
    pub(super) fn start(backend: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let url = format!("http://{backend}");
        let mut variables = vec![
            ("PROXY_BACKENDS", &*url),
            ("PROXY_PROBE", "off"),
            ("PROXY_EJECT", "false"),
            ("PROXY_WORKERS", "1"),
            ("PROXY_LOG", "error"),
            ("PROXY_RESPONSE_TIMEOUT", "5s"),
            ("PROXY_READ_TIMEOUT", "5s"),
        ];
        variables.extend(settings);
        let settings = Settings::from_variables(&variables);
        let any = || chassis::net::bind("FUZZ_PORT", [127, 0, 0, 1].into(), 0).unwrap();
        let listeners = Listeners { traffic: any(), admin: any() };
        let [traffic, admin] =
            [&listeners.traffic, &listeners.admin].map(|socket| socket.local_addr().unwrap());
        let (trigger, shutdown) = chassis::shutdown::channel();
        thread::spawn(move || {
            let result = crate::run(listeners, settings, shutdown);
            drop(trigger);
            panic!("the proxy has ended: {result:?}");
        });
        let proxy = Self { traffic, admin };
        let start = Instant::now();
        while !proxy.get("/readyz").starts_with("HTTP/1.1 200") {
            assert!(start.elapsed() < PATIENCE, "the proxy does not become ready");
            thread::sleep(Duration::from_millis(1));
        }
        proxy
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(super) fn connections(&self) -> u64 {
        self.sum("evenkeel_connections{side=\"client\"")
    }

    pub(super) fn requests(&self) -> u64 {
        self.sum("evenkeel_in_flight{")
    }

    /// Waits until nobody is served any more.
    ///
    /// # Panics
    /// A connection or a request stays.
    pub(super) fn settle(&self) {
        let start = Instant::now();
        while self.connections() + self.requests() > 0 {
            assert!(start.elapsed() < PATIENCE, "a connection or a request stays");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The sum of all series that begin so.
    fn sum(&self, series: &str) -> u64 {
        let metrics = self.get("/metrics");
        let meant = metrics.lines().filter(|line| line.starts_with(series));
        let values = meant.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>() as u64
    }
}
