"""Apache Beam pipelines: corpus preparation and pseudo-labelling."""
