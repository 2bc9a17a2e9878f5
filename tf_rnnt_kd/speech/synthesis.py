"""A synthetic corpus: who speaks, what they say, in which noise. A speaker is the unit of work.

Everything a speaker says follows from (seed, split, speaker number), so speakers can be made in any order. The voices
are variants of eSpeak NG, no variant in two splits, each with an accent of English, a pace, a pitch and a length of the
vocal tract of its own. Importing this does not import TensorFlow.
"""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tf_rnnt_kd.speech import acoustics, espeak
from tf_rnnt_kd.splits import DEV, LABELLED, TEST, UNLABELLED

SAMPLE_RATE = 16000
# split -> (share of the hours, speakers)
SPLITS = {
    LABELLED: (18 / 60, 24),
    UNLABELLED: (29 / 60, 36),
    DEV: (6 / 60, 8),
    TEST: (7 / 60, 12),
}
TRUTH_SUFFIX = "-truth"
# Without those that whisper, rasp, clip or play a robot.
VARIANTS = (
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "AnxiousAndy", "Denis", "Diogo", "Gene",
    "Gene2", "Henrique", "Hugo", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen",
    "Reed", "RicishayMax", "RicishayMax2", "Tweaky", "adam", "anika", "announcer", "antonio", "aunty",
    "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward", "edward2", "f1",
    "f2", "f3", "f4", "f5", "grandma", "grandpa", "gustave", "ian", "iven3",
    "iven4", "john", "klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6", "linda",
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "marcelo",
    "max", "michel", "miguel", "mike2", "norbert", "pablo", "paul", "pedro", "quincy",
    "rob", "robert", "sandro", "shelby", "steph", "steph2", "travis", "victor", "zac",
)  # fmt: skip

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIRECTIONS = ("left", "right", "up", "down")


@dataclasses.dataclass(frozen=True)
class Speaker:
    """One speaker. `voice`, `rate` (words per minute), `pitch`, `pitch_range`, `word_gap`: see `espeak.Engine.say`.

    `tract` scales all resonances and the pitch; `seconds` is how much to say.
    """

    number: int
    split: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    word_gap: int
    tract: float
    seconds: float


