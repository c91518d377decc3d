"""Tells Kubernetes which workers run a job, so that scaling down removes idle ones first.

The only process that uses the Kubernetes API: `python -m services.pod_costs`.
"""
