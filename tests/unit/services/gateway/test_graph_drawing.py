"""The drawing of an audit's graph."""

from __future__ import annotations

from itertools import combinations

from services.gateway.console.graph_drawing import NODE_HEIGHT, NODE_WIDTH, draw_graph
from shared.jobs.audit_graph import AuditGraph, GroupKey, JobGroup


def make_graph(*edges: tuple[str, str], counts: dict[str, int] | None = None) -> AuditGraph:
    """Groups named by their stage."""
    keys: dict[GroupKey, None] = dict.fromkeys((name, None) for edge in edges for name in edge)
    return AuditGraph(
        tuple(JobGroup(*key, counts or {"queued": 1}) for key in keys),
        frozenset(((a, None), (b, None)) for a, b in edges),
    )


def test_what_is_made_of_something_stands_right_of_it() -> None:
    drawing = draw_graph(make_graph(("a", "b"), ("b", "d"), ("a", "c"), ("c", "d"), ("a", "d")))
    x = {node.group.stage: node.x for node in drawing.nodes}
    assert x["a"] < x["b"] == x["c"] < x["d"]
    assert {n.group.stage: [s for s, _ in n.sources] for n in drawing.nodes}["d"] == ["a", "b", "c"]


def test_a_line_that_a_longer_way_shows_is_left_out() -> None:
    assert len(draw_graph(make_graph(("a", "b"), ("b", "c"), ("a", "c"))).lines) == 2


def test_nodes_do_not_overlap_and_stay_within_the_drawing() -> None:
    wide = [(f"a{i}", f"b{j}") for i in range(5) for j in range(9)]
    drawing = draw_graph(make_graph(*wide, ("b0", "c")))
    assert len(drawing.nodes) == 15
    for one, other in combinations(drawing.nodes, 2):
        assert abs(one.x - other.x) >= NODE_WIDTH or abs(one.y - other.y) >= NODE_HEIGHT
    assert max(node.x for node in drawing.nodes) + NODE_WIDTH <= drawing.width
    assert max(node.y for node in drawing.nodes) + NODE_HEIGHT <= drawing.height
    assert min(node.y for node in drawing.nodes) >= 0


def test_groups_that_take_from_each_other_are_drawn_all_the_same() -> None:
    drawing = draw_graph(make_graph(("a", "b"), ("b", "a"), ("b", "c")))
    assert sorted(node.group.stage for node in drawing.nodes) == ["a", "b", "c"]
    assert len(drawing.lines) == 2


def test_nodes_are_put_near_those_they_are_linked_with() -> None:
    crossed = make_graph(("r", "a"), ("r", "b"), ("a", "y"), ("b", "x"))
    y = {node.group.stage: node.y for node in draw_graph(crossed).nodes}
    assert (y["a"] < y["b"]) == (y["y"] < y["x"])


def test_a_bar_shows_the_share_of_each_state() -> None:
    counts = {"failed": 1, "succeeded": 3}
    node = draw_graph(make_graph(("a", "b"), counts=counts)).nodes[0]
    assert [piece.state for piece in node.bar] == ["succeeded", "failed"]
    assert node.bar[0].width == 3 * node.bar[1].width
    assert (node.succeeded, node.total) == (3, 4)


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw_graph(AuditGraph((), frozenset())).nodes == ()
