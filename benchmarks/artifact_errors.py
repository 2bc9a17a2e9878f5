"""What each artifact of the pseudo-labelling pipeline weighs, and what it costs the losses that read it:

    python -m benchmarks.artifact_errors --teacher=run/teacher_model --records=run/records --split=dev --markdown

Utterances are labelled by a SavedModel. Every artifact, in every precision, is written as features of a record and read
back. Losses are computed from that and from the live teacher, for a student that has the teacher's joint and its
projections with noise. Printed are megabytes per hour of audio, their share of what the numbers would take without
compression, and for each loss two errors: of its value, the mean over utterances of |stored - live| over the mean of
|live|, and of its gradient, |stored - live| / |live| over all utterances as one vector. `divergence` is the KL in nats
between the distributions of live and stored teacher, mean over the nodes that are stored.
"""

import hashlib
import sys

import numpy as np
from absl import flags

from benchmarks import outputs
from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS


def cases_of(teacher, source, *, utterances, max_seconds, noise, tokenizer=None):
    """`Case`s of the first utterances with a label.

    Args:
      teacher: SavedModel folder. source: a reader.Source.
      tokenizer: the teacher's, where the labels are the records' own transcripts; None: the teacher's hypotheses.
    """
    from beam_pipelines.transforms.artifacts import Encoding, refusal
    from beam_pipelines.transforms.batch import Pending
    from beam_pipelines.transforms.infer import HYPOTHESIS, REFERENCE, Teacher, load_metadata
    from benchmarks.artifact_variants import Case
    from tf_rnnt_kd.records import SAMPLE_RATE, TeacherLabels, decode_utterance, read_shard

    hard_fields = TeacherLabels.__dataclass_fields__
    signatures = load_metadata(teacher)["signatures"]
    encoding = Encoding(artifacts=("hard", *(name for name in ("nbest", "hidden") if name in signatures)))
    targets = HYPOTHESIS if tokenizer is None else REFERENCE
    loaded = Teacher(teacher, targets=targets, batch_size=1, encoding=encoding)
    found = []
    for path in source.paths():
        for record in read_shard(path):
            utterance = decode_utterance(record)
            seconds = len(utterance.waveform) / SAMPLE_RATE
            if not 0 < seconds <= max_seconds:
                continue
            pending = Pending("", 0, 0, utterance.utterance_id, utterance.waveform)
            if tokenizer is not None:
                pending = pending._replace(text=utterance.text, tokens=tuple(tokenizer.encode(utterance.text)))
            (labels,) = loaded.label([pending])
            if refusal(labels) is not None:
                continue
            seed = int.from_bytes(hashlib.md5(utterance.utterance_id.encode()).digest()[:4], "little")
            found.append(
                Case(
                    np.asarray(labels.tokens), labels.encoder, labels.predictor, loaded.joint, seconds,
                    hard=TeacherLabels(**{name: getattr(labels, name) for name in hard_fields}),
                    nbest=labels.nbest, hidden=labels.hidden, noise=noise, seed=seed,
                )  # fmt: skip
            )
            if len(found) == utterances:
                return found
    if not found:
        raise ValueError(f"{source.directory}:{source.split} has no utterance of up to {max_seconds:g} s with a label")
    return found


def variants_for(cases, *, bands, top_k):
    """The variants that these cases have, in the order of the tables."""
    from benchmarks import artifact_variants as variants

    vocab_size = len(cases[0].joint["bias"])
    found = [variants.hard()] + ([variants.nbest()] if cases[0].nbest is not None else [])
    found += [variants.collapsed(bits, width) for width in (0, *bands) for bits in (8, 16)]
    found += [variants.factored(kind) for kind in ("bfloat16", "int8")]
    found += [variants.top_k(k, width) for width in (0, *bands[:1]) for k in top_k if k <= vocab_size]
    found += [variants.hidden()] if cases[0].hidden else []
    return [*found, variants.dense()]


def measure(variant, cases):
    """Figures of one variant: "megabytes_per_hour", "share_of_raw", "divergence", and "losses" {name: two errors}."""
    from benchmarks.artifact_variants import live_value_and_gradient, value_and_gradient

    written = [variant.write(case) for case in cases]
    size = sum(feature.ByteSize() for found in written for feature in found.values())
    read = [variant.read(case, found) for case, found in zip(cases, written, strict=True)]
    losses = {}
    for loss in variant.losses:
        pairs = [
            (live_value_and_gradient(loss, case, variant.live), value_and_gradient(loss, case, stored))
            for case, stored in zip(cases, read, strict=True)
        ]
        values = np.array([[exact[0], stored[0]] for exact, stored in pairs])
        squares = np.sum([[np.sum(e[1] ** 2), np.sum((s[1] - e[1]) ** 2)] for e, s in pairs], axis=0)
        losses[loss] = {
            "value": float(np.abs(values[:, 1] - values[:, 0]).mean() / np.abs(values[:, 0]).mean()),
            "gradient": float(np.sqrt(squares[1] / squares[0])),
        }
    return {
        "megabytes_per_hour": size / sum(case.seconds for case in cases) * 3600 / 1e6,
        "share_of_raw": size / sum(variant.raw(case) for case in cases),
        "divergence": divergence(cases, [variant.live(case) for case in cases], read),
        "losses": losses,
    }


