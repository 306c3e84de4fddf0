# The relay: between a learner and the actors of a node or zone. Build it from the root of the
# repository:
#   docker build -f docker/relay.Dockerfile -t asyncade-relay .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Without torch and safetensors: a relay runs no network and reads no weights.
FROM ${PYTHON_IMAGE} AS relay
WORKDIR /build
RUN python -m venv --without-pip /opt/asyncade
COPY requirements.lock pyproject.toml docker/requirements.py ./
RUN python requirements.py --without torch safetensors > requirements.txt \
    && pip --python /opt/asyncade/bin/python install --no-cache-dir \
       --require-hashes -r requirements.txt \
    && python requirements.py build > build.txt \
    && pip --python /opt/asyncade/bin/python install --no-cache-dir --prefix /opt/build \
       --require-hashes -r build.txt
COPY . .
RUN PYTHONPATH=$(echo /opt/build/lib/python3.*/site-packages) \
    pip --python /opt/asyncade/bin/python install --no-cache-dir --no-build-isolation --no-deps .

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 asyncade \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /tmp \
       --shell /usr/sbin/nologin asyncade
COPY --from=relay /opt/asyncade /opt/asyncade
COPY docker/healthcheck.py /opt/asyncade/
ENV PATH=/opt/asyncade/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ASYNCADE_RELAY_UPSTREAM_ADDRESS=tcp://*:5557 \
    ASYNCADE_RELAY_WEIGHTS_ADDRESS=tcp://*:5558 \
    ASYNCADE_RELAY_METRICS_HOST=::
USER 10001:10001
EXPOSE 5557 5558 9103
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=5 \
    CMD ["python", "-IS", "/opt/asyncade/healthcheck.py", "9103"]
ENTRYPOINT ["asyncade-relay"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Asyncade relay" \
      org.opencontainers.image.description="Relays messages between an Asyncade learner and the actors of a node" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
