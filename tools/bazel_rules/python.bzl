"""The Python of the checkout's virtual environment, with all packages in it, as Bazel's toolchain."""

_BUILD = """\
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

py_runtime(
    name = "runtime",
    interpreter_path = "{interpreter}",
    python_version = "PY3",
)

py_runtime_pair(
    name = "pair",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def _python_environment(context):
    checkout = context.path(Label("//:WORKSPACE")).dirname
    environment = context.os.environ.get("VENV", ".venv")
    if not environment.startswith("/"):
        environment = "{}/{}".format(checkout, environment)
    interpreter = environment + "/bin/python"
    if not context.path(interpreter).exists:
        fail("there is no {}: run `make venv`, or name another environment with VENV=DIR".format(interpreter))
    context.file("BUILD.bazel", _BUILD.format(interpreter = interpreter))

python_environment = repository_rule(
    implementation = _python_environment,
    environ = ["VENV"],
    local = True,
)
