# The actor: plays games with the learner's weights. Build it from the root of the repository:
#   docker build -f docker/actor.Dockerfile -t asyncade-actor .
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

# The actor's own dependencies, and the code.
FROM common AS actor
RUN python requirements.py actor watch > actor.txt \
    && pip --python /opt/asyncade/bin/python install --no-cache-dir --prefix /opt/actor \
       --require-hashes -r actor.txt \
    && python requirements.py build > build.txt \
    && pip --python /opt/asyncade/bin/python install --no-cache-dir --prefix /opt/build \
       --require-hashes -r build.txt
COPY . .
RUN PYTHONPATH=$(echo /opt/build/lib/python3.*/site-packages) \
    pip --python /opt/asyncade/bin/python install --no-cache-dir --no-build-isolation --no-deps \
    --prefix /opt/actor .

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 asyncade \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /tmp \
       --shell /usr/sbin/nologin asyncade
COPY --from=common /opt/asyncade /opt/asyncade
COPY --from=actor /opt/actor /opt/asyncade
COPY docker/healthcheck.py /opt/asyncade/
ENV PATH=/opt/asyncade/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ASYNCADE_ACTOR_METRICS_HOST=::
USER 10001:10001
EXPOSE 9102
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=5 \
    CMD ["python", "-IS", "/opt/asyncade/healthcheck.py", "9102"]
ENTRYPOINT ["asyncade-actor"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Asyncade actor" \
      org.opencontainers.image.description="Plays Atari games for an Asyncade learner" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT AND GPL-2.0-only"
