"""Records of attempts: the newest counts, bad lines are named; manifests of stages."""

import json

import pytest

from steper_serve import journal
from steper_serve.journal import Appender
from steper_serve.recipes.distill import manifest
from steper_serve.recipes.distill.failures import BadRecord
from steper_serve.recipes.distill.manifest import Manifest
from steper_serve.recipes.distill.records import scan


def record(id: str, config: str = "now", error: object = None, **more) -> dict:
    return {"id": id, "config": config, "error": error, **more}


def append(file, *rows) -> None:
    with Appender(file) as out:
        for row in rows:
            out.append(row)


def test_a_later_record_supersedes_an_earlier_one(tmp_path):
    file = tmp_path / "deep" / "records.jsonl"
    append(file, record("a"), record("b", error={"type": "X"}), record("c", config="before"))
    append(file, record("b", n=2), record("d", error={}))
    found = scan(file, "now")
    assert (set(found.done), set(found.failed)) == ({"a", "b"}, {"d"})
    rows = list(journal.read_at(file, found.done.values()))
    assert [(place.line, row["id"]) for place, row in rows] == [(1, "a"), (4, "b")]
    assert rows[1][1]["n"] == 2


def test_a_torn_line_counts_for_nothing(tmp_path):
    file = tmp_path / "records.jsonl"
    append(file, record("a"))
    whole = file.read_bytes()
    file.write_bytes(whole + json.dumps(record("b")).encode())
    assert set(scan(file, "now").done) == {"a"}
    append(file, record("b", error={}))
    assert set(scan(file, "now").failed) == {"b"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json}", r"records\.jsonl, line 2 is not JSON"),
        ("[]", r"records\.jsonl, line 2 is not a JSON object"),
        ('{"config": "now"}', r"records\.jsonl, line 2: the record has no 'id'"),
        ('{"id": "b"}', r"records\.jsonl, line 2: the record has no 'config'"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line, message):
    file = tmp_path / "records.jsonl"
    append(file, record("a"))
    with file.open("a") as out:
        out.write(line + "\n")
    with pytest.raises(BadRecord, match=message):
        scan(file, "now")


def test_no_file_holds_nothing(tmp_path):
    assert not scan(tmp_path / "none.jsonl", "now").done


def test_a_manifest_tells_whether_its_stage_is_done(tmp_path):
    assert manifest.finished(tmp_path, "h") is None
    written = Manifest("filter", "h", True, 1.5, 20, {"kept": 3})
    manifest.write(tmp_path, written)
    assert manifest.finished(tmp_path, "h") == written
    assert manifest.finished(tmp_path, "other") is None
    manifest.write(tmp_path, Manifest("filter", "h", False))
    assert manifest.finished(tmp_path, "h") is None
    (tmp_path / "manifest.json").write_text('{"stage": "filter"}')
    with pytest.raises(BadRecord, match=r"manifest\.json is not as it was written .*: delete it"):
        manifest.read(tmp_path)
