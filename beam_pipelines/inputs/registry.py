"""Which format an input has, and its splits."""

from collections.abc import Iterable, Sequence

import tensorflow as tf

from beam_pipelines.inputs import (
    audio_files,
    common_voice,
    files,
    kaldi,
    libri_light,
    librispeech,
    nemo,
    utterance_records,
)
from beam_pipelines.inputs.source import Format, SplitInput, printable

AUTO = "auto"
FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (librispeech, libri_light, nemo, kaldi, common_voice, audio_files, utterance_records)
}
# Any folder with audio is one of audio files: only a pattern, a file or the flag says that no layout is meant.
_RECOGNISED = [form for name, form in FORMATS.items() if name != audio_files.NAME]


def find_splits(paths: str | Sequence[str], *, format: str = AUTO, wanted: Iterable[str] = ()) -> list[SplitInput]:
    """The splits of all inputs, sorted by name; only `wanted` ones where given. Those of one name are put together.

    Args:
        paths: folders, manifests or patterns.
        format: a key of `FORMATS`, which all of `paths` have, or "auto".
        wanted: names of splits.

    Raises:
        ValueError: there is no such path or format, no split, more than one format, or not one of the wanted.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    wanted = list(wanted)
    if format != AUTO and format not in FORMATS:
        raise ValueError(f"--format={format}: no such format, choose one of: {AUTO}, {', '.join(FORMATS)}")
    found = [split for path in paths for split in _find(path, format=format)]
    names = {split.name for split in found}
    missing = sorted(set(wanted) - names)
    if missing:
        raise ValueError(f"no split {', '.join(missing)} in {', '.join(paths)}, it has: {', '.join(sorted(names))}")
    found = [split for split in found if not wanted or split.name in wanted]
    for split in found:
        if printable(split.name) != split.name or printable(split.path) != split.path:
            raise ValueError(f"the name of {printable(split.path)} is no UTF-8: rename it, or leave it out by --splits")
    return sorted(found, key=lambda split: (split.name, split.path))


def _find(path: str, *, format: str) -> list[SplitInput]:
    if not audio_files.is_pattern(path) and not tf.io.gfile.exists(path):
        raise ValueError(f"no such file or folder: {path}; --input takes a corpus folder, a manifest or a pattern")
    problem = next((odd.error for odd in files.listing(path).odd if odd.path == path), "")
    if problem and not files.is_file(path) and not audio_files.is_pattern(path):
        raise ValueError(problem)
    if format != AUTO:
        splits = FORMATS[format].find(path)
        if not splits:
            raise ValueError(f"--format={format} means {FORMATS[format].looks_like}: there is no such thing in {path}")
        return splits
    if audio_files.is_pattern(path) or audio_files.is_audio_file(path):
        found = {audio_files.NAME: audio_files.FORMAT.find(path)}
    else:
        found = {form.name: form.find(path) for form in _RECOGNISED}
    found = {name: splits for name, splits in found.items() if splits}
    libri = found.get(librispeech.NAME, [])
    if len(found) > 1 and libri and not any(librispeech.has_transcripts(split) for split in libri):
        del found[librispeech.NAME]
    if len(found) > 1:
        both = " and ".join(f"{name} ({', '.join(s.name for s in splits)})" for name, splits in found.items())
        raise ValueError(f"{path} is both {both}: say --format={' or --format='.join(found)}")
    if not found:
        known = "; ".join(f"{form.name}: {form.looks_like}" for form in FORMATS.values())
        raise ValueError(f"no corpus in {path}: expected one of {known}. --format=NAME says which")
    (splits,) = found.values()
    return splits
