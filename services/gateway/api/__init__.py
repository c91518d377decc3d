"""All routes, one file per resource: look up here which file has a route."""

from services.gateway.api import (
    artifacts,
    audits,
    catalog,
    datasets,
    events,
    health,
    jobs,
    keys,
    metrics,
    models,
    tenants,
    webhooks,
    workers,
)

ROUTES = (
    jobs.routes,  # /v1/jobs
    events.routes,  # /v1/jobs/{id}/events
    audits.routes,  # /v1/audits
    artifacts.routes,  # /v1/artifacts/{sha256}
    models.routes,  # /v1/models/{name}
    datasets.routes,  # /v1/datasets/{name}
    webhooks.routes,  # /v1/webhooks
    catalog.routes,  # /v1/catalog
    keys.routes,  # /v1/keys, /v1/me
    tenants.routes,  # /v1/tenants
    workers.routes,  # /v1/queues, /v1/workers
    metrics.routes,  # /metrics
    health.routes,  # /livez, /readyz
)
