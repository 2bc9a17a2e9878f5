"""Makes a corpus sound as in another place: a new domain whose words are known.

    python -m tf_rnnt_kd.studies.degrade --input=CORPUS --output=DIR --kind=noisy --splits=train-unlabeled,test

Corpus and output are folders in LibriSpeech layout. Kinds:

    noisy         rooms, and noise of several colours at 0 to 10 dB
    narrow_band   a telephone: 300 to 3400 Hz in 8 bits of mu-law

What happens to an utterance follows from its name. Transcripts and word times are copied. The output appears when it is
whole.
"""

import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
_MU = 255.0
_ENDINGS = (".flac", ".wav")


def noisy(speech: np.ndarray, *, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """[S] -> [S]: a room and a background."""
    from tf_rnnt_kd.speech import acoustics

    speech = acoustics.reverberate(
        speech, rt60_seconds=rng.uniform(0.2, 0.6), direct_to_reverb_db=rng.uniform(0, 10), sample_rate=sample_rate,
        rng=rng,
    )  # fmt: skip
    colour = str(rng.choice(("speech", "pink", "brown", "white", "hum")))
    noise = acoustics.coloured_noise(len(speech), colour=colour, sample_rate=sample_rate, rng=rng)
    return acoustics.mix(speech, noise, snr_db=rng.uniform(0, 10), level_db=rng.uniform(-30, -20))


def narrow_band(speech: np.ndarray, *, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """[S] -> [S]: what a telephone line lets through."""
    from tf_rnnt_kd.speech import acoustics

    line = {"low_hz": 300, "high_hz": 3400, "sample_rate": sample_rate}
    passed = acoustics.band_filter(speech, tilt_db_per_octave=rng.uniform(-2, 2), **line)
    compressed = np.sign(passed) * np.log1p(_MU * np.minimum(np.abs(passed), 1.0)) / np.log1p(_MU)
    steps = np.rint(compressed * 127) / 127
    coded = np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(_MU)) / _MU
    return acoustics.band_filter(coded, tilt_db_per_octave=0.0, **line)


KINDS = {"noisy": noisy, "narrow_band": narrow_band}


def degrade(inputs: Sequence[str], *, output: str, kind: str, splits: Sequence[str]) -> int:
    """Writes `output`; returns the number of utterances in it.

    Args:
      inputs: folders in LibriSpeech layout; of a split, the first one that has it.

    Raises:
      ValueError: none of them has one of the splits, or there is no audio in one.
    """
    homes = {}
    for split in splits:
        found = [Path(folder, split) for folder in inputs if Path(folder, split).is_dir()]
        if not found:
            raise ValueError(f"--splits: {split} is in none of {', '.join(inputs)}")
        homes[split] = found[0]
    whole, begun = Path(output), Path(f"{output.rstrip('/')}.tmp")
    if whole.exists():
        return sum(1 for path in whole.rglob("*") if path.suffix in _ENDINGS)
    shutil.rmtree(begun, ignore_errors=True)
    count = 0
    with ThreadPoolExecutor() as pool:
        for split, home in homes.items():
            tasks = []
            for path in sorted(home.rglob("*")):
                target = begun / split / path.relative_to(home)
                if path.suffix in _ENDINGS:
                    tasks.append(pool.submit(_write, path, target.with_suffix(".flac"), kind))
                elif path.name.endswith((".trans.txt", "alignments.tsv")):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target)
            if not tasks:
                raise ValueError(f"there is no audio in {home}")
            for task in tasks:
                task.result()
            count += len(tasks)
    begun.rename(whole)
    return count


def _write(source, target, kind):
    import soundfile

    from tf_rnnt_kd.speech.synthesis import generator

    waveform, rate = soundfile.read(source, dtype="float64", always_2d=True)
    changed = KINDS[kind](waveform.mean(axis=1), sample_rate=rate, rng=generator(kind, source.stem))
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, np.clip(np.rint(changed * 32768), -32768, 32767).astype(np.int16), rate, subtype="PCM_16")


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_multi_string("input", None, "Folder of the corpus.", **add)
    flags.DEFINE_string("output", None, "Folder to write.", **add)
    flags.DEFINE_enum("kind", "noisy", list(KINDS), "What happens to the audio.", **add)
    flags.DEFINE_list("splits", ["train-unlabeled", "test"], "Of the corpus.", **add)


def _degrade() -> None:
    command_line.require(FLAGS, ("input", "output"))
    command_line.require_paths(FLAGS, ("input",))
    count = degrade(FLAGS.input, output=FLAGS.output, kind=FLAGS.kind, splits=FLAGS.splits)
    sys.stdout.write(f"{FLAGS.output}: {count} utterances\n")


def main() -> None:
    """What `python -m` calls."""
    command_line.start(_degrade, define_flags)


if __name__ == "__main__":
    main()
