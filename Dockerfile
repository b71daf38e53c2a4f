# Two images: `service` (the last one, the default) and `store`, which docker-compose.yml runs beside
# it. The service holds the server and its models, nothing else: no compiler, no torch, no tests,
# no demo client.

# Valkey as it is, and a folder of its own that a new volume takes its owner from.
FROM valkey/valkey:9 AS store
USER root
RUN install -d -o 10002 -g 10002 -m 0700 /store
WORKDIR /store
USER 10002:10002

# LOCK=serve-otel.lock adds what traces need (docs/observability.md).
FROM python:3.12-slim AS build
ARG LOCK=serve.lock
COPY requirements/${LOCK} /tmp/serve.lock
RUN python -m venv --without-pip /opt/concord \
 && pip --python /opt/concord install --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary :all: -r /tmp/serve.lock

FROM python:3.12-slim AS service
RUN groupadd --gid 10001 concord \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin concord \
 && install -d -o 10001 -g 10001 -m 0700 /data
WORKDIR /app
COPY --from=build /opt/concord /opt/concord
COPY service ./service
COPY models ./models
ENV PATH=/opt/concord/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CONCORD_HOST=0.0.0.0 \
    CONCORD_PORT=8000 \
    CONCORD_DATA_DIR=/data \
    CONCORD_MODELS_DIR=/app/models \
    CONCORD_KEYS_FILE=/data/keys.json \
    ORT_DISABLE_TELEMETRY=1
RUN python -m compileall -q service
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["python", "-c", \
  "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['CONCORD_PORT']), timeout=2); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]
