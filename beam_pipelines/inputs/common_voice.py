"""Common Voice: SPLIT.tsv with client_id, path, sentence and locale, and the files in clips/ beside it.

A folder of such folders, one a language, is one corpus: splits of one name are put together. The locale is the domain,
the client the speaker. Of the TSV files only those with these columns are splits.
"""

from collections.abc import Iterator
from typing import Any

from beam_pipelines.inputs import files
from beam_pipelines.inputs.source import Format, Refused, Source, SplitInput

NAME = "common_voice"
_COLUMNS = ("client_id", "path", "sentence")
_CLIPS = "clips"


def find_splits(path: str) -> list[SplitInput]:
    """Tables in the folder `path`, in its folders, or the one table that it is."""
    if files.is_file(path):
        return [SplitInput(files.stem(path), path, NAME)] if _is_table(path) else []
    here = files.listing(path)
    tables = [f"{path}/{name}" for name in here.files if _is_table(f"{path}/{name}")]
    if not tables:
        below = [files.listing(f"{path}/{folder}") for folder in here.folders]
        tables = [f"{folder.path}/{name}" for folder in below if _CLIPS in folder.folders
                  for name in folder.files if _is_table(f"{folder.path}/{name}")]  # fmt: skip
    return [SplitInput(files.stem(table), table, NAME) for table in tables]


def one_part(split: SplitInput) -> list[str]:
    """A table is read in one piece, so that its lines have numbers."""
    del split
    return [""]


def list_sources(split: SplitInput, part: str) -> Iterator[Source]:
    """A source for each row; the file's name is the id."""
    del part
    folder = split.path.rpartition("/")[0] or "."
    found: dict[str, Any] = {"split": split.name, "audio": "", "text": None}
    columns: list[str] = []
    try:
        for number, line in files.read_lines(split.path):
            where: dict[str, Any] = {"order": number, "origin": f"{split.path}:{number}"}
            try:
                fields = line.decode("utf-8-sig" if not columns else "utf-8").split("\t")
                if not columns:
                    columns = fields
                    continue
                # Nothing is quoted in these tables: quotation marks belong to the sentences.
                row = dict(zip(columns, fields, strict=True))
                yield _source(split.name, row, clips=f"{folder}/{_CLIPS}", where=where)
            except Refused as refused:
                name = f"line-{number:08d}"
                yield Source(**found, **where, utterance_id=name, reason=refused.reason, error=str(refused))
            except ValueError as error:
                name, problem = f"line-{number:08d}", f"expected {len(columns)} columns in UTF-8: {error}"
                yield Source(**found, **where, utterance_id=name, reason="bad_line", error=problem)
    except Refused as refused:
        name = f"{split.name}.tsv"
        yield Source(**found, utterance_id=name, origin=split.path, reason=refused.reason, error=str(refused))


def _source(split: str, row: dict[str, str], *, clips: str, where: dict[str, Any]) -> Source:
    name = row["path"]
    if "/" in name or name in ("", ".", ".."):
        raise Refused("bad_name", f"{name!r} is no name of a file in {_CLIPS}/")
    return Source(
        split,
        files.stem(name),
        # Old releases leave the suffix out.
        files.resolve(name if files.is_audio(name) else f"{name}.mp3", folder=clips),
        row["sentence"],
        speaker=row["client_id"],
        domain=row.get("locale", ""),
        **where,
    )


def _is_table(path: str) -> bool:
    if not path.endswith(".tsv"):
        return False
    try:
        header = next(files.read_lines(path), (0, b""))[1]
        return set(_COLUMNS) <= set(header.decode("utf-8-sig").split("\t"))
    except (Refused, UnicodeDecodeError):
        return False


FORMAT = Format(
    NAME,
    "SPLIT.tsv with client_id, path, sentence, and clips/ beside it (Common Voice)",
    find=find_splits,
    parts=one_part,
    sources=list_sources,
)
