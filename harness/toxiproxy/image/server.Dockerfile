# The real Toxiproxy server: the machine's own `toxiproxy-server`, on a base that has the C library it may need.
# What follows the image's name on the command line goes to the server: -host, -port, -proxy-metrics.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
COPY toxiproxy-server /usr/local/bin/toxiproxy-server
USER 65534:65534
ENTRYPOINT ["/usr/local/bin/toxiproxy-server"]
