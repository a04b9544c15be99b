# Everything that is installed is named in a lock file with its hash: the build tools, the dependencies, and nothing else.
# The base is pinned, too: whoever renews it takes the digest that `docker buildx imagetools inspect` prints for the tag.
ARG BASE=docker.io/library/python:3.13.14-slim-bookworm@sha256:67a1e1f215ccda113cfc024e8639049257e88f273898f595b61476d128d387e8
FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements-build.lock requirements.lock ./
RUN pip install --require-hashes -r requirements-build.lock
RUN pip wheel --require-hashes --no-build-isolation --wheel-dir /wheels -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY webhook webhook
COPY policies policies
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .
RUN python -m venv --without-pip /opt/forestall \
    && pip --python /opt/forestall/bin/python install --no-index --no-deps /wheels/*.whl

FROM ${BASE}
COPY --from=build /opt/forestall /opt/forestall
ENV PATH=/opt/forestall/bin:$PATH PYTHONDONTWRITEBYTECODE=1
# A number, so that Kubernetes' runAsNonRoot can tell. The root file system may be read-only: /dev/shm, which every
# container has, is all that is written to.
USER 65532:65532
WORKDIR /
EXPOSE 8443 8080
ENTRYPOINT ["/opt/forestall/bin/forestall"]
CMD ["--help"]
