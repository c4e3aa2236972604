# One build for all services, one small image a service:
#
#   docker compose build                              all of the platform
#   docker build --target state-manager .             one of them
#   docker build --target agentrunner .               the command line
#
# The build's stages share their layers and caches, so that every service costs one compilation together, and a change of a
# source file compiles only what depends on it. docs/compose.md tells how images are tagged.

# Both can be pinned by digest: --build-arg RUST_IMAGE=rust@sha256:…
ARG RUST_IMAGE=rust:1.95-slim-trixie
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot

FROM ${RUST_IMAGE} AS toolchain
# Writes the list of crates into each program, so that a scanner of images finds what is in them (an embedded SBOM).
ARG CARGO_AUDITABLE_VERSION=0.7.7
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo install cargo-auditable --version "${CARGO_AUDITABLE_VERSION}" --locked

FROM toolchain AS sources
WORKDIR /src
ENV CARGO_INCREMENTAL=0 CARGO_NET_RETRY=5
COPY Cargo.toml Cargo.lock ./
COPY migrations migrations
COPY crates crates
COPY services services

# All services in one command: what they share is compiled once. The model that runs in its own process stays out: it is large, slow to
# build, and not what a platform runs.
FROM sources AS build
ARG FEATURES=state-manager/program,config-service/program,agent-orchestrator/program,agent-pool/program,agent-pool/bedrock
# More jobs than the memory allows for (about 2 GiB each) end in a killed compiler; empty: one a core.
ARG CARGO_BUILD_JOBS=
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    if [ -z "${CARGO_BUILD_JOBS}" ]; then unset CARGO_BUILD_JOBS; fi \
    && cargo auditable build --release --locked \
        -p state-manager -p config-service -p agent-orchestrator -p agent-pool \
        --no-default-features --features "${FEATURES}" \
    && install -D -t /out/bin target/release/state-manager target/release/config-service \
        target/release/agent-orchestrator target/release/agent-pool \
    && install -d /out/data/blobs /out/data/tool-tokens \
    && find /out -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

# The command line brings neither the store's backends nor the model that runs in its own process.
FROM sources AS build-command-line
ARG CARGO_BUILD_JOBS=
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    if [ -z "${CARGO_BUILD_JOBS}" ]; then unset CARGO_BUILD_JOBS; fi \
    && cargo auditable build --release --locked -p agentrunner --no-default-features --features bedrock \
    && install -D -t /out/bin target/release/agentrunner \
    && find /out -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

# What all images have: libc, certificates, time zones, no shell and no package manager.
FROM ${RUNTIME_IMAGE} AS runtime
ARG VERSION=0.1.0-dev
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="AgentRunner" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The folder that `config/…` is looked for in.
WORKDIR /app
USER 10001:10001

FROM runtime AS state-manager
LABEL org.opencontainers.image.title="state-manager" \
      org.opencontainers.image.description="The one door to the record in PostgreSQL"
COPY --from=build /out/bin/state-manager /usr/local/bin/state-manager
EXPOSE 8001
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s --retries=3 CMD ["/usr/local/bin/state-manager", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/state-manager"]

FROM runtime AS config-service
LABEL org.opencontainers.image.title="config-service" \
      org.opencontainers.image.description="Publishes agents' files as immutable versions"
COPY --from=build /out/bin/config-service /usr/local/bin/config-service
EXPOSE 8002
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s --retries=3 CMD ["/usr/local/bin/config-service", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/config-service"]

FROM runtime AS agent-orchestrator
LABEL org.opencontainers.image.title="agent-orchestrator" \
      org.opencontainers.image.description="The front door: tasks come in by REST and are watched until they end"
COPY --from=build /out/bin/agent-orchestrator /usr/local/bin/agent-orchestrator
# An empty volume takes its owner from here.
COPY --from=build --chown=10001:10001 /out/data /var/lib/agentrunner
EXPOSE 8003
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s --retries=3 CMD ["/usr/local/bin/agent-orchestrator", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/agent-orchestrator"]

FROM runtime AS agent-pool
LABEL org.opencontainers.image.title="agent-pool" \
      org.opencontainers.image.description="Workers that claim ready tasks and run the agent loop"
COPY --from=build /out/bin/agent-pool /usr/local/bin/agent-pool
COPY --from=build --chown=10001:10001 /out/data /var/lib/agentrunner
EXPOSE 8011
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s --retries=3 CMD ["/usr/local/bin/agent-pool", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/agent-pool"]

FROM runtime AS agentrunner
LABEL org.opencontainers.image.title="agentrunner" \
      org.opencontainers.image.description="The command line"
COPY --from=build-command-line /out/bin/agentrunner /usr/local/bin/agentrunner
HEALTHCHECK NONE
ENTRYPOINT ["/usr/local/bin/agentrunner"]
