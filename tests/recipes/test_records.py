"""Append-only records and manifests: torn lines, full disks, two writers, bad lines."""

import json
import os

import pytest

from steper_serve.recipes.distill import manifest, records
from steper_serve.recipes.distill.failures import BadRecord, DiskFailed
from steper_serve.recipes.distill.manifest import Manifest
from steper_serve.recipes.distill.records import Appender, scan


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
    rows = list(records.read_at(file, found.done))
    assert [(place.line, row["id"]) for place, row in rows] == [(1, "a"), (4, "b")]
    assert rows[1][1]["n"] == 2


def test_a_torn_line_counts_for_nothing_and_is_cut_off(tmp_path):
    file = tmp_path / "records.jsonl"
    append(file, record("a"))
    whole = file.read_bytes()
    for torn in (b'{"id": "b"', b"x" * 200_000, json.dumps(record("b")).encode()):
        file.write_bytes(whole + torn)
        assert set(scan(file, "now").done) == {"a"}
        append(file)
        assert file.read_bytes() == whole
    file.write_bytes(b'{"id": "first and only')
    append(file, record("a"))
    assert file.read_bytes() == whole


def test_a_full_disk_leaves_no_part_of_a_record(tmp_path, monkeypatch):
    file = tmp_path / "records.jsonl"
    written = os.write

    def fill_up(descriptor: int, data: bytes) -> int:
        if len(data) > 40:
            return written(descriptor, data[:20])
        raise OSError(28, "No space left on device")

    with Appender(file) as out:
        out.append(record("a"))
        monkeypatch.setattr(os, "write", fill_up)
        with pytest.raises(DiskFailed, match=r"records\.jsonl.*No space left.*make room"):
            out.append(record("b", text="long" * 100))
    monkeypatch.undo()
    assert [row["id"] for _, row in records.read(file)] == ["a"]
    assert file.read_bytes().endswith(b"\n")
    append(file, record("b"))
    assert set(scan(file, "now").done) == {"a", "b"}


def test_a_really_full_disk(tmp_path):
    """Oracle: the kernel's own full device."""
    (tmp_path / "records.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(DiskFailed, match=r"records\.jsonl: .*No space left"),
        Appender(tmp_path / "records.jsonl") as out,
    ):
        out.append(record("a"))


def test_two_do_not_append_at_once(tmp_path):
    file = tmp_path / "records.jsonl"
    with (
        Appender(file),
        pytest.raises(DiskFailed, match=r"another process is writing .*records"),
        Appender(file),
    ):
        pass


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


def test_a_lone_surrogate_and_other_scripts_are_kept(tmp_path):
    file = tmp_path / "records.jsonl"
    append(file, record("a", text="Ōsaka \ud800"))
    assert next(records.read(file))[1]["text"] == "Ōsaka ?"


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
    with pytest.raises(BadRecord, match=r"manifest\.json is not a stage's manifest"):
        manifest.read(tmp_path)


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    file = tmp_path / "report.json"
    manifest.write_json(file, {"a": 1})

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskFailed, match=r"cannot write .*report\.json: .*No space left"):
        manifest.write_json(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]
