"""What pyproject.toml has no words for: the package `palimpsest` is the folder services/client."""

from setuptools import find_namespace_packages, setup

SERVICE = ["services*", "workers*", "shared*", "deploy*"]

setup(
    packages=["palimpsest", *find_namespace_packages(include=SERVICE)],
    package_dir={"palimpsest": "services/client"},
)
