# One build, one image for each binary: docker build --target proxy|server|dashboard .
#
# No `# syntax=` line and no feature newer than Docker Engine 20.10: the build then needs nothing
# but the two base images, whose names are arguments so that a mirror needs no edit.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot

# The sources are mounted, not copied: only the binaries enter a layer. The caches keep the
# compiled dependencies, so that a change of our own code builds in seconds. `locked` because two
# cargos must not write one target directory at a time.
FROM ${RUST_IMAGE} AS source
WORKDIR /src
ENV CARGO_TARGET_DIR=/target CARGO_NET_RETRY=5

FROM source AS build
RUN --mount=type=bind,target=/src \
    --mount=type=cache,id=evenkeel-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=evenkeel-target,target=/target,sharing=locked \
    cargo build --release --locked -p evenkeel-proxy -p evenkeel-server -p evenkeel-dashboard \
    && install -D -t /out \
       /target/release/evenkeel-proxy /target/release/evenkeel-server /target/release/evenkeel-dashboard \
    && install -d /empty

# The load generator of the acceptance suites; not shipped, and built in the same cache.
FROM source AS build-load
RUN --mount=type=bind,target=/src \
    --mount=type=cache,id=evenkeel-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=evenkeel-target,target=/target,sharing=locked \
    cargo build --release --locked -p evenkeel-load \
    && install -D -t /out /target/release/evenkeel-load

# What the images share: no shell, no package manager, a numeric user (a kubelet can only check
# runAsNonRoot by number), and labels that say which source an image was made from.
FROM ${RUNTIME_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.vendor="Evenkeel" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
USER 65532:65532

FROM runtime AS load
COPY --from=build-load /out/evenkeel-load /evenkeel-load
LABEL org.opencontainers.image.title="evenkeel-load" \
      org.opencontainers.image.description="Load generator of Evenkeel's acceptance suites; not for production"
USER 65532:65532
ENTRYPOINT ["/evenkeel-load"]

FROM runtime AS server
COPY --from=build /out/evenkeel-server /evenkeel-server
LABEL org.opencontainers.image.title="evenkeel-server" \
      org.opencontainers.image.description="Demo and test backend of the Evenkeel load balancer"
USER 65532:65532
EXPOSE 8081
# The binary asks its own /readyz: the image holds nothing else that could.
HEALTHCHECK --interval=2s --timeout=3s --start-period=10s --retries=3 CMD ["/evenkeel-server", "healthcheck"]
ENTRYPOINT ["/evenkeel-server"]

FROM runtime AS dashboard
COPY --from=build /out/evenkeel-dashboard /evenkeel-dashboard
LABEL org.opencontainers.image.title="evenkeel-dashboard" \
      org.opencontainers.image.description="Live page and controls of the Evenkeel load balancer"
USER 65532:65532
EXPOSE 8090
HEALTHCHECK --interval=2s --timeout=3s --start-period=10s --retries=3 CMD ["/evenkeel-dashboard", "healthcheck"]
ENTRYPOINT ["/evenkeel-dashboard"]

# Last, so that a plain `docker build .` makes the proxy.
FROM runtime AS proxy
COPY --from=build /out/evenkeel-proxy /evenkeel-proxy
# For the audit log: a new volume that is mounted there takes the owner of the folder.
COPY --from=build --chown=65532:65532 /empty /var/lib/evenkeel
LABEL org.opencontainers.image.title="evenkeel-proxy" \
      org.opencontainers.image.description="Lightweight HTTP load balancer for Docker and Kubernetes"
USER 65532:65532
EXPOSE 8080 9901
HEALTHCHECK --interval=2s --timeout=3s --start-period=10s --retries=3 CMD ["/evenkeel-proxy", "healthcheck"]
ENTRYPOINT ["/evenkeel-proxy"]
