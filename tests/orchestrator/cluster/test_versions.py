from __future__ import annotations

from orchestrator.cluster.versions import differences, versions


def test_equal_versions_do_not_differ() -> None:
    assert differences(versions(), versions()) == []


def test_each_version_that_differs_is_named_with_both_values() -> None:
    head = {"Python": "3.11", "Ray": "2.60.0", "agr": "0.1.0"}
    node = {"Python": "3.12", "Ray": "2.60.0"}
    assert differences(head, node) == [
        "Python is 3.12 here and 3.11 on the head",
        "agr is unknown here and 0.1.0 on the head",
    ]
