"""Prints the text of audio files (FLAC, WAV, OGG; any sample rate), one line `file<TAB>text` each.

    python -m tf_rnnt_kd.transcribe --saved_model=exported/student interview.flac notes.wav

Files that cannot be used are named on stderr, the others are still transcribed, and the exit code is 1.
"""

import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
flags.DEFINE_string("saved_model", None, "An exported model (tf_rnnt_kd.export), or a folder of its versions.")
flags.DEFINE_integer("batch_size", 8, "Files at once.", lower_bound=1)


def _transcribe(paths: list[str]) -> int:
    command_line.require(FLAGS, {"saved_model=DIR": "an exported model (python -m tf_rnnt_kd.export makes one)"})
    if not paths:
        raise ValueError("name at least one audio file after the flags")

    # Here, so that --help and mistakes in flags answer at once.
    from tf_rnnt_kd.serving.local import LocalRecognizer
    from tf_rnnt_kd.speech.errors import AudioError

    failed = 0
    for path, result in LocalRecognizer(FLAGS.saved_model).transcribe_files(paths, batch_size=FLAGS.batch_size):
        if isinstance(result, AudioError):
            failed = 1
            sys.stderr.write(f"{path}: {result.reason}: {result}\n")
        else:
            sys.stdout.write(f"{path}\t{result}\n")
            sys.stdout.flush()
    return failed


if __name__ == "__main__":
    command_line.start(_transcribe, takes_arguments=True)
