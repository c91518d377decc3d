"""All routes, one file a resource. Where a route is to be found is read off here."""

from services.gateway.api import artifacts, audits, catalog, events, fleet, health, jobs

ROUTES = (
    jobs.routes,  # /v1/jobs
    events.routes,  # /v1/jobs/{id}/events
    audits.routes,  # /v1/audits
    artifacts.routes,  # /v1/artifacts/{sha256}
    catalog.routes,  # /v1/catalog
    fleet.routes,  # /v1/queues, /v1/workers
    health.routes,  # /livez, /readyz, /
)
