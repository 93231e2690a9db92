from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import TrackerError
from orchestrator.mlflow_writer import check_answers, last_line, public_uri
from orchestrator.settings import Settings


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://name:secret@host:5000/x", "http://host:5000/x"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("postgresql+psycopg2://u:p@h/db", "postgresql+psycopg2://h/db"),
    ],
)
def test_addresses_are_shown_without_credentials(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown


def test_a_server_that_does_not_answer_is_refused_with_the_way_out() -> None:
    settings = replace(Settings.from_environment(), tracking_uri="http://me:secret@127.0.0.1:9")
    with pytest.raises(TrackerError, match="agr stack up") as caught:
        check_answers(settings)
    assert "secret" not in str(caught.value)


def test_a_file_needs_no_server() -> None:
    check_answers(Settings.from_environment())


def test_the_last_words_of_a_log_are_its_last_line_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n\n")
    assert last_line(log) == "two"
    log.write_text("")
    assert last_line(log) == ""
