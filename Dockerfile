ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS builder
# Wheels only: the build dependencies of a source distribution are not in the lock file.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# The dependencies are a separate layer, rebuilt only when the lock file changes.
FROM builder AS dependencies
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
# otel.txt adds OpenTelemetry for traces.
ARG REQUIREMENTS=app.txt
COPY requirements/${REQUIREMENTS} .
# Remove debug symbols (most of uvloop's size) and other packages' commands. Bytecode is compiled so
# that it stays valid if the modification time of its source changes on the way into the image.
RUN pip install --no-compile --no-warn-script-location --root /layer \
        --require-hashes --requirement ${REQUIREMENTS} \
    && find /layer -name '*.so' -exec strip --strip-debug {} + \
    && rm -r /layer/usr/local/bin \
    && python -m compileall -q --invalidation-mode unchecked-hash /layer

# The service itself. The build back end is locked too, so this build needs no network.
FROM builder AS package
COPY requirements/embedded.txt .
RUN pip install --require-hashes --requirement embedded.txt
COPY . .
# There is no repository here to take it from. Empty: the release, and "unknown".
ARG VERSION
RUN GUESTBOOK_BUILD_VERSION="${VERSION}" pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && pip install --no-compile --no-warn-script-location --no-index --no-deps --root /layer dist/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash /layer

FROM python:${PYTHON_VERSION}-slim
RUN rm -r /usr/local/bin/pip* /usr/local/lib/python*/ensurepip /usr/local/lib/python*/site-packages/*
COPY --from=dependencies /layer /
# The base image has no bytecode of the standard library, and the service cannot write any at run
# time. These imports write it now for the modules in use; without it a start takes twice as long.
RUN python -c "import fastapi, prometheus_client, redis.asyncio, structlog, typer, uvicorn"
COPY --from=package /layer /

# A number, so that Kubernetes can see that it is not root. Any other user works as well; OpenShift
# uses its own in group 0. The service writes only to standard output and standard error.
USER 10001:0
ENV PYTHONUNBUFFERED=1
EXPOSE 3000
ENTRYPOINT ["guestbook"]
CMD ["serve"]
# For docker and podman; Kubernetes uses its own probes.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-Ic", "\
import http.client, os, sys; \
host, port = os.getenv('HOST', ''), os.getenv('PORT') or '3000'; \
host = '127.0.0.1' if host in ('', '0.0.0.0', '::') else host; \
server = http.client.HTTPConnection(host, int(port), timeout=2); \
server.request('GET', '/healthz'); \
sys.exit(server.getresponse().status != 200)"]

ARG VERSION=0.1.0+unknown
LABEL org.opencontainers.image.title="guestbook" \
      org.opencontainers.image.description="A live guestbook on a Redis stream" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
