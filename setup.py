"""Packaging: `pip install .`, and Beam's --setup_file."""

from setuptools import find_packages, setup

setup(
    name="tf-rnnt-kd",
    version="0.1.0",
    description="Knowledge distillation for RNN-T speech recognition at production scale, in TensorFlow and Beam",
    python_requires=">=3.10,<3.12",
    packages=find_packages(include=["tf_rnnt_kd", "tf_rnnt_kd.*", "beam_pipelines", "beam_pipelines.*"]),
    install_requires=[
        "tensorflow==2.17.1",
        "tensorflow-text==2.17.0",
        "tensorflow-io==0.37.1",
        "tensorflow-serving-api==2.17.1",
        "keras>=3.12.1,<=3.15.1",
        "apache-beam==2.72.0",
        "absl-py",
        "google-crc32c",
        "ml_collections",
        "sentencepiece==0.2.3",
        "jiwer",
        "matplotlib",
        "tqdm",
        "num2words",
        "soundfile",
        "webrtcvad-wheels==2.0.14.post1",
    ],
    extras_require={
        "gcp": ["apache-beam[gcp]==2.72.0"],
        "demo": ["espeakng-loader"],
        "serving": ["aiohttp", "grpcio", "prometheus-client", "requests"],
    },
    package_data={"tf_rnnt_kd.serving.server": ["page/*"]},
)
