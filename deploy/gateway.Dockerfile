# Gateway, reconciler and administration: everything but the workers, without torch.
# BASE: another image with Python 3.11 and pip, for example one that is configured for your package index.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS packages

ENV PYTHONPATH=/app:/opt/packages
WORKDIR /app

COPY requirements/gateway.lock requirements/
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --no-compile \
        --target /opt/packages -r requirements/gateway.lock \
    && rm -rf /opt/packages/bin && find /opt/packages -type d -name tests -prune -exec rm -rf {} +

COPY services services
COPY shared shared
# The console offers them to begin with.
COPY examples/*.yaml examples/
COPY LICENSE ./
ARG VERSION=
RUN if [ -n "${VERSION}" ]; then printf '%s\n' "${VERSION}" > shared/version.txt; fi
# The root file system is read-only at run time: compile now, of the packages what the processes
# import. The rest would be another 25 MB.
RUN python -m compileall -q services shared \
    && python -c "import services.admin, services.gateway.__main__, services.reconciler, services.webhooks.sender, \
granian.server.mp, kombu.transport.redis, psycopg, shared.tracing, sqlalchemy.dialects.postgresql.psycopg"

FROM ${BASE}
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/app:/opt/packages HOME=/tmp
WORKDIR /app

# The same user in both images: they share the volumes, which get their owner from the container that starts first.
RUN useradd --system --uid 10001 --user-group --home-dir /tmp --no-create-home palimpsest \
    && install -d -o palimpsest -g palimpsest /var/lib/palimpsest/artifacts

COPY --from=packages /opt/packages /opt/packages
COPY --from=packages /app /app

ARG VERSION=
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="Palimpsest gateway" \
      org.opencontainers.image.description="Gateway, reconciler and administration of Palimpsest" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "services.gateway", "--host", "0.0.0.0", "--port", "8000"]
