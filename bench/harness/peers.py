"""How each proxy is started: kept-alive connections on both sides, round robin, no access log,
X-Forwarded-For, a TCP probe of each backend every two seconds where it has one, buffers that suit the
bodies of the rows where they can be set, and beside that what is on by default."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from .workloads import OVERLOAD_IN_FLIGHT


@dataclass
class Setting:
    """What a proxy is started with."""

    folder: Path  # of the installed programs
    work: Path  # an empty one, for configuration and sockets
    port: int
    backends: list[int]
    workers: int


@dataclass
class Peer:
    name: str
    command: Callable[[Setting], list[str]]
    version: Callable[[Path], str]
    environment: Callable[[Setting], dict] = lambda setting: {}
    has_http2: bool = True


def debian(folder: Path, program: str) -> list[str]:
    """A program of a newer Debian, run by its own C library."""
    libraries = folder / "root/usr/lib/x86_64-linux-gnu"
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries),
            str(folder / "root/usr/sbin" / program)]


def written(setting: Setting, name: str, text: str) -> str:
    path = setting.work / name
    path.write_text(text)
    return str(path)


def first_version(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", result.stdout + result.stderr)
    return found.group(0) if found else "?"


def evenkeel(binary: Path | None = None, *options: str, bind: str = "127.0.0.1"):
    def command(setting: Setting) -> list[str]:
        backends = ",".join(f"http://127.0.0.1:{port}" for port in setting.backends)
        return [str(binary or setting.folder / "bin/evenkeel-proxy"),
                "--bind", bind, "--port", str(setting.port),
                "--admin-bind", "127.0.0.1", "--admin-port", str(setting.port + 1),
                "--workers", str(setting.workers), "--backends", backends, *options]
    return command


# Idle connections to each backend, as many as ours keeps. nginx has one number for all backends, which
# has to leave it descriptors for its clients.
KEPT_PER_BACKEND, KEPT_MOST = 512, 5_000

# How much of a body nginx and HAProxy read at once: one of 16 KiB whole, and of one of 1 MiB what ours reads
# by itself. With what they have by default either makes some 190 system calls for a response of 1 MiB,
# where ours makes 14; and HAProxy makes eight for a POST of 16 KiB, where four will do.
BODY_KIB, LARGE_BODY_KIB = 32, 512


def nginx(setting: Setting) -> list[str]:
    servers = "\n".join(f"    server 127.0.0.1:{port};" for port in setting.backends)
    config = written(setting, "nginx.conf", f"""
daemon off;
user root;
worker_processes {setting.workers};
pid {setting.work}/nginx.pid;
error_log {setting.work}/error.log error;
events {{ worker_connections 15000; }}
http {{
  access_log off;
  client_body_temp_path {setting.work}/client;
  proxy_temp_path {setting.work}/proxy;
  fastcgi_temp_path {setting.work}/fastcgi;
  uwsgi_temp_path {setting.work}/uwsgi;
  scgi_temp_path {setting.work}/scgi;
  keepalive_requests 1000000000;
  upstream backends {{
    zone backends 4m;
{servers}
    keepalive {min(KEPT_PER_BACKEND * len(setting.backends), KEPT_MOST)};
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{setting.port} backlog=4096;
    http2 on;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    client_body_buffer_size {BODY_KIB}k;
    location / {{
      proxy_pass http://backends;
    }}
    # Passed on as they come. The last two are not used then, but have to fit the first.
    location /bytes/ {{
      proxy_pass http://backends;
      proxy_buffering off;
      proxy_buffer_size {LARGE_BODY_KIB}k;
      proxy_buffers 4 {LARGE_BODY_KIB}k;
      proxy_busy_buffers_size {2 * LARGE_BODY_KIB}k;
    }}
  }}
}}
""")
    return [*debian(setting.folder, "nginx"), "-c", config, "-e", f"{setting.work}/error.log"]


def haproxy(server_options: str = "", rule: str = ""):
    def command(setting: Setting) -> list[str]:
        return haproxy_command(setting, server_options, rule)
    return command


def haproxy_command(setting: Setting, server_options: str, rule: str) -> list[str]:
    servers = "\n".join(f"  server s{at} 127.0.0.1:{port} check inter 2s{server_options}"
                        for at, port in enumerate(setting.backends))
    # For each connection that it may get it wants two descriptors, and would refuse to start; an idle one
    # takes only one. What goes on and on is spliced from socket to socket; small messages never are.
    config = written(setting, "haproxy.cfg", f"""
global
  nbthread {setting.workers}
  maxconn 15000
  no strict-limits
  tune.bufsize {BODY_KIB * 1024}
  tune.pipesize {LARGE_BODY_KIB * 1024}
defaults
  mode http
  timeout connect 1s
  timeout client 75s
  timeout server 60s
  timeout queue 1s
  timeout http-request 10s
  timeout http-keep-alive 75s
  option forwardfor
  option splice-auto
frontend traffic
  bind 127.0.0.1:{setting.port}
  {rule}
  default_backend backends
backend backends
  balance roundrobin
  http-reuse always
{servers}
""")
    return [*debian(setting.folder, "haproxy"), "-f", config]


def envoy(setting: Setting) -> list[str]:
    endpoints = "\n".join(
        "        - endpoint: {address: {socket_address: "
        f"{{address: 127.0.0.1, port_value: {port}}}}}}}" for port in setting.backends)
    config = written(setting, "envoy.yaml", f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {setting.port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: traffic
          codec_type: AUTO
          use_remote_address: true
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: backends}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: backends
    type: STATIC
    connect_timeout: 1s
    lb_policy: ROUND_ROBIN
    circuit_breakers: {{thresholds: [{{max_connections: 30000, max_requests: 30000, max_pending_requests: 30000}}]}}
    health_checks:
    - {{timeout: 1s, interval: 2s, unhealthy_threshold: 3, healthy_threshold: 1, tcp_health_check: {{}}}}
    load_assignment:
      cluster_name: backends
      endpoints:
      - lb_endpoints:
{endpoints}
""")
    return [str(setting.folder / "python/bin/envoy"), "--config-path", config, "--concurrency", str(setting.workers),
            "--log-level", "error", "--disable-hot-restart"]


