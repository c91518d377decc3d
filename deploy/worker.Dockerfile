# A worker of any stage: give it `--stages`. torch brings NVIDIA's libraries, so the same image runs on GPUs.
# BASE: another image with Python 3.11 and pip, for example one that is configured for your package index or has torch.
# TORCH_INDEX: an index with other builds of torch, of the versions in the lock: for CPUs only, or for another CUDA.
# No test covers builds from such an index.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/app HOME=/tmp
WORKDIR /app

COPY requirements/worker.lock requirements/
ARG TORCH_INDEX=
# Other builds bring their own libraries: then the lock's, which belong to its build, are left out.
RUN if [ -n "${TORCH_INDEX}" ]; then \
        grep -E '^(torch|torchvision)==' requirements/worker.lock > /tmp/torch.lock \
        && pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
            --index-url "${TORCH_INDEX}" -r /tmp/torch.lock \
        && grep -vE '^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' requirements/worker.lock > /tmp/rest.lock; \
    else cp requirements/worker.lock /tmp/rest.lock; fi \
    && pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore -r /tmp/rest.lock \
    && rm -f /tmp/*.lock

# The same user in both images: they share the volumes, which get their owner from the container that starts first.
RUN useradd --system --uid 10001 --user-group --home-dir /tmp --no-create-home palimpsest \
    && install -d -o palimpsest -g palimpsest /var/lib/palimpsest/artifacts /var/lib/palimpsest/data

COPY shared shared
COPY workers workers
COPY LICENSE ./
ARG VERSION=
ARG REVISION=
ARG SOURCE=
# The root file system is read-only at run time: compile now.
RUN if [ -n "${VERSION}" ]; then printf '%s\n' "${VERSION}" > shared/version.txt; fi \
    && python -m compileall -q shared workers

LABEL org.opencontainers.image.title="Palimpsest worker" \
      org.opencontainers.image.description="A worker of Palimpsest, for any of its stages" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

USER 10001:10001
ENTRYPOINT ["python", "-m", "workers"]
