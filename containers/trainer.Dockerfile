# Training, and every other program of the project. From the root of the checkout:
#
#   docker build -f containers/trainer.Dockerfile -t trainer .
#   docker build -f containers/trainer.Dockerfile --build-arg GPU=1 -t trainer-gpu .
#   docker run --gpus=all -v "$PWD/run:/data" trainer-gpu --strategy=mirrored --config=configs/demo.py:teacher \
#       --workdir=/data/teacher --train=/data/records:train-labeled --dev=/data/records:dev \
#       --tokenizer=/data/tokenizer
#
# Another program: docker run --entrypoint=rnnt-kd-evaluate ... The process is number 1 of its container and takes
# SIGTERM as a wish to save its step and stop (docs/training/faults.md); exit status 75 says that it did.
FROM python:3.11.11-slim-bookworm

WORKDIR /opt/tf-rnnt-kd

# First what seldom changes: a new version of our code leaves these layers alone.
COPY requirements/python3.11.lock requirements/
RUN pip install --no-cache-dir --no-deps -r requirements/python3.11.lock

# CUDA and cuDNN of TensorFlow's own choice; the driver comes from the machine.
ARG GPU=0
ARG TENSORFLOW_VERSION=2.17.1
RUN if [ "${GPU}" = 1 ]; then pip install --no-cache-dir "tensorflow[and-cuda]==${TENSORFLOW_VERSION}"; fi

COPY setup.py pyproject.toml README.md LICENSE ./
COPY configs configs
COPY tf_rnnt_kd tf_rnnt_kd
COPY beam_pipelines beam_pipelines
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

# What cannot be imported should fail here, and not on the machine with the accelerators.
ENV TF_CPP_MIN_LOG_LEVEL=2
RUN python -c "import tensorflow, tensorflow_io, tf_rnnt_kd.training.trainer" && rnnt-kd-train --help

# Not root: what it writes to a mounted folder belongs to user 1000; `docker run --user` names another.
RUN useradd --create-home --uid 1000 trainer
USER 1000
WORKDIR /home/trainer
ENTRYPOINT ["rnnt-kd-train"]
