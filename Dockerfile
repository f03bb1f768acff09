ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS builder
# Wheels only: what a source distribution is built with has no hashes in the lock file.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# What the service needs: a layer of its own, made anew only when the lock file changes.
FROM builder AS dependencies
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
# otel.txt has what makes traces, too.
ARG REQUIREMENTS=app.txt
COPY requirements/${REQUIREMENTS} .
# Debug symbols are most of uvloop, and commands of other packages have no business here. Bytecode
# is compiled so that it stays valid if the time of its source changes on the way into the image.
RUN pip install --no-compile --no-warn-script-location --root /layer \
        --require-hashes --requirement ${REQUIREMENTS} \
    && find /layer -name '*.so' -exec strip --strip-debug {} + \
    && rm -r /layer/usr/local/bin \
    && python -m compileall -q --invalidation-mode unchecked-hash /layer

# The service itself. The build back end comes from a lock file too, so the build needs no network.
FROM builder AS package
COPY requirements/embedded.txt .
RUN pip install --require-hashes --requirement embedded.txt
COPY . .
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && pip install --no-compile --no-warn-script-location --no-index --no-deps --root /layer dist/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash /layer

FROM python:${PYTHON_VERSION}-slim
RUN rm -r /usr/local/bin/pip* /usr/local/lib/python*/ensurepip /usr/local/lib/python*/site-packages/*
COPY --from=dependencies /layer /
# The base image has no bytecode of the standard library, and the service may not write any: here
# these imports do, for just what they use. Without it a pod takes twice as long to start.
RUN python -c "import fastapi, prometheus_client, redis.asyncio, structlog, typer, uvicorn"
COPY --from=package /layer /

# A number, so that Kubernetes sees that it is not root. Nothing depends on this one: any user will
# do, and OpenShift takes one of its own in group 0. Nothing is written but to standard output.
USER 10001:0
ENV PYTHONUNBUFFERED=1
EXPOSE 3000
ENTRYPOINT ["guestbook"]
CMD ["serve"]
# For docker and podman; Kubernetes asks through its own probes.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-Ic", "\
import http.client, os, sys; \
server = http.client.HTTPConnection('127.0.0.1', int(os.getenv('PORT') or 3000), timeout=2); \
server.request('GET', '/healthz'); \
sys.exit(server.getresponse().status != 200)"]

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="guestbook" \
      org.opencontainers.image.description="A live guestbook on a Redis stream" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
