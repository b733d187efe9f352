# The image of limpet: the command and nothing to run it with. Mount the configuration at /etc/limpet, and publish its ports:
#
#	docker build --build-arg VERSION=v1.2.3 -t limpet .
#	docker run --read-only -v "$PWD/limpet.yaml:/etc/limpet/limpet.yaml:ro" -p 8080:8080 limpet
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG VERSION TARGETOS TARGETARCH
WORKDIR /src
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=true -ldflags="-s -w -X main.release=$VERSION" -o /out/limpet ./cmd/limpet && \
    echo "limpet:x:65532:65532::/:/sbin/nologin" >/out/passwd

FROM scratch
ARG VERSION
LABEL org.opencontainers.image.title="limpet" \
      org.opencontainers.image.description="load balancer that sticks clients to servers" \
      org.opencontainers.image.source="https://github.com/limpetlb/limpet" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /out/limpet /limpet
COPY --from=build /out/passwd /etc/passwd
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 8080 8443
ENTRYPOINT ["/limpet"]
CMD ["serve", "/etc/limpet/limpet.yaml"]
