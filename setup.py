"""What pyproject.toml has no words for: the package `palimpsest` is the folder services/client, and
the gateway brings the example audits along."""

from setuptools import find_namespace_packages, setup

EXAMPLES = "services.gateway.console.examples"
SERVICE = ["services*", "workers*", "shared*", "deploy*"]

setup(
    packages=["palimpsest", EXAMPLES, *find_namespace_packages(include=SERVICE)],
    package_dir={"palimpsest": "services/client", EXAMPLES: "examples"},
)
