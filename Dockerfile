# syntax=docker/dockerfile:1
# A static-enough binary on an image without a shell. Pin both images by digest where you build.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --release --locked && strip target/release/marrowflag && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/marrowflag /usr/bin/marrowflag
COPY --from=build --chown=65532:65532 /data /data
USER 65532
VOLUME /data
EXPOSE 8080
ENV MARROWFLAG_DATABASE=sqlite:/data/marrowflag.db
# Listens inside the container's own network only; publish it through a gateway that asks who calls,
# and then set MARROWFLAG_LISTEN=0.0.0.0:8080 and MARROWFLAG_INSECURE=true.
ENTRYPOINT ["/usr/bin/marrowflag"]
CMD ["serve"]
