# An image for the nodes of a cluster, and for the command itself:  docker build -t your-registry/noisesweep:0.2.0 .
# Your own studies, networks and data: put them into jobs/ and models/ before, or see jobs/cluster/README.md.
# For GPUs: --build-arg EXTRAS=cloud,cluster,gpu
FROM python:3.11.14-slim-bookworm AS build
ARG EXTRAS=cloud,cluster
RUN python -m venv /opt/noisesweep
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY sweep sweep
RUN /opt/noisesweep/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt ".[${EXTRAS}]"

FROM python:3.11.14-slim-bookworm
# wget is what KubeRay's probes call.
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home sweep
COPY --from=build /opt/noisesweep /opt/noisesweep
ENV PATH=/opt/noisesweep/bin:$PATH RAY_USAGE_STATS_ENABLED=0
USER 1000
WORKDIR /home/sweep
COPY --chown=1000 jobs jobs
COPY --chown=1000 models models
CMD ["sweep", "--help"]
