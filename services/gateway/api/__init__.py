"""All routes, one file per resource: look up here which file has a route."""

from services.gateway.api import artifacts, audits, catalog, events, health, jobs, workers

ROUTES = (
    jobs.routes,  # /v1/jobs
    events.routes,  # /v1/jobs/{id}/events
    audits.routes,  # /v1/audits
    artifacts.routes,  # /v1/artifacts/{sha256}
    catalog.routes,  # /v1/catalog
    workers.routes,  # /v1/queues, /v1/workers
    health.routes,  # /livez, /readyz, /
)
