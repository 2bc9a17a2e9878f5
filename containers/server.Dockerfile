# A model with its server, tensorflow/serving: one image that is what was tested. From the root of the checkout:
#
#   docker build -f containers/server.Dockerfile --build-arg MODEL=exported/student -t student:1 .
#   docker run -p 8500:8500 -p 8501:8501 student:1
#
# MODEL is a folder below the checkout that tf_rnnt_kd.export wrote, with its numbered versions. Where models change
# while the server runs, mount them instead: serving/compose.yaml.
FROM tensorflow/serving:2.17.0

ARG MODEL
COPY ${MODEL} /models/student
COPY serving/models.config serving/monitoring.config /config/

# Not root: the server reads its models and writes nothing.
USER 65534:65534
EXPOSE 8500 8501
# As serving/compose.yaml has it, which says why.
ENTRYPOINT ["tensorflow_model_server", "--port=8500", "--rest_api_port=8501", \
    "--model_config_file=/config/models.config", "--monitoring_config_file=/config/monitoring.config", \
    "--rest_api_timeout_in_ms=30000", "--xla_cpu_compilation_enabled"]
