"""The Python of the pages on own teachers, encoders and records runs, and does what the pages say."""

import pathlib
import re
import sys

import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.transforms.artifacts import Encoding
from beam_pipelines.transforms.batch import Pending
from beam_pipelines.transforms.infer import Teacher
from beam_pipelines.transforms.routes import load_teaching
from tf_rnnt_kd import records
from tf_rnnt_kd.records import reader

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_DOCS = _ROOT / "docs"


def _code(page):
    text = (_DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _waveform(seed, seconds=1.0):
    return np.random.default_rng(seed).normal(0, 0.1, int(16000 * seconds)).astype(np.float32)


@pytest.fixture(scope="module")
def own_teacher(tmp_path_factory):
    """The names that the page's code leaves behind, run in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("own_teacher"))
        names = {"folder": pathlib.Path.cwd()}
        for block in _code("how_to/own_teacher.md"):
            exec(block, names)
    return names


def test_a_teacher_as_the_page_makes_it_labels(own_teacher):
    folder = str(own_teacher["folder"] / "my_teacher")
    assert load_teaching(folder).model_id == "my-teacher-1"
    encoding = Encoding(artifacts=("hard", "collapsed", "factored"))
    waveforms = [_waveform(0), _waveform(1, 0.7)]
    pending = [Pending("pool", 0, i, str(i), waveform) for i, waveform in enumerate(waveforms)]
    teacher = Teacher(folder, targets="hypothesis", batch_size=2, encoding=encoding)
    model = own_teacher["model"]
    for waveform, labels in zip(waveforms, teacher.label(pending), strict=True):
        encoded, lengths = model.encode(tf.constant(waveform[None]), tf.constant([len(waveform)]))
        assert labels.num_frames == int(lengths[0]) and len(labels.tokens) > 0
        np.testing.assert_allclose(labels.encoder, encoded[0], atol=1e-5)
        predicted = model.predict(tf.constant(labels.tokens[None], tf.int32))
        log_probs = tf.nn.log_softmax(model.joint_logits(encoded[:, :, None], predicted[:, None])).numpy()[0]
        np.testing.assert_allclose(labels.log_prob, _all_paths(log_probs, labels.tokens), rtol=1e-4)


def _all_paths(log_probs, tokens):
    """log P(tokens) of log-probs [T, U+1, V], node by node."""
    frames, positions, _ = log_probs.shape
    reached = {}
    for t in range(frames):
        for u in range(positions):
            blank = (0.0 if u == 0 else -np.inf) if t == 0 else reached[t - 1, u] + log_probs[t - 1, u, 0]
            label = -np.inf if u == 0 else reached[t, u - 1] + log_probs[t, u - 1, tokens[u - 1]]
            reached[t, u] = np.logaddexp(blank, label)
    return reached[frames - 1, positions - 1] + log_probs[-1, -1, 0]


def test_records_that_another_framework_writes_are_read_for_training(own_teacher, tmp_path):
    source, output = tmp_path / "records", str(tmp_path / "labelled")
    shard = records.write_shard(
        source,
        file=records.shard_file("pool", index=0, num_shards=1),
        records=[
            records.encode_utterance(records.Utterance(str(i), _waveform(i), None, "s", "pool")) for i in range(3)
        ],
    )
    records.DatasetInfo(
        records.UTTERANCES, {"pool": records.Split((shard,), 3, 3 / 3600, False)},
        {"input": 3, "written": 3, "rejected": 0}, {},
    ).save(source)  # fmt: skip
    tokenizer, rng = own_teacher["tokenizer"], np.random.default_rng(0)

    def recognise(waveform):
        if np.allclose(waveform[:10], _waveform(2)[:10], atol=1e-3):
            return None
        labels = records.TeacherLabels([2, 3], "AB", -1.5, 12, [1, 4], [0.9, 0.8], [0.8])
        return labels, rng.normal(size=[12, 6]), rng.normal(size=[3, 6])

    joint = {"kernel": rng.normal(size=[6, 5]).astype(np.float32), "bias": np.zeros(5, np.float32)}
    own_teacher["label"](
        str(source), "pool", output, recognise, model_id="other", tokenizer=tokenizer, frame_seconds=0.08, joint=joint
    )
    sources = [reader.Source(output, "pool")]
    assert sources[0].info().counts == {"input": 3, "written": 2, "rejected": 1}
    kernel, bias, *_ = reader.teacher_joint(sources)
    np.testing.assert_array_equal(kernel, joint["kernel"])
    np.testing.assert_array_equal(bias, joint["bias"])
    (path,) = sources[0].paths()
    assert [records.decode_teacher(record).text for record in records.read_shard(path)] == ["AB", "AB"]
    reader.check_teacher(sources, tokenizer_hash=tokenizer.hash, frame_seconds=0.08, node_level=True)

    names = {}
    exec(*_code("reference/records.md"), names)
    read = list(names["utterances"]([path]))
    assert [(name, text) for name, _, text in read] == [("0", "AB"), ("1", "AB")]
    np.testing.assert_allclose(read[1][1], _waveform(1), atol=1 / 32768)


def test_the_added_encoder_keeps_the_contract(monkeypatch):
    from tf_rnnt_kd.models import build, build_transducer

    monkeypatch.setattr(build, "ENCODERS", dict(build.ENCODERS))
    monkeypatch.syspath_prepend(str(_ROOT / "tests" / "models"))
    from contract import verify_contract

    sys.modules.pop("contract")
    names = {"verify_contract": verify_contract, "__name__": "my_models"}
    for block in _code("how_to/add_encoder.md"):
        exec(block, names)
    names["test_average_block"]()
    names["test_average_encoder"]()
    encoder = {"type": "average", "width": 8, "num_layers": 1, "channels": 2}
    config = {"encoder": encoder, "predictor": {"width": 4}, "joint": {"width": 4}}
    model = build_transducer(config, vocab_size=5, num_features=16)
    assert model.is_streaming and model.encode(tf.zeros([1, 16, 16]), tf.constant([16]))[0].shape == [1, 2, 4]


def test_all_other_python_of_the_pages_compiles():
    blocks = [(page, block) for page in sorted(_DOCS.rglob("*.md")) for block in _code(page.relative_to(_DOCS))]
    assert len(blocks) > 10
    for page, block in blocks:
        compile(block, str(page), "exec")


def test_links_of_the_files_beside_the_site_lead_somewhere():
    for page in (_ROOT / "README.md", _ROOT / "serving" / "README.md"):
        for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_paths_that_pages_name_exist():
    for page in [_ROOT / "README.md", *sorted(_DOCS.rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:tests|containers|tools|benchmarks|configs|serving|docs)/[\w/.]+\w)`", text):
            assert (_ROOT / path).exists(), f"{page.relative_to(_ROOT)}: {path}"
