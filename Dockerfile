# The tag says what it is, the digest which: of all processors at once. `make base` renews the digest.
ARG BASE=docker.io/library/python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${BASE} AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# run, or otel: what is needed besides for traces.
ARG LOCK=run
# 1: the compiled wheel. Empty: the one of pure Python, which needs no C compiler.
ARG COMPILED=1
COPY requirements/compile.txt requirements/${LOCK}.txt requirements/
RUN python -m venv --without-pip /opt/ebaas-router \
    && pip --python /opt/ebaas-router/bin/python install --require-hashes --only-binary :all: -r "requirements/${LOCK}.txt" \
    && pip install --require-hashes --only-binary :all: -r requirements/compile.txt
# Only this stage has them, so their versions change nothing that runs.
# hadolint ignore=DL3008
RUN if [ -n "${COMPILED}" ]; then \
        apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi

COPY pyproject.toml README.md hatch_build.py ./
COPY config/routes.yaml config/
COPY schemas schemas
COPY router router
# Below /router: what changes with each commit is no part of the layer of the dependencies.
RUN HATCH_BUILD_HOOK_ENABLE_CUSTOM="${COMPILED}" python -m hatchling build --target wheel --directory dist \
    && pip --python /opt/ebaas-router/bin/python install --no-index --no-deps --root /router dist/*.whl


FROM ${BASE}

# The image runs one program and installs nothing. A volume takes the owner of its folder here.
RUN pip uninstall --yes --root-user-action ignore pip \
    && install -d -o 10001 -g 10001 -m 0750 /data

COPY --from=build /opt/ebaas-router /opt/ebaas-router
COPY --from=build /router/opt/ebaas-router /opt/ebaas-router

# Which addresses a container listens on is for its network to say: on 127.0.0.1 nobody could ask
# it for anything, its metrics included. Published is what whoever runs it publishes.
ENV PATH=/opt/ebaas-router/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    EBAAS_ROUTER_CONFIG=/etc/ebaas-router/routes.yaml \
    EBAAS_ROUTER_STORE=/data/ebaas-router.db \
    EBAAS_ROUTER_HOST=0.0.0.0 \
    EBAAS_ROUTER_OPS_HOST=0.0.0.0 \
    EBAAS_ROUTER_LOG_FORMAT=json

USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["ebaas-router", "health"]

ENTRYPOINT ["ebaas-router"]
CMD ["serve"]

ARG BASE
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
# Whoever publishes the image says where its source is: --label org.opencontainers.image.source=URL.
LABEL org.opencontainers.image.title="ebaas-router" \
      org.opencontainers.image.description="Forwards EBaaS callbacks to every business endpoint that routes.yaml names." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="LicenseRef-Proprietary" \
      org.opencontainers.image.base.name="${BASE}"
