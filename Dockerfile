# The tag names an exact Python and Debian. Where your registry allows it, pin the digest as well
# (python:3.13.15-slim-trixie@sha256:...): a tag can be moved, a digest can't.
FROM python:3.13.15-slim-trixie AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

COPY requirements/build.txt requirements/run.txt requirements/
RUN python -m venv --without-pip /opt/ebaas-router \
    && pip --python /opt/ebaas-router/bin/python install --require-hashes --only-binary :all: -r requirements/run.txt \
    && pip install --require-hashes --only-binary :all: -r requirements/build.txt

COPY pyproject.toml README.md ./
COPY config/routes.yaml config/
COPY schemas schemas
COPY router router
RUN python -m hatchling build --target wheel --directory dist \
    && pip --python /opt/ebaas-router/bin/python install --no-index --no-deps dist/*.whl


FROM python:3.13.15-slim-trixie

# The image runs one program and installs nothing. A volume takes the owner of its folder here.
RUN pip uninstall --yes --root-user-action ignore pip \
    && install -d -o 10001 -g 10001 /var/lib/ebaas-router

COPY --from=build /opt/ebaas-router /opt/ebaas-router
COPY config/routes.yaml /etc/ebaas-router/

ENV PATH=/opt/ebaas-router/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    EBAAS_ROUTER_CONFIG=/etc/ebaas-router/routes.yaml \
    EBAAS_ROUTER_HOST=0.0.0.0

USER 10001:10001
WORKDIR /var/lib/ebaas-router
VOLUME /var/lib/ebaas-router
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["ebaas-router", "health"]

ENTRYPOINT ["ebaas-router"]
CMD ["serve"]