def divergence(cases, live, read):
    """Mean KL per stored node of the live teacher from the stored one, at the finest level both have; else None."""
    from tf_rnnt_kd import losses

    total = nodes = 0.0
    for case, exact, stored in zip(cases, live, read, strict=True):
        if "teacher_top_k" in stored:
            there = stored["node_weights"].numpy() > 0
            pair = [np.concatenate([x.log_probs, x.rest[..., None]], -1) for x in
                    (exact["teacher_top_k"], stored["teacher_top_k"])]  # fmt: skip
            total += (np.exp(pair[0]) * (pair[0] - pair[1])).sum(-1)[there].sum(dtype=np.float64)
            nodes += there.sum()
        elif "teacher" in stored:
            there = losses.over_nodes.missing(stored["teacher"]).numpy()
            total += float(losses.collapsed(exact["teacher"], stored["teacher"], **case.lengths)[0])
            nodes += (~there).sum()
        else:
            return None
    return max(total / nodes, 0.0)  # float32 may round a KL of nearly 0 to below


def tables(figures, *, markdown):
    """Lines of text: one table for each artifact.

    Args:
      figures: [(artifact, name, what `measure` gave)].
    """
    lines = []
    for artifact in dict.fromkeys(artifact for artifact, *_ in figures):
        rows = [(name, found) for other, name, found in figures if other == artifact]
        losses = list(rows[0][1]["losses"])
        head = [artifact, "MB per hour", "of raw", "divergence", *losses]
        body = [
            [
                name,
                f"{found['megabytes_per_hour']:.3g}",
                f"{found['share_of_raw']:.0%}",
                "-" if found["divergence"] is None else f"{found['divergence']:.1e}",
                *(f"{found['losses'][loss]['value']:.1e} / {found['losses'][loss]['gradient']:.1e}" for loss in losses),
            ]
            for name, found in rows
        ]
        lines += _aligned([head, *body], markdown) + [""]
    return lines


def _aligned(rows, markdown):
    if markdown:
        made = ["| " + " | ".join(row) + " |" for row in rows]
        return [made[0], "|" + "---|" * len(rows[0]), *made[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def main():
    command_line.require(FLAGS, ("teacher", "records"))
    bands, top_k = (_integers(name) for name in ("bands", "top_k"))
    from tf_rnnt_kd.records.reader import Source
    from tf_rnnt_kd.text import Tokenizer

    cases = cases_of(
        FLAGS.teacher, Source(FLAGS.records, FLAGS.split), utterances=FLAGS.utterances, max_seconds=FLAGS.max_seconds,
        noise=FLAGS.noise, tokenizer=Tokenizer.load(FLAGS.tokenizer) if FLAGS.tokenizer else None,
    )  # fmt: skip
    figures = []
    for variant in variants_for(cases, bands=bands, top_k=top_k):
        figures.append((variant.artifact, variant.name, measure(variant, cases)))
        sys.stderr.write(f"{variant.artifact}, {variant.name}\n")
    about = {
        "utterances": len(cases),
        "seconds": round(sum(case.seconds for case in cases), 1),
        "mean_frames": float(np.mean([len(case.encoder) for case in cases])),
        "mean_tokens": float(np.mean([len(case.tokens) for case in cases])),
        "vocab_size": len(cases[0].joint["bias"]),
        "joint_width": cases[0].encoder.shape[1],
    }
    sys.stdout.write(", ".join(f"{name} {value:g}" for name, value in about.items()) + "\n\n")
    sys.stdout.write("\n".join(tables(figures, markdown=FLAGS.markdown)))
    rows = [{"artifact": artifact, "name": name, **found} for artifact, name, found in figures]
    outputs.keep({"about": about, "figures": rows})


def _integers(flag):
    try:
        return [int(value) for value in FLAGS[flag].value]
    except ValueError:
        raise ValueError(f"--{flag}={','.join(FLAGS[flag].value)}: give integers, with commas") from None


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("teacher", None, "SavedModel of python -m tf_rnnt_kd.export.", **add)
    flags.DEFINE_string("records", None, "Utterance records.", **add)
    flags.DEFINE_string("split", "dev", "Their split.", **add)
    flags.DEFINE_string(
        "tokenizer", None, "The teacher's; labels are then the records' transcripts, not hypotheses.", **add
    )
    flags.DEFINE_integer("utterances", 40, "How many of them, the first of the split.", lower_bound=1, **add)
    flags.DEFINE_float("max_seconds", 20.0, "Longer ones are passed over.", **add)
    flags.DEFINE_float("noise", 0.3, "Of the student, in standard deviations of what it is added to.", **add)
    flags.DEFINE_list("bands", ["5", "10", "20"], "Label positions per frame.", **add)
    flags.DEFINE_list(
        "top_k", ["4", "8", "16"], "Numbers of symbols; those above the vocabulary's size are left out.", **add
    )
    outputs.define_flags(values)


if __name__ == "__main__":
    command_line.start(main, define_flags)
