# Worker of the Beam pipelines, for Dataflow and for the worker pools of Flink. From the root of the checkout:
#
#   docker build -f containers/worker.Dockerfile -t IMAGE .
#   docker build -f containers/worker.Dockerfile --build-arg GPU=1 -t IMAGE-gpu .
#
# docs/how_to/dataflow.md says how jobs name it. The version of Beam must be that of the machine that submits the job.
ARG BEAM_VERSION=2.72.0
FROM apache/beam_python3.11_sdk:${BEAM_VERSION}

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

# What cannot be imported should fail here, and not on a thousand workers.
ENV TF_CPP_MIN_LOG_LEVEL=2
RUN python -c "import tensorflow, tensorflow_io, beam_pipelines.labelling, beam_pipelines.corpus"

# The entry point stays Beam's: /opt/apache/beam/boot
