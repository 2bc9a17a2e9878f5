"""A client of TensorFlow Serving, and of tf_rnnt_kd.serving.server, for exported models.

    python -m tf_rnnt_kd.serving.client FILE... | FOLDER...  [--server=HOST:PORT] [--protocol=grpc|rest] [--stream]

`connections.connect` reaches a server, `recognition.recognise` and `recognition.stream` speak to it;
docs/serving/server.md is their book.
"""
