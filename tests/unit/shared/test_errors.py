"""Errors are sorted by what the caller should do."""

from __future__ import annotations

import inspect

from shared import errors


def test_the_tree_in_the_docstring_is_the_tree_of_the_code() -> None:
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    ]
    assert all(issubclass(c, errors.PalimpsestError) for c in classes)
    above = ["PalimpsestError"]  # by how far they are indented
    for line in (errors.__doc__ or "").splitlines():
        if "──" in line:
            branch, name = line.split("──")[0], line.split("──")[1].split()[0]
            above[len(branch) // 4 + 1 :] = [name]
            assert getattr(errors, name).__bases__ == (getattr(errors, above[-2]),), name
    assert all(c.__name__ in str(errors.__doc__) for c in classes)


def test_an_error_reads_as_its_message() -> None:
    refused = errors.InvalidRequest("too many", "params.size")
    assert (str(refused), refused.message, refused.field) == ("too many", "too many", "params.size")
    failed = errors.JobFailed("timeout", "took too long")
    assert (str(failed), failed.kind, failed.message) == (
        "took too long",
        "timeout",
        "took too long",
    )
