"""The readers: every shape they know, and a name and a place for everything they refuse."""

import gzip
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from steper_serve import corpus
from steper_serve.corpus import documents
from steper_serve.errors import CorpusError
from steper_serve.trajectory import Passage

ROWS = [
    {"id": "a", "title": "Alpha", "text": "The first letter.", "url": "https://example.org/a"},
    {"id": "b", "title": "", "text": "Ünïcode “text”\nof two lines."},
]
PASSAGES = [
    Passage("a", "Alpha", "The first letter.", "https://example.org/a"),
    Passage("b", "", "Ünïcode “text”\nof two lines."),
]


def lines_of(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(content: str | bytes, name: str = "corpus.jsonl") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write


Write = Callable[..., Path]


# --- JSON lines -----------------------------------------------------------------------------------


def test_json_lines(write: Write) -> None:
    assert list(corpus.read(write(lines_of(ROWS)))) == PASSAGES


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "\n" + text.replace("\n", "\n\n") + "  \n",
        lambda text: "  [" + ",\n".join(text.splitlines()) + "]\n",
        lambda text: "\ufeff[" + ",".join(text.splitlines()) + "]",
    ],
)
def test_ways_of_writing_the_same(write: Write, change: Callable[[str], str]) -> None:
    assert list(corpus.read(write(change(lines_of(ROWS)), "passages.json"))) == PASSAGES
    packed = write(gzip.compress(change(lines_of(ROWS)).encode()), "passages.json.gz")
    assert list(corpus.read(packed)) == PASSAGES


def test_unknown_fields_and_numbers_as_ids_are_fine(write: Write) -> None:
    file = write('{"id": 7, "title": "t", "text": "x", "url": null, "extra": [1.5]}')
    assert list(corpus.read(file)) == [Passage("7", "t", "x")]


TEXT = st.text().filter(lambda text: text.strip())


