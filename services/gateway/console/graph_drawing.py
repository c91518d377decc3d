"""The graph of an audit as a drawing in columns: what is made first stands left.

A node is a stage with a method, not a job, so ten thousand jobs are as easy to read as ten.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shared.jobs.audit_graph import AuditGraph, GroupKey, JobGroup
from shared.jobs.states import State

NODE_WIDTH, NODE_HEIGHT = 150, 62  # in units of the drawing, which are pixels at full size
COLUMN_GAP, ROW_GAP, MARGIN = 44, 16, 4
SWEEPS = 4  # over the columns, to put nodes near those they are linked with
# of a node's bar, in the order of its pieces
BAR_STATES = ("succeeded", "running", "queued", "waiting", "paused", "cancelled", "failed")

Edge = tuple[GroupKey, GroupKey]


@dataclass(frozen=True)
class BarPiece:
    """A piece of a node's bar: from `x`, `width` wide."""

    state: str
    x: float
    width: float


@dataclass(frozen=True)
class Node:
    """A group of jobs with its place: the upper left corner.

    sources: the groups that it takes artifacts from, all of them.
    """

    group: JobGroup
    x: float
    y: float
    sources: tuple[GroupKey, ...]
    bar: tuple[BarPiece, ...]

    @property
    def name(self) -> str:
        """What the group does: its method; that of a stage that does nothing is called after it."""
        group = self.group
        return f"{group.stage}: none" if group.method == "none" else group.method or group.stage

    @property
    def total(self) -> int:
        return sum(self.group.counts.values())

    @property
    def succeeded(self) -> int:
        return self.group.counts.get(State.SUCCEEDED, 0)


@dataclass(frozen=True)
class Drawing:
    """Nodes from left to right and from top to bottom, and the lines between them as SVG paths.

    A line that a longer way shows too is left out.
    """

    nodes: tuple[Node, ...]
    lines: tuple[str, ...]
    width: float
    height: float


def draw_graph(graph: AuditGraph) -> Drawing:
    """Place the nodes of an audit."""
    groups = {group.key: group for group in graph.groups}
    edges = _drop_cycles(groups, graph.edges)
    columns = _order_columns(_assign_columns(groups, edges), edges)
    tallest = max((len(column) for column in columns), default=0)
    height = tallest * (NODE_HEIGHT + ROW_GAP) - ROW_GAP
    places: dict[GroupKey, tuple[float, float]] = {}
    for i, column in enumerate(columns):
        top = (height - len(column) * (NODE_HEIGHT + ROW_GAP) + ROW_GAP) / 2
        for j, key in enumerate(column):
            places[key] = (
                MARGIN + i * (NODE_WIDTH + COLUMN_GAP),
                MARGIN + top + j * (NODE_HEIGHT + ROW_GAP),
            )
    sources: dict[GroupKey, set[GroupKey]] = defaultdict(set)
    for source, target in graph.edges:
        sources[target].add(source)
    nodes = tuple(
        Node(
            groups[key], *place, tuple(sorted(sources[key], key=_sort_key)), _draw_bar(groups[key])
        )
        for key, place in places.items()
    )
    shown = sorted(_reduce(edges), key=lambda edge: (_sort_key(edge[0]), _sort_key(edge[1])))
    lines = tuple(_draw_line(places[a], places[b]) for a, b in shown)
    width = len(columns) * (NODE_WIDTH + COLUMN_GAP) - COLUMN_GAP
    return Drawing(nodes, lines, max(width, 0) + 2 * MARGIN, max(height, 0) + 2 * MARGIN)


def _sort_key(key: GroupKey) -> tuple[str, str]:
    return key[0], key[1] or ""


