"""The commands, from files to files and from mistakes to messages."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from steper_serve.cli.index import index
from steper_serve.errors import CorpusError, IndexUnavailable, PassageNotFound
from steper_serve.retrieval import bm25


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"id": f"p{n}", "title": f"Title {n}", "text": f"Text of {n}."} for n in range(7)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Alpha\n\nThe first letter.")
    (tmp_path / "docs" / "b.png").write_text("a picture")
    (tmp_path / "docs" / "c.docx").write_text("a document")
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(index, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_build_says_what_it_did(folder: Path) -> None:
    result = call("build", folder / "corpus.jsonl", folder / "docs", "--out", folder / "index")
    assert result.exit_code == 0
    assert result.stdout.startswith("8 documents in ")
    assert "documents/s" in result.stdout
    assert "index holds 8, 0.0 MB; self-check passed" in result.stdout
    assert "passed over what is no .txt, .md or .pdf file: 1 .png, 1 .docx" in result.stderr
    retriever = bm25.Bm25Retriever.open(folder / "index")
    assert retriever.passage("a.md#1").title == "Alpha"


def test_a_build_that_takes_long_shows_how_far_it_is(folder: Path) -> None:
    with (folder / "long.jsonl").open("w") as file:
        for n in range(20_000):
            file.write(json.dumps({"id": f"p{n}", "title": f"Title {n}", "text": "Text."}) + "\n")
    result = call("build", folder / "long.jsonl", "--out", folder / "index")
    assert result.exit_code == 0
    assert "20.0k documents" in result.stderr


def test_a_corpus_that_is_not_there_is_all_that_is_told(folder: Path) -> None:
    result = call("build", folder / "absent.jsonl", "--out", folder / "index")
    assert isinstance(result.exception, CorpusError)
    assert "absent.jsonl does not exist" in str(result.exception)
    assert result.stderr == ""


def test_info_is_for_people_or_for_programs(folder: Path) -> None:
    done("build", folder / "corpus.jsonl", "--out", folder / "index")
    table = done("info", folder / "index")
    assert "passages    7\n" in table
    found = json.loads(done("info", folder / "index", "--json"))
    assert found["num_documents"] == 7
    assert bm25.IndexInfo(**found) == bm25.info(folder / "index")


def test_add_and_delete(folder: Path) -> None:
    target = folder / "index"
    done("build", folder / "corpus.jsonl", "--out", target)
    assert "1 documents in" in done("add", folder / "docs", "--index", target)
    (folder / "ids.txt").write_text("p1\n\np2\r\np0\n")
    assert done("delete", "p0", "a.md#1", "--ids-file", folder / "ids.txt", "--index", target) == (
        f"4 passages deleted, 4 left in {target}\n"
    )
    assert bm25.info(target).num_documents == 4


def test_mistakes_go_up_as_errors_of_ours(folder: Path) -> None:
    target = folder / "index"
    assert isinstance(call("info", target).exception, IndexUnavailable)
    assert isinstance(call("add", folder / "docs", "--index", target).exception, IndexUnavailable)
    assert isinstance(call("build", folder / "no", "--out", target).exception, CorpusError)
    done("build", folder / "corpus.jsonl", "--out", target)
    twice = call("add", folder / "corpus.jsonl", "--index", target).exception
    assert isinstance(twice, CorpusError)
    assert "'p0' is already in the index" in twice.message
    unknown = call("delete", "nope", "--index", target).exception
    assert isinstance(unknown, PassageNotFound)
    missing = call("delete", "--ids-file", folder / "none.txt", "--index", target).exception
    assert isinstance(missing, CorpusError)
    assert "none.txt" in missing.message


@pytest.mark.parametrize(
    "arguments", [["build"], ["build", "x"], ["add", "x"], ["delete", "--index", "x"], ["info"]]
)
def test_usage_is_explained(arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
