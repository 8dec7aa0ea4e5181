"""What a passage is in Tantivy: its fields, and how their text becomes words.

What is left out: files and folders (bm25, searcher).
"""

from dataclasses import dataclass
from typing import Any

import tantivy

from steper_serve.errors import CorpusError
from steper_serve.trajectory import Passage

FIELDS = ("title", "text")
_MAX_WORD_BYTES = 40
_MAX_ID_BYTES = 4_096  # Tantivy drops terms beyond 65,530 without a word


@dataclass(frozen=True, slots=True)
class Reading:
    """How texts and queries become words. The product has one, the default.

    `bench retrieval --variants` measures the others. `stem` and `fold` (to ASCII) belong to the
    index; the rest acts on queries alone. `stop_words` are the fields in which a query's English
    stop words count, as long as its other words find enough.
    """

    stem: bool = False
    fold: bool = True
    stop_words: tuple[str, ...] = ("title",)
    count_repeats: bool = False
    title_boost: float = 1.0

    @property
    def analyser(self) -> str:
        """The name of how the fields are tokenised, kept with the index."""
        filters = ("ascii",) * self.fold + ("english-stems",) * self.stem
        return "+".join(("words", f"max{_MAX_WORD_BYTES}bytes", "lower", *filters))


def schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    for field in FIELDS:
        builder.add_text_field(field, stored=True, tokenizer_name="words", index_option="freq")
    builder.add_bytes_field("url", stored=True)  # bytes can be stored without being indexed
    return builder.build()


def analyser(reading: Reading, *, stop_words: bool = True) -> Any:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    filters = [tantivy.Filter.remove_long(_MAX_WORD_BYTES + 1), tantivy.Filter.lowercase()]
    if not stop_words:
        filters.append(tantivy.Filter.stopword("english"))
    if reading.fold:
        filters.append(tantivy.Filter.ascii_fold())
    if reading.stem:
        filters.append(tantivy.Filter.stemmer("english"))
    for each in filters:
        builder = builder.filter(each)
    return builder.build()


def register(index: Any, reading: Reading) -> None:
    index.register_tokenizer("words", analyser(reading))


def encodable(text: str) -> str:
    """`text` without lone surrogates, which have no UTF-8."""
    return text.encode("utf-8", "ignore").decode("utf-8")


def to_passage(document: Any, score: float | None = None) -> Passage:
    url = document.get_first("url")
    id, title, text = (document.get_first(name) for name in ("id", *FIELDS))
    return Passage(id, title, text, None if url is None else bytes(url).decode("utf-8"), score)


def to_document(passage: Passage) -> Any:
    if not 0 < len(passage.id.encode("utf-8", "replace")) <= _MAX_ID_BYTES:
        raise CorpusError(
            f"the id {passage.id[:60]!r} has {len(passage.id)} characters: an id has 1 to "
            f"{_MAX_ID_BYTES} bytes"
        )
    if passage.id in (".", "..") or not passage.id.isprintable():
        raise CorpusError(
            f"the id {passage.id!r} cannot stand in a web address: use letters, digits and signs"
        )
    url = {} if passage.url is None else {"url": passage.url.encode("utf-8", "replace")}
    try:
        return tantivy.Document(id=passage.id, title=passage.title, text=passage.text, **url)
    except ValueError as error:
        raise CorpusError(f"passage {passage.id!r} is not valid Unicode: {error}") from error


def num_with_id(searcher: Any, schema: Any, id: str) -> int:
    id = encodable(id)
    if searcher.doc_freq("id", id) == 0:
        return 0
    # the frequency still counts deleted passages, a search does not
    by_id = tantivy.Query.term_query(schema, "id", id, "basic")
    return int(searcher.search(by_id, 1, count=True).count)
