# The engine that is built in: Python's standard library and the few modules of the engine itself.
# What follows the image's name on the command line goes to the engine: --host, --port.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
COPY harness /opt/ledgerquake/harness
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/ledgerquake
ENV PYTHONPATH=/opt/ledgerquake PYTHONUNBUFFERED=1
USER 65534:65534
ENTRYPOINT ["python3", "-m", "harness.toxiproxy.builtin"]