@given(st.lists(st.builds(Passage, id=TEXT, title=st.text(), text=TEXT), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_read(write: Write, passages: list[Passage]) -> None:
    rows = [{"id": p.id, "title": p.title, "text": p.text} for p in passages]
    assert list(corpus.read(write(lines_of(rows)))) == passages
    assert list(corpus.read(write(json.dumps(rows)))) == passages


def test_beir(write: Write, tmp_path: Path) -> None:
    rows = [
        {"_id": "1", "title": "T", "text": "x", "metadata": {"url": "https://example.org/1"}},
        {"_id": "2", "title": "T", "text": "y", "metadata": {}},
    ]
    expected = [Passage("1", "T", "x", "https://example.org/1"), Passage("2", "T", "y")]
    write(lines_of(rows), "set/corpus.jsonl")
    write("ignored", "set/qrels/test.tsv")
    assert list(corpus.read(tmp_path / "set")) == expected
    write(gzip.compress(lines_of(rows).encode()), "packed/corpus.jsonl.gz")
    assert list(corpus.read(tmp_path / "packed")) == expected


def test_a_file_is_read_as_it_is_asked_for(write: Write) -> None:
    """Only what comes before a bad line is needed to read up to it."""
    many = "".join(lines_of([{"id": str(n), "title": "t", "text": "x"}]) for n in range(1000))
    for file in (write(many + "bad"), write(f"[{','.join(many.splitlines())}, bad", "a.json")):
        stream = corpus.read(file)
        assert [p.id for p in islice(stream, 1000)] == [str(n) for n in range(1000)]
        with pytest.raises(CorpusError, match=r"line 1001|item 1001"):
            next(stream)


GOOD = lines_of(ROWS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + '{"id": "c", "title": "t"', r"line 3: not valid JSON at character 25"),
        (GOOD + "nonsense\n", r"line 3: not valid JSON"),
        (GOOD + "\n\n[1]\n", r"line 5: must be a JSON object and is an array"),
        (GOOD + "null", r"line 3: must be a JSON object and is null"),
        (GOOD + '{"id": "c", "title": "t"}', r"line 3: the field 'text' is missing .*'title'"),
        (GOOD + '{"title": "t", "text": "x"}', r"line 3: the field 'id' is missing"),
        (GOOD + '{"id": "c", "text": "x"}', r"line 3: the field 'title' is missing"),
        (GOOD + '{"id": "c", "title": "t", "text": ["x"]}', r"'text' must be a string and is an a"),
        (GOOD + '{"id": "c", "title": null, "text": "x"}', r"'title' must be a string and is null"),
        (GOOD + '{"id": true, "title": "t", "text": "x"}', r"'id' must be a string and is true or"),
        (GOOD + '{"id": 1.5, "title": "t", "text": "x"}', r"'id' must be a string and is a number"),
        (GOOD + '{"id": "c", "title": "t", "text": "x", "url": 1}', r"'url' must be a string"),
        (GOOD + '{"id": "c", "title": "t", "text": " "}', r"line 3: the field 'text' is empty"),
        (GOOD + '{"id": "", "title": "t", "text": "x"}', r"line 3: the field 'id' is empty"),
        (GOOD + '{"_id": "", "title": "t", "text": "x"}', r"line 3: the field '_id' is empty"),
        (GOOD + '{"id": "c", "title": "t", "text": "\\ud800"}', r"line 3: .*half a surrogate pair"),
        (GOOD + "[" * 200_000, r"line 3: the JSON is nested too deeply"),
        (GOOD.encode() + b'{"id": "\xff"}', r"line 3: byte 9 is not UTF-8"),
        ("", r" is empty: give a file"),
        ("\n\n", r" is empty: give a file"),
        ("[]", r" is empty: give a file"),
        ('[{"id": "a", "title": "t", "text": "x"}, 3]', r"item 2: must be a JSON object"),
        ('[{"id": "a", "title": "t", "text": "x"}, {"id"', r"item 2: not valid JSON"),
        (b'[{"id": "a", "title": "t", "text": "\xff"}]', r"item 1: not valid JSON"),
        ('[{"id": "a", "title": "t"}]', r"item 1: the field 'text' is missing"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    write: Write, content: str | bytes, message: str
) -> None:
    with pytest.raises(CorpusError, match=rf"(?s)corpus\.jsonl.*{message}"):
        list(corpus.read(write(content)))


@pytest.mark.parametrize("name", ["corpus.jsonl.gz", "corpus.json.gz"])
def test_a_damaged_gzip_file_is_named(write: Write, name: str) -> None:
    rows = [{"id": str(n), "title": "t", "text": f"text {n * n}"} for n in range(5000)]
    content = lines_of(rows) if name == "corpus.jsonl.gz" else json.dumps(rows)
    packed = gzip.compress(content.encode())
    for damaged in (packed[: len(packed) // 2], packed[:-4], b"plain text"):
        with pytest.raises(CorpusError, match=rf"{name}.*(line|item) \d+: the gzip data is cut"):
            list(corpus.read(write(damaged, name)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nothing\.jsonl does not exist"):
        corpus.read(tmp_path / "nothing.jsonl")


# --- published question sets ----------------------------------------------------------------------

CONTEXT = [["Alpha", ["It is first.", " It is Greek."]], ["Beta", ["It is second."]]]
MUSIQUE = [
    {"idx": 0, "title": "Alpha", "paragraph_text": "It is first.", "is_supporting": True},
    {"idx": 1, "title": "Beta", "paragraph_text": "It is second.", "is_supporting": False},
]


def titles_and_texts(file: Path) -> list[tuple[str, str]]:
    return [(p.title, p.text) for p in corpus.read(file)]


@pytest.mark.parametrize(
    "context",
    [
        CONTEXT,
        json.dumps(CONTEXT),
        {"title": [title for title, _ in CONTEXT], "sentences": [s for _, s in CONTEXT]},
    ],
)
@pytest.mark.parametrize("as_lines", [False, True])
def test_hotpotqa_and_2wikimultihopqa(write: Write, context: object, as_lines: bool) -> None:
    questions = [
        {"_id": "q1", "question": "?", "answer": "!", "context": context, "supporting_facts": []},
        {
            "_id": "q2",
            "question": "?",
            "context": [["Gamma", ["Third."]], CONTEXT[1], ["Empty", []]],
        },
    ]
    content = lines_of(questions) if as_lines else json.dumps(questions, indent=1)
    expected = [
        ("Alpha", "It is first. It is Greek."),
        ("Beta", "It is second."),
        ("Gamma", "Third."),
    ]
    assert titles_and_texts(write(content, "dev.json")) == expected


def test_musique(write: Write) -> None:
    questions = [
        {"id": "2hop__1_2", "paragraphs": MUSIQUE, "question": "?", "answerable": True},
        {"id": "2hop__1_3", "paragraphs": MUSIQUE[::-1], "question": "?"},
        {"id": "2hop__1_4", "paragraphs": [{**MUSIQUE[0], "title": "Other"}], "question": "?"},
    ]
    assert titles_and_texts(write(lines_of(questions), "dev.jsonl")) == [
        ("Alpha", "It is first."),
        ("Beta", "It is second."),
        ("Other", "It is first."),
    ]


def test_ids_of_paragraphs_are_the_same_in_every_file(write: Write) -> None:
    one = write(json.dumps([{"context": CONTEXT}]), "one.json")
    other = write(json.dumps([{"context": CONTEXT[::-1]}]), "other.json")
    musique = write(lines_of([{"paragraphs": MUSIQUE}]), "musique.jsonl")
    of_one = {p.title: p.id for p in corpus.read(one)}
    assert {p.title: p.id for p in corpus.read(other)} == of_one
    assert {p.title: p.id for p in corpus.read(musique)}["Beta"] == of_one["Beta"]
    assert of_one["Beta"] == "7c551c79171f87e3"


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"question": "?"}, "item 2: the question has no 'context'"),
        ({"context": 3}, "item 2: the paragraphs of the question must be an array"),
        ({"context": "[["}, "item 2, context: not valid JSON"),
        ({"context": [["T", "x"]]}, r"item 2, paragraph 1: must be \[title, \[sentence"),
        ({"context": [*CONTEXT, ["T"]]}, "item 2, paragraph 3: must be"),
        ({"context": [["T", [None]]]}, "item 2, paragraph 1: a sentence must be a string"),
        ({"context": [[3, ["x"]]]}, "item 2, paragraph 1: the title must be a string"),
    ],
)
def test_a_bad_question_is_named(write: Write, question: object, message: str) -> None:
    file = write(json.dumps([{"context": CONTEXT}, question]), "dev.json")
    with pytest.raises(CorpusError, match=rf"dev\.json, {message}"):
        list(corpus.read(file))


@pytest.mark.parametrize(
    ("paragraph", "message"),
    [
        ({"title": "T"}, "line 2, paragraph 1: the field 'paragraph_text' is missing"),
        ({"title": 1, "paragraph_text": "x"}, "paragraph 1: the field 'title' must be a string"),
        ("T", "paragraph 1: must be an object with title and paragraph_text"),
    ],
)
def test_a_bad_musique_paragraph_is_named(write: Write, paragraph: object, message: str) -> None:
    file = write(lines_of([{"paragraphs": MUSIQUE}, {"paragraphs": [paragraph]}]))
    with pytest.raises(CorpusError, match=message):
        list(corpus.read(file))


# --- documents ------------------------------------------------------------------------------------


def words(num: int, begin: int = 0) -> str:
    return " ".join(f"w{n}" for n in range(begin, begin + num))


def test_a_folder_of_documents(write: Write, tmp_path: Path) -> None:
    write("# A *title* #\n\nSome text.", "docs/b/notes.md")
    write("No heading here.\n", "docs/b/plain.md")
    write("One line.\nAnother line.\n\n\nA second paragraph.\n", "docs/a.TXT")
    write("hidden", "docs/.git/x.txt")
    write("picture", "docs/b/picture.png")
    assert list(corpus.read(tmp_path / "docs")) == [
        Passage("a.TXT#1", "a", "One line. Another line.\nA second paragraph."),
        Passage("b/notes.md#1", "A *title*", "# A *title* #\nSome text."),
        Passage("b/plain.md#1", "plain", "No heading here."),
    ]
    assert documents.others(tmp_path / "docs") == {".png": 1}
    (alone,) = corpus.read(tmp_path / "docs" / "b" / "notes.md")
    assert alone.id == "notes.md#1"


def test_passages_end_where_paragraphs_end(write: Write) -> None:
    paragraphs = [words(n) for n in (50, 60, 40, 100, 2, 118, 155, 30)]
    passages = list(corpus.read(write("\n\n".join(paragraphs), "long.txt")))
    # up to 160 words, and none is begun past 120
    assert [p.text.count("\n") + 1 for p in passages] == [3, 2, 1, 1, 1]
    assert [len(p.text.split()) for p in passages] == [150, 102, 118, 155, 30]
    assert [p.id for p in passages] == [f"long.txt#{n}" for n in range(1, 6)]
    assert {p.title for p in passages} == {"long"}


def test_long_paragraphs_end_at_sentences_then_at_words(write: Write) -> None:
    sentences = [words(50) + ".", words(60) + "!", words(90) + "?", words(300)]
    passages = list(corpus.read(write(" ".join(sentences), "long.txt")))
    assert [len(p.text.split()) for p in passages] == [110, 90, 120, 120, 60]
    assert passages[0].text.endswith("w59!")
    assert passages[1].text.endswith("w89?")


@given(st.lists(st.lists(st.sampled_from(["word", "End.", "x!", "é", "#", "\n"]), max_size=400)))
@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_no_word_of_a_document_is_lost(write: Write, paragraphs: list[list[str]]) -> None:
    text = "\n\n".join(" ".join(paragraph) for paragraph in paragraphs)
    if not text.split():
        return
    passages = list(corpus.read(write(text, "any.txt")))
    assert [word for p in passages for word in p.text.split()] == text.split()
    assert all(0 < len(p.text.split()) <= 160 for p in passages)


def pdf(pages: list[list[str]]) -> PdfWriter:
    """A PDF whose pages have these lines."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for lines in pages:
        page = writer.add_blank_page(200, 200)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 14 TL 10 180 Td {shown} ET".encode())
        page[NameObject("/Contents")] = writer._add_object(content)
    return writer


def test_pdf(tmp_path: Path) -> None:
    pdf([["First line,", "second line."], [], ["Page three."]]).write(tmp_path / "report.pdf")
    assert list(corpus.read(tmp_path / "report.pdf")) == [
        Passage("report.pdf#1", "report", "First line, second line.\nPage three.")
    ]
    assert [p.id for p in corpus.read(tmp_path)] == ["report.pdf#1"]


def test_a_pdf_without_text_or_with_a_password_is_named(tmp_path: Path) -> None:
    pdf([[]]).write(tmp_path / "scan.pdf")
    with pytest.raises(CorpusError, match=r"scan\.pdf holds no text: .* text recognition"):
        list(corpus.read(tmp_path / "scan.pdf"))
    locked = pdf([["Secret."]])
    locked.encrypt("password", algorithm="RC4-128")
    locked.write(tmp_path / "locked.pdf")
    with pytest.raises(CorpusError, match=r"locked\.pdf: cannot be read as PDF"):
        list(corpus.read(tmp_path / "locked.pdf"))


@pytest.mark.parametrize("content", [b"", b"not a pdf", b"%PDF-1.7\n%%EOF", b"%PDF-1.7\nxref\n0 1"])
@pytest.mark.filterwarnings("default")
def test_a_broken_pdf_is_named(write: Write, content: bytes) -> None:
    with pytest.raises(CorpusError, match=r"bad\.pdf"):
        list(corpus.read(write(content, "bad.pdf")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d/a.txt", b"fine\n\nnot \xff\n", r"a\.txt, line 3: byte 5 is not UTF-8"),
        ("d/a.txt", b" \n\n", r"a\.txt holds no text"),
        ("d/a.md", b"# T\n\xff", r"a\.md, line 2: byte 1 is not UTF-8"),
        ("d/a.docx", b"x", r"holds no \.txt, \.md, \.pdf file and no corpus\.jsonl"),
    ],
)
def test_bad_documents_are_named(
    write: Write, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    write(content, name)
    with pytest.raises(CorpusError, match=message):
        list(corpus.read(tmp_path / "d"))
