# Two images of one application. serve (the default) answers requests and holds no training library; train prepares,
# trains, evaluates and exports. docs/containers.md shows both at work.
#
#   docker build -t shortlist .
#   docker build -t shortlist-train --target train .
#
# BASE_IMAGE: Debian's or one made from it, with a `python3.11` that can make virtual environments.
# PIP_INDEX_URL, PIP_EXTRA_INDEX_URL: where pip looks for packages, instead of and beside the public registry. For a
# train image without CUDA, let the second name PyTorch's index of CPU wheels.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS base
ENV PATH=/opt/shortlist/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    SHORTLIST_DATA_DIR=/data
# a number in USER below, so that Kubernetes can see that it is not root
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin shortlist \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data
WORKDIR /data

# The libraries of the service, in an environment without pip: the pip that fills it stays in this stage.
FROM base AS libraries
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
RUN python3.11 -m venv /opt/pip && python3.11 -m venv --without-pip /opt/shortlist
COPY pyproject.toml constraints.txt ./
# no package is here yet: this layer has the libraries alone, and is made again only when they change
RUN touch README.md \
    && /opt/pip/bin/pip --python /opt/shortlist/bin/python install --no-cache-dir -c constraints.txt .

FROM libraries AS train-libraries
# again, since not every builder hands them on
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN /opt/pip/bin/pip --python /opt/shortlist/bin/python install --no-cache-dir -c constraints.txt '.[train,demo]'

# The compiler that makes the wheel's extension stays in this stage. Debian's own Python has its headers in a package.
FROM libraries AS wheel
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
        $(test -e "$(python3.11 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || echo python3.11-dev) \
    && rm -rf /var/lib/apt/lists/*
COPY . .
# an installation does without the extension where it must; an image has no reason to
RUN /opt/pip/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && python3.11 -m zipfile --list /wheels/*.whl | grep --quiet 'models/contract/kernels/compiled.*\.so'

FROM train-libraries AS train-build
COPY --from=wheel /wheels /wheels
RUN /opt/pip/bin/pip --python /opt/shortlist/bin/python install --no-cache-dir --no-deps --force-reinstall /wheels/*.whl

FROM libraries AS serve-build
COPY --from=wheel /wheels /wheels
RUN /opt/pip/bin/pip --python /opt/shortlist/bin/python install --no-cache-dir --no-deps --force-reinstall /wheels/*.whl

FROM base AS train
COPY --from=train-build /opt/shortlist /opt/shortlist
USER 10001:10001
VOLUME /data
ENTRYPOINT ["shortlist"]
CMD ["--help"]

FROM base AS serve
# beyond loopback the service refuses to start without SHORTLIST_API_KEYS or SHORTLIST_INSECURE=true
ENV SHORTLIST_HOST=0.0.0.0 \
    SHORTLIST_PORT=8000
COPY --from=serve-build /opt/shortlist /opt/shortlist
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"SHORTLIST_PORT\"]}/livez', timeout=2)"]
# The exec form: `shortlist serve` is process 1 and takes SIGTERM itself. It waits for every process it starts, and no
# other process is ever handed to it, so there is nothing for an init to do.
ENTRYPOINT ["shortlist"]
CMD ["serve"]