def _drop_cycles(groups: Iterable[GroupKey], edges: Collection[Edge]) -> set[Edge]:
    """The edges without those that lead back: jobs have no cycles, but groups of them can."""
    targets = _map_targets(edges)
    kept: set[Edge] = set()
    done: set[GroupKey] = set()
    for start in sorted(groups, key=_sort_key):
        open_keys: dict[GroupKey, None] = {}  # on the way from the start to here
        pending: list[tuple[GroupKey, bool]] = [(start, False)]
        while pending:
            key, is_left = pending.pop()
            if is_left:
                del open_keys[key]
                done.add(key)
            elif key not in done and key not in open_keys:
                open_keys[key] = None
                pending.append((key, True))
                for target in targets[key]:
                    if target not in open_keys:
                        kept.add((key, target))
                        pending.append((target, False))
    return kept


def _map_targets(edges: Iterable[Edge]) -> Mapping[GroupKey, list[GroupKey]]:
    targets: dict[GroupKey, list[GroupKey]] = defaultdict(list)
    for source, target in sorted(edges, key=lambda e: (_sort_key(e[0]), _sort_key(e[1]))):
        targets[source].append(target)
    return targets


def _assign_columns(groups: Iterable[GroupKey], edges: Collection[Edge]) -> list[list[GroupKey]]:
    """Each group one column right of the last of those that it takes something from."""
    depth = dict.fromkeys(groups, 0)
    for _ in range(len(depth)):
        changed = False
        for source, target in edges:
            if depth[target] <= depth[source]:
                depth[target], changed = depth[source] + 1, True
        if not changed:
            break
    columns: list[list[GroupKey]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for key in sorted(depth, key=_sort_key):
        columns[depth[key]].append(key)
    return columns


def _order_columns(columns: list[list[GroupKey]], edges: Iterable[Edge]) -> list[list[GroupKey]]:
    """Sort each column by the mean place of the neighbours to its left, then to its right, and so
    on: lines then cross less."""
    linked: dict[GroupKey, set[GroupKey]] = defaultdict(set)
    for source, target in edges:
        linked[source].add(target)
        linked[target].add(source)

    def sort_by(column: list[GroupKey], neighbours: Sequence[GroupKey]) -> None:
        places = {key: i / len(neighbours) for i, key in enumerate(neighbours)}
        own = {key: i / len(column) for i, key in enumerate(column)}

        def find_mean(key: GroupKey) -> float:
            near = [places[other] for other in linked[key] if other in places]
            return sum(near) / len(near) if near else own[key]

        column.sort(key=lambda key: (find_mean(key), own[key]))

    for sweep in range(SWEEPS):
        order = columns if sweep % 2 == 0 else columns[::-1]
        for neighbours, column in pairwise(order):
            sort_by(column, neighbours)
    return columns


def _reduce(edges: Collection[Edge]) -> set[Edge]:
    """The edges without those that a longer way stands for."""
    targets = _map_targets(edges)
    beyond: dict[GroupKey, set[GroupKey]] = {}

    def find_beyond(key: GroupKey) -> set[GroupKey]:
        if key not in beyond:
            beyond[key] = set()
            for target in targets[key]:
                beyond[key] |= {target} | find_beyond(target)
        return beyond[key]

    return {
        (source, target)
        for source, target in edges
        if not any(target in find_beyond(other) for other in targets[source] if other != target)
    }


def _draw_bar(group: JobGroup) -> tuple[BarPiece, ...]:
    total = sum(group.counts.values())
    inner, x = NODE_WIDTH - 20.0, 10.0
    pieces = []
    for state in BAR_STATES:
        if n := group.counts.get(state):
            pieces.append(BarPiece(state, round(x, 2), round(inner * n / total, 2)))
            x += inner * n / total
    return tuple(pieces)


def _draw_line(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A curve from the right edge of one node to the left edge of another."""
    x1, y1 = start[0] + NODE_WIDTH, start[1] + NODE_HEIGHT / 2
    x2, y2 = end[0] - 5, end[1] + NODE_HEIGHT / 2  # the head of the arrow comes after
    bend = min((x2 - x1) / 2, COLUMN_GAP)
    return f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
