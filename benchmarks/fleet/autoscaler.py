"""How many workers KEDA and the horizontal pod autoscaler (HPA) ask for.

KEDA turns a Deployment on and off; from one pod on, the HPA decides. Both as their documentation says:
an average value of an external metric, a tolerance of a tenth, a stabilization window for scaling down,
policies that bound each step.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

HPA_INTERVAL_S = 15.0
TOLERANCE = 0.1
MANIFEST = Path(__file__).parents[2] / "deploy/k8s/components/keda/scaled-objects.yaml"


@dataclass(frozen=True)
class ScalingRule:
    """What a ScaledObject says.

    up_pods, up_percent: the larger of the two bounds what is added within `up_period_s`.
    """

    max_replicas: int
    polling_s: float
    cooldown_s: float
    down_window_s: float
    up_pods: int
    up_percent: int
    up_period_s: float
    jobs_per_worker: float = 1.0


def load_rules(path: Path = MANIFEST) -> dict[str, ScalingRule]:
    """The rules of the manifests, by worker group."""
    documents = YAML(typ="safe").load_all(path.read_text())
    return {
        d["spec"]["scaleTargetRef"]["name"].removeprefix("worker-"): _parse(d) for d in documents
    }


def _parse(document: dict[str, Any]) -> ScalingRule:
    spec = document["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    policies = {policy["type"]: policy for policy in behavior["scaleUp"]["policies"]}
    (trigger,) = spec["triggers"]
    return ScalingRule(
        max_replicas=spec["maxReplicaCount"],
        polling_s=spec["pollingInterval"],
        cooldown_s=spec["cooldownPeriod"],
        down_window_s=behavior["scaleDown"]["stabilizationWindowSeconds"],
        up_pods=policies["Pods"]["value"],
        up_percent=policies["Percent"]["value"],
        up_period_s=policies["Pods"]["periodSeconds"],
        jobs_per_worker=float(trigger["metadata"]["targetQueryValue"]),
    )


class Autoscaler:
    """Of one Deployment, which begins without pods."""

    def __init__(self, rule: ScalingRule) -> None:
        self._rule = rule
        self._active_at_s = -math.inf
        self._recommendations: deque[tuple[float, int]] = deque()
        self._added: deque[tuple[float, int]] = deque()

    def poll(self, now_s: float, n_jobs: int, replicas: int) -> int:
        """KEDA's look, every `polling_s`: the replicas from now on."""
        if n_jobs > 0:
            self._active_at_s = now_s
            return max(1, replicas)
        if now_s - self._active_at_s >= self._rule.cooldown_s:
            self._recommendations.clear()
            return 0
        return replicas

    def sync(self, now_s: float, n_jobs: int, replicas: int) -> int:
        """The HPA's look, every HPA_INTERVAL_S: the replicas from now on."""
        if replicas == 0:
            return 0
        wanted = self._limit_growth(
            now_s, self._stabilize(now_s, self._recommend(n_jobs, replicas)), replicas
        )
        if wanted > replicas:
            self._added.append((now_s, wanted - replicas))
        return wanted

    def _recommend(self, n_jobs: int, replicas: int) -> int:
        usage = n_jobs / (self._rule.jobs_per_worker * replicas)
        if abs(usage - 1) <= TOLERANCE:
            return replicas
        return min(self._rule.max_replicas, max(1, math.ceil(n_jobs / self._rule.jobs_per_worker)))

    def _stabilize(self, now_s: float, recommended: int) -> int:
        """The largest recommendation of the window: it is only lower once all of them are."""
        self._recommendations.append((now_s, recommended))
        while self._recommendations[0][0] < now_s - self._rule.down_window_s:
            self._recommendations.popleft()
        return max(n for _, n in self._recommendations)

    def _limit_growth(self, now_s: float, wanted: int, replicas: int) -> int:
        while self._added and self._added[0][0] <= now_s - self._rule.up_period_s:
            self._added.popleft()
        before = replicas - sum(n for _, n in self._added)
        doubled = math.ceil(before * (1 + self._rule.up_percent / 100))
        return min(wanted, max(replicas, doubled, before + self._rule.up_pods))
