# The learner: trains on the actors' messages. Build it from the root of the repository:
#   docker build -f docker/learner.Dockerfile -t asyncade-learner .
# --build-arg TORCH=torch==2.13.0 installs the platform's own build of torch, for a GPU.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Dependencies of both services. The other Dockerfile has the same lines, so Docker builds and stores
# this stage once.
FROM ${PYTHON_IMAGE} AS common
# The CPU build if pip finds one: TORCH_INDEX is the package index that has it (PyTorch's
# "Get started" page lists it). Otherwise the platform's own build, which on Linux includes
# gigabytes of CUDA.
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_ELSE=torch==2.13.0
ARG TORCH_INDEX=
WORKDIR /build
RUN python -m venv --without-pip /opt/asyncade
COPY constraints.txt requirements.lock docker/requirements.py ./
# torch alone comes without hashes: its builds have one version, but other files in other indexes.
# What it needs is locked.
RUN python requirements.py --below torch > torch.txt \
    && pip --python /opt/asyncade/bin/python install --no-cache-dir --require-hashes -r torch.txt
RUN install="pip --python /opt/asyncade/bin/python install --no-cache-dir -c constraints.txt"; \
    $install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$TORCH" \
    || { echo "pip finds no $TORCH; taking $TORCH_ELSE" >&2; $install "$TORCH_ELSE"; }
COPY pyproject.toml docker/leave_out.sh ./
RUN python requirements.py --without torch > requirements.txt \
    && pip --python /opt/asyncade/bin/python install --no-cache-dir \
       --require-hashes -r requirements.txt \
    && ./leave_out.sh /opt/asyncade

# The learner's own dependencies, and the code.
FROM common AS learner
RUN python requirements.py learner > learner.txt \
    && pip --python /opt/asyncade/bin/python install --no-cache-dir --prefix /opt/learner \
       --require-hashes -r learner.txt \
    && python requirements.py build > build.txt \
    && pip --python /opt/asyncade/bin/python install --no-cache-dir --prefix /opt/build \
       --require-hashes -r build.txt
COPY . .
RUN PYTHONPATH=$(echo /opt/build/lib/python3.*/site-packages) \
    pip --python /opt/asyncade/bin/python install --no-cache-dir --no-build-isolation --no-deps \
    --prefix /opt/learner .

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 asyncade \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /tmp \
       --shell /usr/sbin/nologin asyncade
COPY --from=common /opt/asyncade /opt/asyncade
COPY --from=learner /opt/learner /opt/asyncade
COPY docker/healthcheck.py /opt/asyncade/
# A new volume inherits the owner of the folder it is mounted on.
RUN install --directory --owner=10001 --group=10001 /runs /keys/learner /keys/actor
ENV PATH=/opt/asyncade/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ASYNCADE_LEARNER_RUN_DIR=/runs/learner \
    ASYNCADE_LEARNER_UPSTREAM_ADDRESS=tcp://*:5555 \
    ASYNCADE_LEARNER_WEIGHTS_ADDRESS=tcp://*:5556 \
    ASYNCADE_LEARNER_METRICS_HOST=::
USER 10001:10001
VOLUME /runs
EXPOSE 5555 5556 9101
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=5 \
    CMD ["python", "-IS", "/opt/asyncade/healthcheck.py", "9101"]
ENTRYPOINT ["asyncade-learner"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Asyncade learner" \
      org.opencontainers.image.description="Trains on the messages of Asyncade actors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
