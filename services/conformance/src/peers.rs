//! nginx and HAProxy as they come from Debian, configured like ours: kept connections on both sides,
//! no buffering of requests, the same limits of time. For HTTP/2 with prior knowledge each has a port of its
//! own, as its older releases need.

use std::{
    env, fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The target of requests for another protocol, which nginx has to be told of.
pub const SWITCHING: &str = "/switching";

/// How long a peer may take to listen.
const START: Duration = Duration::from_secs(10);

/// Another proxy.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
}

/// A running peer, which ends when it is dropped.
#[derive(Debug)]
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it listens for clients of HTTP/2, who have to know that they can speak it there.
    pub http2: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Kind {
    /// The name of the program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// What it says of its version.
    ///
    /// # Errors
    /// It is not installed.
    pub fn version(self) -> io::Result<String> {
        let output = self.command().arg("-v").output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let is_number =
            |word: &&str| word.contains('.') && word.contains(|c: char| c.is_ascii_digit());
        let word = text.split_whitespace().find(is_number).unwrap_or("of an unknown version");
        let number = word.rsplit('/').next().unwrap_or(word).split('-').next().unwrap_or(word);
        Ok(format!("{} {number}", self.program()))
    }

    /// The newest release where the benchmark has brought it (bench/install), which runs by the C library
    /// that lies beside it, and otherwise the one that is installed.
    fn command(self) -> Command {
        let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        let brought = cache.unwrap_or_default().join("evenkeel/bench/root/usr");
        let program = brought.join("sbin").join(self.program());
        if !program.exists() {
            return Command::new(self.program());
        }
        let libraries = brought.join("lib/x86_64-linux-gnu");
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(libraries).arg(program);
        command
    }

    /// Starts it in front of a backend.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(self, backend: SocketAddr) -> io::Result<Peer> {
        // Free a moment ago; nobody else is likely to take it before the peer does.
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr();
        let (address, http2) = (free()?, free()?);
        let name = format!("evenkeel-conformance-{}-{}", self.program(), std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        let file = folder.join("peer.conf");
        fs::write(&file, self.configuration([address, http2], backend, &folder))?;
        let mut command = self.command();
        match self {
            Self::Nginx => {
                command.arg("-p").arg(&folder).arg("-e").arg(folder.join("log")).arg("-c")
            }
            Self::Haproxy => command.args(["-db", "-f"]),
        };
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut peer = Peer { address, http2, child: command.spawn()?, folder };
        let end = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > end || peer.child.try_wait()?.is_some() {
                return Err(io::Error::other(format!("{} does not start", self.program())));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }

    fn configuration(
        self,
        [address, http2]: [SocketAddr; 2],
        backend: SocketAddr,
        folder: &Path,
    ) -> String {
        let folder = folder.display();
        match self {
            Self::Nginx => format!(
                "daemon off; master_process off; pid {folder}/pid;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream backend {{ server {backend} max_fails=0; keepalive 16; }}
  proxy_http_version 1.1;
  proxy_request_buffering off;
  proxy_connect_timeout 1s; proxy_read_timeout 2s;
  server {{
    listen {address};
    listen {http2} http2;
    location / {{
      proxy_pass http://backend;
      proxy_set_header Host $http_host;
      proxy_set_header Connection \"\";
    }}
    # As its documentation has it for another protocol, which it does not change to by itself.
    location {SWITCHING} {{
      proxy_pass http://backend;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }}
  }}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
}}
"
            ),
            Self::Haproxy => format!(
                "defaults
  mode http
  timeout connect 1s
  timeout client 10s
  timeout server 2s
frontend clients
  bind {address}
  bind {http2} proto h2
  default_backend servers
backend servers
  server one {backend}
"
            ),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself, and what it leaves lies among temporary files.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