def generator(*key: object) -> np.random.Generator:
    """A random generator that depends on nothing but `key`."""
    digest = hashlib.md5("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def plan_speakers(*, hours: float, seed: int) -> list[Speaker]:
    """All speakers of a corpus; fewer where `hours` would give a speaker less than about three utterances.

    Raises:
        ValueError: `hours` is not positive.
    """
    if not hours > 0:
        raise ValueError(f"hours must be positive, got {hours}")
    rng = generator(seed, "speakers")
    variants = list(rng.permutation(VARIANTS))
    speakers = []
    for split_index, (split, (share, most)) in enumerate(SPLITS.items()):
        seconds = 3600 * hours * share
        count = int(np.clip(seconds // 9, 1, most))
        for index in range(most):
            speaker = Speaker(
                number=1000 * (split_index + 1) + index,
                split=split,
                voice=f"{rng.choice(espeak.ACCENTS)}+{variants.pop()}",
                rate=int(rng.integers(100, 175)),
                pitch=int(rng.integers(25, 75)),
                pitch_range=int(rng.integers(25, 75)),
                word_gap=int(rng.choice([0, 0, 1, 3, 5])),
                tract=float(rng.uniform(0.92, 1.08)),
                seconds=seconds / count,
            )
            if index < count:
                speakers.append(speaker)
    return speakers


def sentence(rng: np.random.Generator) -> list[str]:
    """3 to 8 words of a small language of commands and numbers; a comma after a word asks for a pause."""

    def pick(words):
        return str(rng.choice(words))

    def digits(least, most):
        return [pick(DIGITS) for _ in range(rng.integers(least, most + 1))]

    kind = rng.integers(4)
    if kind == 0:
        words = ["call", *digits(3, 5)]
    elif kind == 1:
        words = ["go", pick(_DIRECTIONS), *digits(1, 3)]
    else:
        words = digits(3, 6)
    before, after = rng.random(2)
    if before < 0.25:
        words = [pick(["yes,", "no,", "please,", "please"]), *words]  # "no one" without a pause is one word to eSpeak
    if after < 0.2:
        words = [*words, pick(["please", "stop"])]
    return words


def utterances(speaker: Speaker, *, seed: int) -> Iterator[tuple[str, np.ndarray, str, list[tuple[str, float, float]]]]:
    """All that a speaker says: (utterance id, float64 [S] at 16 kHz, transcript, (word, start, end) in seconds).

    eSpeak's own state makes the samples depend on what was said before: call it first thing in a fresh process.
    """
    spoken, index = 0.0, 0
    while index == 0 or spoken + 1.5 < speaker.seconds:
        rng = generator(seed, speaker.split, speaker.number, index)
        words = sentence(rng)
        clean, times = espeak.engine().say(
            " ".join(words),
            voice=speaker.voice,
            rate=int(speaker.rate * rng.uniform(0.9, 1.1)),
            pitch=int(np.clip(speaker.pitch + rng.integers(-8, 9), 0, 99)),
            pitch_range=speaker.pitch_range,
            word_gap=speaker.word_gap,
        )
        # Played faster, all frequencies rise: a shorter vocal tract.
        size = round(len(clean) * SAMPLE_RATE / espeak.NATIVE_RATE / speaker.tract)
        stretch = size / SAMPLE_RATE / (len(clean) / espeak.NATIVE_RATE)
        speech = acoustics.resample(clean.astype(np.float64), num_samples=size)
        lead, trail = (int(SAMPLE_RATE * rng.uniform(0.15, 0.4)) for _ in range(2))
        waveform = _surroundings(np.pad(speech, (lead, trail)), rng=rng)
        offset = lead / SAMPLE_RATE
        aligned = [(word.upper(), offset + start * stretch, offset + end * stretch) for word, start, end in times]
        transcript = " ".join(word for word, _, _ in aligned)
        yield f"{speaker.number}-1-{index:04d}", waveform, transcript, aligned
        spoken += len(waveform) / SAMPLE_RATE
        index += 1


def _surroundings(speech: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """A room, a background and a microphone, all drawn by `rng`: float64 [S] -> [S]."""
    speech = acoustics.reverberate(
        speech,
        rt60_seconds=rng.uniform(0.1, 0.5),
        direct_to_reverb_db=rng.uniform(3, 15),
        sample_rate=SAMPLE_RATE,
        rng=rng,
    )
    colour = str(rng.choice(list(acoustics.NOISE_COLOURS)))
    noise = acoustics.coloured_noise(len(speech), colour=colour, sample_rate=SAMPLE_RATE, rng=rng)
    mixed = acoustics.mix(speech, noise, snr_db=rng.uniform(10, 30), level_db=rng.uniform(-30, -18))
    return acoustics.band_filter(
        mixed,
        low_hz=rng.uniform(50, 300),
        high_hz=rng.uniform(3400, 8000),
        tilt_db_per_octave=rng.uniform(-2, 2),
        sample_rate=SAMPLE_RATE,
    )


def write_speaker(speaker: Speaker, *, root: str | os.PathLike, work: str | os.PathLike, seed: int) -> dict[str, float]:
    """Writes one speaker in LibriSpeech layout below `root/SPLIT`, in one step; what is there already stays.

    Of an unlabelled split the transcripts go to `root/SPLIT-truth`. Word times wait in `work` for `join_alignments`.

    Returns:
        {"split", "utterances", "words", "seconds"}, kept in `work` for the next run as well.
    """
    import soundfile

    root, work = Path(root), Path(work)
    audio_home = root / speaker.split / str(speaker.number)
    truth_home = root / transcripts_of(speaker.split) / str(speaker.number)
    alignment_file = work / f"{speaker.split}-{speaker.number}.tsv"
    if not audio_home.exists():
        scratch = work / f"{speaker.number}.tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        audio, truth = scratch / "audio" / "1", scratch / "truth" / "1"
        audio.mkdir(parents=True)
        transcripts, alignments = [], []
        for name, waveform, transcript, words in utterances(speaker, seed=seed):
            pcm = np.clip(np.rint(waveform * 32768), -32768, 32767).astype(np.int16)
            soundfile.write(audio / f"{name}.flac", pcm, SAMPLE_RATE, subtype="PCM_16")
            transcripts.append(f"{name} {transcript}\n")
            alignments += [f"{name}\t{word}\t{start:.3f}\t{end:.3f}\n" for word, start, end in words]
        labelled = truth_home == audio_home
        if not labelled:
            truth.mkdir(parents=True)
        folder = audio if labelled else truth
        (folder / f"{speaker.number}-1.trans.txt").write_text("".join(transcripts))
        alignment_file.write_text("".join(alignments))
        if not labelled:
            shutil.rmtree(truth_home, ignore_errors=True)  # of a run that was killed between these renames
            truth_home.parent.mkdir(parents=True, exist_ok=True)
            truth.parent.rename(truth_home)
        audio_home.parent.mkdir(parents=True, exist_ok=True)
        audio.parent.rename(audio_home)
        shutil.rmtree(scratch)
    files = sorted(audio_home.glob("1/*.flac"))
    return {
        "split": speaker.split,
        "utterances": len(files),
        "words": len(alignment_file.read_text().splitlines()),
        "seconds": sum(soundfile.info(file).duration for file in files),
    }


def transcripts_of(split: str) -> str:
    """The folder that holds the transcripts and alignments of `split`."""
    return split + TRUTH_SUFFIX if split == UNLABELLED else split


def join_alignments(speakers: list[Speaker], *, root: str | os.PathLike, work: str | os.PathLike) -> None:
    """Writes `alignments.tsv` (utt, word, start_s, end_s) of each split from what its speakers left in `work`."""
    for split in SPLITS:
        parts = [Path(work) / f"{split}-{speaker.number}.tsv" for speaker in speakers if speaker.split == split]
        content = "utt\tword\tstart_s\tend_s\n" + "".join(part.read_text() for part in parts)
        (Path(root) / transcripts_of(split) / "alignments.tsv").write_text(content)
