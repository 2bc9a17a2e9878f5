"""Fits the calibration of a model's word confidences on a result of its evaluation.

    python -m tf_rnnt_kd.evaluate --model=exported/student --records=run/records --split=dev --json=dev.json
    python -m tf_rnnt_kd.calibrate --result=dev.json --output=calibration.json --test_results=test.json

The file goes to `python -m tf_rnnt_kd.export --calibration`, or to `python -m tf_rnnt_kd.evaluate --calibration` of a
model that was exported without. Fit on dev: on the test set a calibration would look better than it is. --test_results,
results of other utterances, only says how good it is there.
"""

import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("result", None, "JSON file of tf_rnnt_kd.evaluate.", **add)
    flags.DEFINE_string("output", None, "JSON file to write.", **add)
    flags.DEFINE_list("test_results", [], "Results of the same model on other utterances.", **add)
    flags.DEFINE_enum("method", "platt", ("platt", "temperature"), "Fit scale and offset, or the scale alone.", **add)


def _calibrate() -> None:
    required = {"result=FILE": "a result of tf_rnnt_kd.evaluate on dev", "output=FILE": "the file to write"}
    command_line.require(FLAGS, required)
    command_line.require_paths(FLAGS, ("result", "test_results"))

    # Here, so that --help and mistakes in flags answer at once.
    from tf_rnnt_kd.evaluation import calibration, confidence
    from tf_rnnt_kd.evaluation.results import Result

    results = [Result.load(path) for path in (FLAGS.result, *FLAGS.test_results)]
    for path, result in zip((FLAGS.result, *FLAGS.test_results), results, strict=True):
        if result.confidence is None:
            raise ValueError(f"{path} has no confidences of words: evaluate again, a model that gives them")
    sure, correct = confidence.words_of(results[0].per_utterance)
    fitted = calibration.fit(sure, correct=correct, method=FLAGS.method)
    fitted.save(
        FLAGS.output, method=FLAGS.method, words=len(sure), fitted_on=results[0].split, system=results[0].system
    )
    sys.stdout.write(f"{FLAGS.output}: scale {fitted.scale:.4f}, offset {fitted.offset:.4f}\n")
    for result in results:
        before, after = (confidence.of_rows(result.per_utterance, calibration=c) for c in (None, fitted))
        if before is None or after is None:
            raise ValueError(f"the result on {result.split} has no words with a confidence: leave it out")
        sys.stdout.write(
            f"{result.split}: {before['words']} words, {100 * before['accuracy']:.1f} % right; expected calibration "
            f"error {100 * before['ece']:.2f} % -> {100 * after['ece']:.2f} %, normalised cross entropy "
            f"{_number(before['nce'])} -> {_number(after['nce'])}\n"
        )


def _number(value):
    return "-" if value is None else f"{value:.3f}"


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_calibrate, define_flags)


if __name__ == "__main__":
    main()
