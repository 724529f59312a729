# The images of `cargo xtask images`, on any machine with Docker and nothing else:
#
#   docker build --target operator  -t clickstream/operator:0.1.0  .
#   docker build --target processor -t clickstream/processor:0.1.0 .
#   docker build --target producer  -t clickstream/producer:0.1.0  .
#   docker build --target console   -t clickstream/console:0.1.0   .
#
# The first takes some ten minutes; the others reuse what it compiled. It needs BuildKit, which Docker has since 23.0.
#
# The tests build their images with `cargo xtask images`, since they run where no registry can be reached; this file takes
# the same steps, but none of them runs it.

# as in rust-toolchain.toml
ARG RUST=1.95
FROM rust:${RUST}-bookworm AS build
WORKDIR /src
COPY . .
# the image's own toolchain, not a second one with formatter and linter
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}
# TLS to Kafka comes from OpenSSL, zlib from its own source; both become part of the static programs
ENV LIBZ_SYS_STATIC=1
# --target is the machine's own: with it the flags do not reach build scripts and macros, which cannot be static
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    host=$(rustc -vV | sed -n 's/^host: //p') && \
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile image --target "$host" \
      --package clickstream-operator --package clickstream-processor --package clickstream-producer --package clickstream-console \
      --features clickstream-operator/tls-vendored,clickstream-processor/tls-vendored,clickstream-producer/tls-vendored && \
    mkdir /out && \
    for service in operator processor producer console; do cp "target/$host/image/clickstream-$service" /out/; done
# the public authorities as this Debian release has them
RUN mkdir -p /root-files/etc/ssl/certs && \
    cp /etc/ssl/certs/ca-certificates.crt /root-files/etc/ssl/certs/ && \
    echo 'hosts: files dns' >/root-files/etc/nsswitch.conf

FROM scratch AS base
COPY --from=build /root-files/etc /etc
LABEL org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532

FROM base AS operator
COPY --from=build /out/clickstream-operator /clickstream-operator
ENTRYPOINT ["/clickstream-operator"]

FROM base AS processor
COPY --from=build /out/clickstream-processor /clickstream-processor
ENTRYPOINT ["/clickstream-processor"]

FROM base AS producer
COPY --from=build /out/clickstream-producer /clickstream-producer
ENTRYPOINT ["/clickstream-producer"]

FROM base AS console
COPY --from=build /out/clickstream-console /clickstream-console
ENTRYPOINT ["/clickstream-console"]
