"""Prints the text of audio files (FLAC, WAV, OGG; any sample rate), one line `file<TAB>text` each.

    python -m tf_rnnt_kd.transcribe --model=exported/student interview.flac notes.wav

Files that cannot be used are named on stderr, the others are still transcribed, and the exit code is 1.
"""

import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string(
        "model", None, "An exported model (tf_rnnt_kd.export), or a folder of its versions.", **add
    )
    flags.DEFINE_integer("batch_size", 8, "Files at once.", lower_bound=1, **add)


def _transcribe(paths: list[str]) -> int:
    command_line.require(FLAGS, {"model=DIR": "an exported model (python -m tf_rnnt_kd.export makes one)"})
    if not paths:
        raise ValueError("name at least one audio file after the flags")
    command_line.require_paths(FLAGS, ("model",))

    # Here, so that --help and mistakes in flags answer at once.
    from tf_rnnt_kd.serving.local import LocalRecognizer
    from tf_rnnt_kd.speech.errors import AudioError

    failed = 0
    for path, result in LocalRecognizer(FLAGS.model).transcribe_files(paths, batch_size=FLAGS.batch_size):
        if isinstance(result, AudioError):
            failed = 1
            sys.stderr.write(f"{path}: {result.reason}: {result}\n")
        else:
            sys.stdout.write(f"{path}\t{result}\n")
            sys.stdout.flush()
    return failed


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_transcribe, define_flags, takes_arguments=True)


if __name__ == "__main__":
    main()
