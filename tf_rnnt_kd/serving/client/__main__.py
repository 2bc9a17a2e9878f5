"""Prints the text of audio files and folders by a served model, one line `file<TAB>text` each.

    python -m tf_rnnt_kd.serving.client interview.flac recordings/
    python -m tf_rnnt_kd.serving.client --stream --real_time notes.wav          # as if spoken into a microphone now
    python -m tf_rnnt_kd.serving.client --protocol=rest --server=localhost:8501 --name=student notes.wav

The server is python -m tf_rnnt_kd.serving.server or tensorflow/serving. With --stream the words appear on stderr as
they are found; with --details each line is an object with words, times and confidences. Files that cannot be used, or
that the server refuses, are named on stderr, the others are still transcribed, and the exit code is 1.
"""

import json
import pathlib
import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
_SUFFIXES = {".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav"}


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string(
        "server", None, "HOST:PORT; localhost:8500 for grpc and localhost:8501 for rest if not given.", **add
    )
    flags.DEFINE_enum("protocol", "grpc", ["grpc", "rest"], "How to speak with it.", **add)
    flags.DEFINE_string("name", "student", "Name under which the server has the model.", **add)
    flags.DEFINE_integer("version", None, "Of the model; the newest if not given.", lower_bound=0, **add)
    flags.DEFINE_bool("stream", False, "Send pieces and show the words as they come, on stderr.", **add)
    flags.DEFINE_bool("real_time", False, "With --stream: send each piece when a microphone would have it.", **add)
    flags.DEFINE_integer(
        "chunk_samples", 2560, "Of a piece; a multiple of chunk_samples in the model's metadata.json.", lower_bound=1,
        **add,
    )
    flags.DEFINE_integer(
        "sample_rate", 16000, "Of the model, Hz; files of other rates are resampled.", lower_bound=1, **add
    )
    flags.DEFINE_bool("details", False, "Print objects with words, times and confidences.", **add)
    flags.DEFINE_float("timeout_seconds", 60.0, "That a call may take.", lower_bound=0.001, **add)


def _transcribe(arguments: list[str]) -> int:
    if not arguments:
        raise ValueError("name at least one audio file or folder after the flags")
    if FLAGS.real_time and not FLAGS.stream:
        raise ValueError("--real_time goes with --stream")
    paths = _files(arguments)

    # Here, so that mistakes in flags answer at once.
    from tf_rnnt_kd.serving.client.connections import ClientError, connect
    from tf_rnnt_kd.speech.audio import decode_audio
    from tf_rnnt_kd.speech.errors import AudioError

    server = FLAGS.server or {"grpc": "localhost:8500", "rest": "localhost:8501"}[FLAGS.protocol]
    connection = connect(
        server, protocol=FLAGS.protocol, model=FLAGS.name, version=FLAGS.version, seconds=FLAGS.timeout_seconds
    )
    failed = 0
    for path in paths:
        try:
            result = _result(connection, decode_audio(path, target_rate=FLAGS.sample_rate))
        except AudioError as error:
            failed = 1
            sys.stderr.write(f"{path}: {error.reason}: {error}\n")
            continue
        except ClientError as error:
            if not error.of_this_request:
                raise
            failed = 1
            sys.stderr.write(f"{path}: {error}\n")
            continue
        line = f"{path}\t{result['text']}"
        if FLAGS.details:
            line = json.dumps({"file": path, **result}, ensure_ascii=False)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    connection.close()
    return failed


def _result(connection, waveform):
    """The dictionary of `recognise`; of a stream with the latencies of its steps."""
    from tf_rnnt_kd.serving.client.recognition import recognise, stream

    if not FLAGS.stream:
        return recognise(connection, waveform)
    *steps, result = _shown(
        stream(
            connection, waveform, chunk_samples=FLAGS.chunk_samples, sample_rate=FLAGS.sample_rate,
            real_time=FLAGS.real_time,
        )  # fmt: skip
    )
    return {**result, "step_latency_seconds": [round(step.latency_seconds, 4) for step in steps]}


def _shown(events):
    """Passes on a stream's events, and shows texts that are new."""
    shown = ""
    for event in events:
        text = event["text"] if isinstance(event, dict) else event.text
        if text != shown:
            seconds = "      end" if isinstance(event, dict) else f"{event.audio_seconds:7.2f} s"
            sys.stderr.write(f"{seconds}  {text}\n")
            shown = text
        if not isinstance(event, dict) and event.is_endpoint:
            sys.stderr.write(f"{event.audio_seconds:7.2f} s  (end of speech)\n")
        yield event


def _files(arguments):
    """Files as they are, and the audio files in folders, by name."""
    found = []
    for argument in arguments:
        folder = pathlib.Path(argument)
        if not folder.is_dir():
            found.append(argument)
            continue
        inside = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
        if not inside:
            raise ValueError(f"{argument} has no audio files ({', '.join(sorted(_SUFFIXES))})")
        found += inside
    return found


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_transcribe, define_flags, takes_arguments=True)


if __name__ == "__main__":
    main()
