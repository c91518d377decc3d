# Gateway, reconciler and administration: everything but the workers, without torch.
# BASE: another image with Python 3.11 and pip, for example one that is configured for your package index.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/app HOME=/tmp
WORKDIR /app

COPY requirements/gateway.lock requirements/
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore -r requirements/gateway.lock

# The same user in both images: they share the volumes, which get their owner from the container that starts first.
RUN useradd --system --uid 10001 --user-group --home-dir /tmp --no-create-home palimpsest \
    && install -d -o palimpsest -g palimpsest /var/lib/palimpsest/artifacts

COPY services services
COPY shared shared
# The console offers them to begin with.
COPY examples/*.yaml examples/
# The root file system is read-only at run time: compile now.
RUN python -m compileall -q services shared

USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "services.gateway", "--host", "0.0.0.0", "--port", "8000"]
