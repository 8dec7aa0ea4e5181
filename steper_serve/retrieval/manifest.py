"""What is known of one generation of an index, kept in a file inside it.

What is left out: the folder of generations (generations) and Tantivy's own files (bm25).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from steper_serve import journal
from steper_serve.errors import IndexUnavailable

SCHEMA_VERSION = 1
FILE_NAME = "steper-index.json"


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """One generation of an index, as the writer saw it.

    Args:
        generation: the name of its folder.
        num_documents: passages that a search can find.
        size_bytes: of its files on disk.
        created: when it went live, UTC, ISO 8601.
        schema_version: of the fields; another one cannot be read.
        analyser: how the fields are tokenised.
        tantivy_version: what wrote it.
    """

    generation: str
    num_documents: int
    size_bytes: int
    created: str
    schema_version: int
    analyser: str
    tantivy_version: str


def write(generation: Path, info: IndexInfo) -> None:
    journal.write_json(generation / FILE_NAME, asdict(info))


def read(generation: Path) -> IndexInfo:
    """The manifest of a generation.

    Raises:
        IndexUnavailable: it is missing or broken, or of a schema that this program cannot read.
    """
    file = generation / FILE_NAME
    again = "build the index again (steper-serve index build)"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        version = found["schema_version"]
        if version == SCHEMA_VERSION:
            return IndexInfo(**found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexUnavailable(f"{file} is missing or broken ({error}): {again}") from error
    raise IndexUnavailable(
        f"the index in {generation} has schema version {version} and this program reads "
        f"{SCHEMA_VERSION}: {again}"
    )
