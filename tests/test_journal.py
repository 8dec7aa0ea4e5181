"""Append-only records: torn lines, full disks, two writers, bad lines; files written at once."""

import json
import os

import pytest

from steper_serve import journal
from steper_serve.journal import Appender, BadRecord, DiskFailed, Place


def append(file, *rows) -> None:
    with Appender(file) as out:
        for row in rows:
            out.append(row)


def ids(file) -> list[str]:
    return [record["id"] for _, record in journal.read(file)]


def test_what_is_appended_is_read_with_its_line(tmp_path):
    file = tmp_path / "deep" / "rows.jsonl"
    append(file, {"id": "a"})
    append(file, {"id": "b", "n": 2}, {"id": "Ōsaka \ud800"})
    assert list(journal.read(file)) == [
        (1, {"id": "a"}),
        (2, {"id": "b", "n": 2}),
        (3, {"id": "Ōsaka ?"}),
    ]
    assert list(journal.read(tmp_path / "none.jsonl")) == []


def test_records_are_found_again_by_their_places(tmp_path):
    file = tmp_path / "rows.jsonl"
    append(file, *({"id": id} for id in ("a", "Ōsaka", "b", "c")))
    places = {record["id"]: place for place, record in journal.read_placed(file)}
    assert places["b"] == Place(3, len('{"id": "a"}\n{"id": "Ōsaka"}\n'.encode()))
    found = list(journal.read_at(file, [places["c"], places["b"]]))
    assert found == [(places["b"], {"id": "b"}), (places["c"], {"id": "c"})]
    assert list(journal.read_placed(tmp_path / "none.jsonl")) == []
    file.write_bytes(file.read_bytes()[: places["c"].offset + 5])
    with pytest.raises(BadRecord, match=r"rows\.jsonl, line 4 is not JSON"):
        list(journal.read_at(file, [places["c"]]))
    file.unlink()
    with pytest.raises(BadRecord, match=r"cannot read .*rows\.jsonl"):
        list(journal.read_at(file, places.values()))


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(BadRecord, match=rf"cannot read {tmp_path}"):
        ids(tmp_path)
    with pytest.raises(DiskFailed, match=rf"cannot append to {tmp_path}"):
        append(tmp_path)
    with pytest.raises(DiskFailed, match=rf"cannot write {tmp_path}"):
        journal.write_text(tmp_path, "text")


def test_a_torn_line_counts_for_nothing_and_is_cut_off(tmp_path):
    file = tmp_path / "rows.jsonl"
    append(file, {"id": "a"})
    whole = file.read_bytes()
    for torn in (b'{"id": "b"', b"x" * 200_000, json.dumps({"id": "b"}).encode()):
        file.write_bytes(whole + torn)
        assert ids(file) == ["a"]
        append(file)
        assert file.read_bytes() == whole
    file.write_bytes(b'{"id": "first and only')
    append(file, {"id": "a"})
    assert file.read_bytes() == whole


def test_a_full_disk_leaves_no_part_of_a_record(tmp_path, monkeypatch):
    file, written = tmp_path / "rows.jsonl", os.write

    def fill_up(descriptor: int, data: bytes) -> int:
        if len(data) > 40:
            return written(descriptor, data[:20])
        raise OSError(28, "No space left on device")

    with Appender(file) as out:
        out.append({"id": "a"})
        monkeypatch.setattr(os, "write", fill_up)
        with pytest.raises(DiskFailed, match=r"rows\.jsonl.*No space left.*make room"):
            out.append({"id": "b", "text": "long" * 100})
    monkeypatch.undo()
    assert ids(file) == ["a"]
    assert file.read_bytes().endswith(b"\n")
    append(file, {"id": "b"})
    assert ids(file) == ["a", "b"]


def test_a_really_full_disk(tmp_path):
    """Oracle: the kernel's own full device."""
    (tmp_path / "rows.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(DiskFailed, match=r"rows\.jsonl: .*No space left"),
        Appender(tmp_path / "rows.jsonl") as out,
    ):
        out.append({"id": "a"})


def test_two_do_not_append_at_once(tmp_path):
    file = tmp_path / "rows.jsonl"
    with (
        Appender(file),
        pytest.raises(DiskFailed, match=r"another process is writing .*rows"),
        Appender(file),
    ):
        pass
    append(file, {"id": "a"})
    assert ids(file) == ["a"]


def test_records_are_cut_back_by_whoever_appends(tmp_path):
    file = tmp_path / "rows.jsonl"
    append(file, *({"id": id} for id in "abc"))
    with Appender(file) as out:
        out.cut_back(lambda row: row["id"] == "b")
        assert ids(file) == ["a"]
        with pytest.raises(DiskFailed, match="another process"), Appender(file):
            pass
        out.append({"id": "d"})
        out.cut_back(lambda row: row["id"] == "z")
    assert ids(file) == ["a", "d"]


@pytest.mark.parametrize(
    ("line", "message"),
    [("{not json}", r"line 2 is not JSON"), ("[]", r"line 2 is not a JSON object")],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line, message):
    file = tmp_path / "rows.jsonl"
    append(file, {"id": "a"})
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(BadRecord, match=rf"rows\.jsonl, {message}"):
        ids(file)


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    file = tmp_path / "manifest.json"
    journal.write_json(file, {"a": 1})

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskFailed, match=r"cannot write .*manifest\.json: .*No space left"):
        journal.write_json(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_lines_that_end_with_an_error_leave_what_was_there(tmp_path):
    file = tmp_path / "deep" / "kept.jsonl"
    journal.write_lines(file, ["1\n", "Ōsaka \ud800\n"])

    def lines():
        yield "2\n"
        raise BadRecord("line 2")

    with pytest.raises(BadRecord, match="line 2"):
        journal.write_lines(file, lines())
    assert file.read_text(encoding="utf-8") == "1\nŌsaka ?\n"
    assert list(file.parent.iterdir()) == [file]
