# A worker of any stage: give it `--stages`. torch brings NVIDIA's libraries, so the same image runs on GPUs.
# BASE: another image with Python 3.11 and pip, for example one that is configured for your package index or has torch.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/app HOME=/tmp
WORKDIR /app

COPY requirements/worker.lock requirements/
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore -r requirements/worker.lock

# The same user in both images: they share the volumes, which get their owner from the container that starts first.
RUN useradd --system --uid 10001 --user-group --home-dir /tmp --no-create-home palimpsest \
    && install -d -o palimpsest -g palimpsest /var/lib/palimpsest/artifacts /var/lib/palimpsest/data

COPY shared shared
COPY workers workers
# The root file system is read-only at run time: compile now.
RUN python -m compileall -q shared workers

USER 10001:10001
ENTRYPOINT ["python", "-m", "workers"]