def caddy(setting: Setting) -> list[str]:
    servers = " ".join(f"127.0.0.1:{port}" for port in setting.backends)
    config = written(setting, "Caddyfile", f"""
{{
  admin off
  auto_https off
  persist_config off
  log {{
    level ERROR
  }}
  servers {{
    protocols h1 h2c
  }}
}}
http://127.0.0.1:{setting.port}, http://localhost:{setting.port} {{
  reverse_proxy {servers} {{
    lb_policy round_robin
    transport http {{
      keepalive_idle_conns_per_host {KEPT_PER_BACKEND}
      compression off
    }}
  }}
}}
""")
    return [str(setting.folder / "python/bin/caddy"), "run", "--adapter", "caddyfile", "--config", config]


def go_environment(setting: Setting) -> dict:
    home = str(setting.work)
    return {"GOMAXPROCS": str(setting.workers), "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}


def go_httputil(setting: Setting) -> list[str]:
    return [str(setting.folder / "bin/go-httputil"), str(setting.port), *map(str, setting.backends)]


def pingora(setting: Setting) -> list[str]:
    return [str(setting.folder / "bin/bench-pingora"), str(setting.workers), str(setting.port),
            *map(str, setting.backends)]


def traefik(strategy: str):
    def command(setting: Setting) -> list[str]:
        servers = "\n".join(f"        - url: http://127.0.0.1:{port}" for port in setting.backends)
        services = written(setting, "services.yaml", f"""
http:
  routers:
    all: {{rule: "PathPrefix(`/`)", service: backends, entryPoints: [traffic]}}
  services:
    backends:
      loadBalancer:
        strategy: {strategy}
        servers:
{servers}
""")
        config = written(setting, "traefik.yaml", f"""
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
entryPoints:
  traffic: {{address: "127.0.0.1:{setting.port}"}}
providers:
  file: {{filename: {services}}}
""")
        return [str(setting.folder / "python/bin/traefik"), f"--configFile={config}"]
    return command


def traefik_version(folder: Path) -> str:
    return first_version([str(folder / "python/bin/traefik"), "version"])


def crate_version(lock: Path, crate: str) -> str:
    found = re.search(rf'name = "{crate}"\nversion = "([^"]+)"', lock.read_text())
    return found.group(1) if found else "?"


HERE = Path(__file__).resolve().parent.parent

PEERS = [
    Peer("Evenkeel", evenkeel(), lambda folder: first_version([str(folder / "bin/evenkeel-proxy"), "--version"])),
    Peer("nginx", nginx, lambda folder: first_version([*debian(folder, "nginx"), "-v"])),
    Peer("HAProxy", haproxy(), lambda folder: first_version([*debian(folder, "haproxy"), "-v"])),
    Peer("Envoy", envoy, lambda folder: first_version([str(folder / "python/bin/envoy"), "--version"])),
    Peer("Pingora", pingora, lambda folder: crate_version(HERE / "peers/pingora/Cargo.lock", "pingora"),
         has_http2=False),
    Peer("Caddy", caddy, lambda folder: first_version([str(folder / "python/bin/caddy"), "version"]), go_environment),
    Peer("Go httputil", go_httputil, lambda folder: first_version([str(folder / "python/bin/go"), "version"]),
         go_environment, has_http2=False),
]


# Only where faults are shown: it is no peer in the tables of what a request costs.
TRAEFIK = Peer("Traefik", traefik("wrr"), traefik_version, go_environment)

BY_LATENCY_OPTIONS = ["--policy", "least_time"]
BY_LATENCY = Peer("Evenkeel least_time", evenkeel(None, *BY_LATENCY_OPTIONS), PEERS[0].version)
TRAEFIK_BY_LATENCY = Peer("Traefik leasttime", traefik("leasttime"), traefik_version, go_environment)


# With as many requests at each backend as the row of overload has, and a line of 256 in all. HAProxy's
# `maxqueue` is for those who wait for one server; who waits for any has no limit but what a rule says.
LIMITED = [
    Peer("Evenkeel", evenkeel(None, "--max-in-flight", str(OVERLOAD_IN_FLIGHT)), PEERS[0].version),
    Peer("HAProxy", haproxy(f" maxconn {OVERLOAD_IN_FLIGHT}",
                            "http-request return status 503 if { queue(backends) ge 256 }"), PEERS[2].version),
]

# Not peers of each other, but ours under each policy.
POLICIES = [
    *(Peer(name, evenkeel(None, "--policy", name), PEERS[0].version) for name in
      ("first", "random", "round_robin", "least_request", "p2c", "least_time", "hash")),
    Peer("hash by a header", evenkeel(None, "--policy", "hash", "--hash-key", "header:user-agent"), PEERS[0].version),
]


# By the share of requests of which it is recorded why they went where they did; the second is usual.
DECISIONS = [Peer(share, evenkeel(None, "--decisions", share), PEERS[0].version) for share in ("0%", "1%", "100%")]


def ours(name: str, binary: Path, *options: str) -> Peer:
    """Another build of ours, to compare it with."""
    return Peer(name, evenkeel(binary, *options), lambda folder: first_version([str(binary), "--version"]))


def environment(peer: Peer, setting: Setting) -> dict:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, **peer.environment(setting)}
