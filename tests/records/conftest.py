import sys
from pathlib import Path

import pytest

# --import-mode=importlib gives tests no package; the little corpus is imported by name.
sys.path.insert(0, str(Path(__file__).parent))

import word_records  # noqa: E402

from tf_rnnt_kd.records import schema  # noqa: E402
from tf_rnnt_kd.text import Tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def utterances():
    return {u.utterance_id: u for u in map(word_records.utterance, range(24))}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train_characters(word_records.WORDS)


@pytest.fixture(scope="module")
def source(tmp_path_factory, utterances):
    records = [schema.encode_utterance(u) for u in utterances.values()]
    return word_records.write(tmp_path_factory.mktemp("records"), records)
