# One image for everything: `worker` (the default), `flower`, `sandbox`, `batch submit` …
#
#   docker build -t sendcode .
#   docker build -t sendcode --secret id=pip,src="$HOME/.config/pip/pip.conf" .    own pip settings
#
# No HEALTHCHECK here: what "healthy" means depends on the command, see docker-compose.yml.
ARG IMAGE=python:3.11-slim

FROM ${IMAGE} AS build
WORKDIR /src
# Two environments: one with the build backend and pip, which stays behind, and the one that goes
# into the image, with neither.
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/build \
    && python3 -m venv --without-pip /opt/sendcode \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements/build.lock \
    && /opt/build/bin/pip --python /opt/sendcode/bin/python install --no-cache-dir \
        --require-hashes --no-deps -r requirements/runtime.lock
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/build/bin/pip --python /opt/sendcode/bin/python install --no-index --no-deps /dist/*.whl

FROM ${IMAGE}
# Nothing in it installs anything: no pip, neither its wheel that venv would take.
RUN python3 -m pip --version >/dev/null 2>&1 && python3 -m pip uninstall -y --root-user-action=ignore \
        pip setuptools wheel; \
    rm -rf "$(python3 -c 'import ensurepip; print(ensurepip.__path__[0])')" /usr/share/python-wheels
LABEL org.opencontainers.image.title="sendcode" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 sendcode \
    && useradd --uid 10001 --gid sendcode --home-dir /data --create-home sendcode
COPY --from=build /opt/sendcode /opt/sendcode
# Large files are read by way of the disk: where it runs, /tmp is memory.
ENV PATH="/opt/sendcode/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_STATE_HOME=/data \
    TMPDIR=/data
USER 10001:10001
WORKDIR /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["sendcode"]
CMD ["worker"]
